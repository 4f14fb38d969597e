"""A solver beside the loop: never blocks, is killed at its limit, leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TypeVar

import pytest

from scheduler.decision import Decision
from scheduler.planning import Planned, Planning, Question
from scheduler.snapshot import Snapshot
from scheduler.solver_tasks import MOST_GPUS_IN_LOOP, PLACE, PLAN, placed_simply
from scheduler.solver_worker import SolverWorker
from scheduler.verify import verify
from tests.builders import NOW, gpus, job, prices, running, snapshot

PATIENCE_S = 60.0
Answer = TypeVar("Answer")


@pytest.fixture(scope="module")
def places() -> Iterator[SolverWorker[Decision]]:
    with closing(SolverWorker(PLACE, time_limit_s=5.0)) as started:
        yield started


@pytest.fixture(scope="module")
def plans() -> Iterator[SolverWorker[Planning]]:
    with closing(SolverWorker(PLAN, time_limit_s=5.0)) as started:
        yield started


def answer(worker: SolverWorker[Answer]) -> Answer:
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        found = worker.poll()
        if found is not None:
            return found
        time.sleep(0.005)
    pytest.fail("no answer")


def asked(picture: Snapshot, last: Planned | None = None, *, awaits_plan: bool = False) -> Question:
    return Question(snapshot=picture, last=last, awaits_plan=awaits_plan, plan_every_s=300.0)


def world(count: int = 2) -> Question:
    return asked(snapshot(gpus(count), *(job(f"job_{i}") for i in range(count))))


def cheap_at_two() -> Snapshot:
    """A job of one hour that can wait, and prices that say until when."""
    row = prices("60 50 10 20 80 90")
    waits = job("job_a", pausable=True, deadline_h=6.0, estimate_s=3600.0)
    return snapshot(gpus(1), waits, prices=row, price=row.at(NOW))


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_answers_once_with_the_solvers_decision(places: SolverWorker[Decision]) -> None:
    assert places.poll() is None
    places.submit(world())
    decision = answer(places)
    assert len(decision.starts) == 2
    assert decision.certificates[0].fallback is None
    assert places.poll() is None
    assert not places.busy


def test_neither_submit_nor_poll_blocks_with_a_snapshot_larger_than_a_pipe(
    places: SolverWorker[Decision],
) -> None:
    large = snapshot(gpus(8), *(job(f"job_{i:04}", labels={"x": "y" * 500}) for i in range(400)))
    began_s = time.monotonic()
    places.submit(asked(large))
    places.poll()
    assert time.monotonic() - began_s < 1.0
    assert len(answer(places).starts) == 8


def test_a_newer_question_waits_its_turn_and_the_newest_wins(places: SolverWorker[Decision]) -> None:
    for count in (1, 2, 3):
        places.submit(world(count))
    assert len(answer(places).starts) == 1
    assert len(answer(places).starts) == 3
    assert not places.busy


def test_a_plan_holds_a_job_back_for_its_cheap_window(
    places: SolverWorker[Decision], plans: SolverWorker[Planning]
) -> None:
    plans.submit(asked(cheap_at_two()))
    planned = answer(plans).planned
    assert planned is not None
    assert planned.plan.jobs["job_a"].planned_start is not None
    places.submit(asked(cheap_at_two(), planned))
    decision = answer(places)
    assert decision.starts == ()
    assert [wait.detail[:26] for wait in decision.waits] == ["waits for 10.00/MWh at 202"]


def test_a_plan_that_still_serves_is_not_made_again(plans: SolverWorker[Planning]) -> None:
    plans.submit(asked(cheap_at_two()))
    planned = answer(plans).planned
    plans.submit(asked(cheap_at_two(), planned))
    assert answer(plans) == Planning()


def test_a_job_that_no_plan_has_seen_waits_for_the_one_in_the_making(
    places: SolverWorker[Decision],
) -> None:
    places.submit(asked(cheap_at_two(), awaits_plan=True))
    decision = answer(places)
    assert decision.starts == ()
    assert [(wait.job_id, wait.detail) for wait in decision.waits] == [
        ("job_a", "its window is being planned")
    ]
    places.submit(asked(cheap_at_two(), awaits_plan=False))  # nobody makes one: it need not wait
    assert len(answer(places).starts) == 1


def test_a_killed_child_is_replaced_and_greedy_stands_in(places: SolverWorker[Decision]) -> None:
    before = places.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    places.submit(world())
    decision = answer(places)
    assert len(decision.starts) == 2
    assert decision.certificates[0].fallback == "greedy: solver ended with exit code -9"
    assert places.pid != before
    assert gone(before)
    places.submit(world())
    assert answer(places).certificates[0].fallback is None


def test_a_killed_planner_leaves_the_last_plan_which_says_so(plans: SolverWorker[Planning]) -> None:
    plans.submit(asked(cheap_at_two()))
    last = answer(plans).planned
    assert last is not None
    assert plans.pid is not None
    os.kill(plans.pid, signal.SIGKILL)
    plans.submit(asked(cheap_at_two(), last))
    kept = answer(plans)
    assert kept.failed
    assert kept.planned is not None
    assert kept.planned.basis == last.basis
    assert (kept.planned.plan.jobs, kept.planned.plan.made_at) == (last.plan.jobs, last.plan.made_at)
    assert kept.planned.plan.certificate.fallback == "last plan: solver ended with exit code -9"


def test_a_child_that_overruns_is_killed_at_its_limit() -> None:
    with closing(SolverWorker(PLACE, time_limit_s=0.2, grace_s=0.3)) as impatient:
        impatient.submit(world(1))
        answer(impatient)  # it is warm now
        stuck = impatient.pid
        assert stuck is not None
        os.kill(stuck, signal.SIGSTOP)
        began_s = time.monotonic()
        question = world(2)
        impatient.submit(question)
        decision = answer(impatient)
        assert time.monotonic() - began_s < 5.0
        assert decision.certificates[0].fallback == "greedy: solver killed at its time limit"
        assert len(decision.starts) == 2
        kept, refused = verify(decision, question.snapshot)
        assert (kept.starts, len(refused)) == (decision.starts, 0)
        assert gone(stuck)


def test_on_a_large_site_nothing_is_placed_in_the_loop_itself() -> None:
    stays = running(job("job_r"), 0)
    decision = placed_simply(asked(snapshot(gpus(MOST_GPUS_IN_LOOP + 1), stays, job("job_b"))), "too late")
    certificate = decision.certificates[0]
    assert decision == Decision(certificates=(certificate,))
    assert certificate.fallback == "nothing placed: too late, and 2001 GPUs are too many for the loop itself"
    assert certificate.bound == float("inf")


def test_close_leaves_no_process_and_may_be_called_twice() -> None:
    started = SolverWorker(PLACE, time_limit_s=1.0)
    pid = started.pid
    assert pid is not None
    started.submit(world())
    started.close()
    started.close()
    assert gone(pid)
    assert started.poll() is None

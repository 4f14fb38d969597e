"""The solver beside the loop: never blocks, is killed at its limit, leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from scheduler.decision import Decision
from scheduler.snapshot import Snapshot
from scheduler.solver_worker import SolverWorker
from tests.builders import NOW, gpus, job, prices, snapshot

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def worker() -> Iterator[SolverWorker]:
    with closing(SolverWorker(time_limit_s=5.0)) as started:
        yield started


def answer(worker: SolverWorker) -> Decision:
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        decision = worker.poll()
        if decision is not None:
            return decision
        time.sleep(0.005)
    pytest.fail("no answer")


def world(count: int = 2) -> Snapshot:
    return snapshot(gpus(count), *(job(f"job_{i}") for i in range(count)))


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_answers_once_with_the_solvers_decision(worker: SolverWorker) -> None:
    assert worker.poll() is None
    worker.submit("place", world())
    decision = answer(worker)
    assert len(decision.starts) == 2
    assert decision.certificates[0].fallback is None
    assert worker.poll() is None
    assert not worker.busy


def test_neither_submit_nor_poll_blocks_with_a_snapshot_larger_than_a_pipe(worker: SolverWorker) -> None:
    large = snapshot(gpus(8), *(job(f"job_{i:04}", labels={"x": "y" * 500}) for i in range(400)))
    began_s = time.monotonic()
    worker.submit("place", large)
    worker.poll()
    assert time.monotonic() - began_s < 1.0
    assert len(answer(worker).starts) == 8


def test_a_newer_question_waits_its_turn_and_the_newest_wins(worker: SolverWorker) -> None:
    worker.submit("place", world(1))
    worker.submit("place", world(2))
    worker.submit("place", world(3))
    assert len(answer(worker).starts) == 1
    assert len(answer(worker).starts) == 3
    assert not worker.busy


def test_it_plans_before_it_places_where_work_can_wait(worker: SolverWorker) -> None:
    waits = job("job_a", pausable=True, deadline_h=6.0, estimate_s=3600.0)
    row = prices("60 50 10 20 80 90")
    worker.submit("place", snapshot(gpus(1), waits, prices=row, price=row.at(NOW)))
    decision = answer(worker)
    assert decision.starts == ()
    assert [c.step for c in decision.certificates] == ["plan", "place"]
    assert decision.waits[0].detail.startswith("waits for 10.00/MWh")


def test_an_unknown_kind_is_refused(worker: SolverWorker) -> None:
    with pytest.raises(ValueError, match="place"):
        worker.submit("dream", world())


def test_a_killed_child_is_replaced_and_greedy_stands_in(worker: SolverWorker) -> None:
    before = worker.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    worker.submit("place", world())
    decision = answer(worker)
    assert len(decision.starts) == 2
    assert decision.certificates[0].fallback == "greedy: solver ended with exit code -9"
    assert worker.pid != before
    assert gone(before)
    worker.submit("place", world())
    assert answer(worker).certificates[0].fallback is None


def test_a_child_that_overruns_is_killed_at_its_limit(worker: SolverWorker) -> None:
    with closing(SolverWorker(time_limit_s=0.2, grace_s=0.3)) as impatient:
        impatient.submit("place", world(1))
        answer(impatient)  # it is warm now
        stuck = impatient.pid
        assert stuck is not None
        os.kill(stuck, signal.SIGSTOP)
        began_s = time.monotonic()
        impatient.submit("place", world(2))
        decision = answer(impatient)
        assert time.monotonic() - began_s < 5.0
        assert decision.certificates[0].fallback == "greedy: solver killed at its time limit"
        assert len(decision.starts) == 2
        assert gone(stuck)


def test_close_leaves_no_process_and_may_be_called_twice() -> None:
    started = SolverWorker(time_limit_s=1.0)
    pid = started.pid
    assert pid is not None
    started.submit("place", world())
    started.close()
    started.close()
    assert gone(pid)
    assert started.poll() is None

"""Plans and placements together: who is asked when, and what a failed planner costs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from scheduler.config import Control
from scheduler.decision import Decision
from scheduler.snapshot import Snapshot
from scheduler.solvers import Solvers
from tests.builders import NOW, gpus, job, prices, snapshot

PATIENCE_S = 60.0


@pytest.fixture
def solvers() -> Iterator[Solvers]:
    with closing(Solvers(Control(solver_time_limit_s=5.0, plan_time_limit_s=5.0))) as started:
        yield started


def picture(*names: str, minutes: float = 0.0) -> Snapshot:
    """Jobs of an hour that can wait; the cheap hour is two hours away."""
    row = prices("60 50 10 20 80 90")
    jobs = (job(name, pausable=True, deadline_h=6.0, estimate_s=3600.0) for name in names)
    made = snapshot(gpus(4), *jobs, prices=row, price=row.at(NOW))
    return replace(made, now=NOW + timedelta(minutes=minutes))


def poll_until(solvers: Solvers, there: Callable[[], bool]) -> list[Decision]:
    """Every decision that came until then."""
    found = []
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        decision = solvers.poll()
        if decision is not None:
            found.append(decision)
        if there():
            return found
        time.sleep(0.005)
    pytest.fail("it never came")


def placed(solvers: Solvers, asked: Snapshot) -> Decision:
    """Ask, and wait for the placement."""
    found: list[Decision] = []
    solvers.submit(asked)
    until_s = time.monotonic() + PATIENCE_S
    while not found and time.monotonic() < until_s:
        found += [d for d in (solvers.poll(),) if d is not None]
        time.sleep(0.005)
    return found[0]


def test_a_new_plan_is_told_of_once_and_then_obeyed(solvers: Solvers) -> None:
    assert solvers.plan is None
    first = placed(solvers, picture("a"))
    assert first.starts == ()  # nobody has planned it yet, or the plan holds it back
    poll_until(solvers, lambda: solvers.plan is not None)
    plan = solvers.plan
    then = placed(solvers, picture("a"))
    told = [[c.step for c in d.certificates] for d in (first, then)]
    assert sorted(told) == [["place"], ["plan", "place"]]
    assert then.waits[0].detail.startswith("waits for 10.00/MWh")
    again = placed(solvers, picture("a"))
    assert [c.step for c in again.certificates] == ["place"]
    assert solvers.plan is plan


def test_a_stuck_planner_holds_up_no_placement(solvers: Solvers) -> None:
    placed(solvers, picture())  # both are up
    poll_until(solvers, lambda: not solvers.planning)
    assert solvers.planner_pid is not None
    os.kill(solvers.planner_pid, signal.SIGSTOP)
    now = picture("a")
    with_rigid = now.but(jobs=(*now.jobs, *snapshot(gpus(1), job("rigid")).jobs))
    for _ in range(2):
        decision = placed(solvers, with_rigid)
        assert [start.job_id for start in decision.starts] == ["rigid"]
    assert solvers.planning


def test_after_a_failure_jobs_start_without_a_plan_until_the_next_try(solvers: Solvers) -> None:
    placed(solvers, picture())
    poll_until(solvers, lambda: not solvers.planning)
    assert solvers.planner_pid is not None
    os.kill(solvers.planner_pid, signal.SIGKILL)
    placed(solvers, picture("a"))
    poll_until(solvers, lambda: solvers.plan is not None)
    assert solvers.plan is not None
    assert solvers.plan.certificate.fallback == "no plan: solver ended with exit code -9"
    soon = placed(solvers, picture("a", minutes=4.0))
    assert [start.job_id for start in soon.starts] == ["a"]
    later = picture("a", minutes=6.0)
    solvers.submit(later)
    poll_until(solvers, lambda: solvers.plan is not None and bool(solvers.plan.jobs))
    assert solvers.plan.certificate.fallback is None

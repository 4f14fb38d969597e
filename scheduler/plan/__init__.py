"""When deferrable work runs in the next 48 hours: windows, expected costs, what GPUs and watts are worth.

From a snapshot (`from_snapshot`) to plain arrays (`problem`); prices from an LP over classes of jobs
(`relax`), improved on more of them (`bound`); a bound over every single job at those prices; and runs that
fit (`disaggregate`). Pure, but for the clock that keeps the time limit.
"""

from __future__ import annotations

import time

from scheduler.decision import Certificate
from scheduler.plan.from_snapshot import deferrable, problem_of
from scheduler.plan.schedule import plan_of, prices_from
from scheduler.plan.solve import solve
from scheduler.snapshot import Snapshot
from scheduler.windows import Plan

__all__ = ["deferrable", "make_plan"]


def make_plan(snapshot: Snapshot, *, time_limit_s: float = 1.0, previous: Plan | None = None) -> Plan:
    """Windows for the jobs that can wait; empty where nothing can, or no price is known.

    The certificate's value is money gained over keeping everything as it is, that is over deferring nothing
    into the slots: its `unchanged` is 0, and its gap (bound - value) / bound. The bound holds for every plan
    on the slots' grid. `previous`, the last plan, lends its prices; windows are found anew.
    """
    began_s = time.perf_counter()
    problem = problem_of(snapshot)
    if problem is None:
        empty = Certificate(step="plan", value=0.0, bound=0.0, solve_s=time.perf_counter() - began_s)
        return Plan(made_at=snapshot.now, jobs={}, shadow=(), certificate=empty)
    first = None if previous is None else prices_from(previous, snapshot.now, problem)
    left_s = time_limit_s - (time.perf_counter() - began_s)
    solved = solve(problem, time_limit_s=left_s, first=first)
    return plan_of(snapshot.now, problem, solved, solve_s=time.perf_counter() - began_s)

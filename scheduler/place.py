"""Which jobs start, stop, pause and thaw, on which GPUs and at which cap: decided together, with a bound.

Pure: a snapshot in, a decision out. CP-SAT within its time limit; then its best feasible answer; then greedy.
"""

from __future__ import annotations

from scheduler.decision import Decision
from scheduler.greedy import choose
from scheduler.instance import build_instance
from scheduler.proposal import propose
from scheduler.snapshot import Snapshot
from scheduler.solver import solve
from scheduler.windows import Plan


def place(snapshot: Snapshot, *, time_limit_s: float, plan: Plan | None = None) -> Decision:
    """The decision of highest worth, in money per hour, that fits GPUs, watts and contracts.

    Every waiting job that does not start gets a Wait. The certificate's bound is the solver's proof; its
    fallback is `greedy` when the solver found nothing in `time_limit_s`.
    """
    instance = build_instance(snapshot, plan)
    choice = solve(instance, time_limit_s=time_limit_s) if time_limit_s > 0 else None
    return propose(instance, choice if choice is not None else choose(instance))

"""The placement without a solver: for the process that must not load one, and for when none answers."""

from __future__ import annotations

from scheduler.decision import Decision
from scheduler.placing.build import build_problem
from scheduler.placing.greedy import FALLBACK, choose
from scheduler.placing.proposal import propose
from scheduler.snapshot import Snapshot
from scheduler.windows import Plan


def place_greedily(snapshot: Snapshot, plan: Plan | None = None, *, fallback: str = FALLBACK) -> Decision:
    """A placement by `greedy.choose`; `fallback` says in the certificate why it was needed."""
    posed = build_problem(snapshot, plan)
    return propose(posed, choose(posed.problem, fallback=fallback))

"""Which jobs start, stop, pause and thaw, on which GPUs and at which cap: decided together, with a bound.

Pure: a snapshot in, a decision out. What the solvers find within the time limit; else the greedy answer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scheduler.decision import Decision
from scheduler.placing.build import Posed, build_problem
from scheduler.placing.fallback import place_greedily
from scheduler.placing.focus import LARGE, LIMIT_S, Focus, Looked, focus_on, looked_at
from scheduler.placing.narrow import narrowed, widened
from scheduler.placing.proposal import propose
from scheduler.placing.solve import Warm, solve, solve_warm
from scheduler.placing.together import pull_together
from scheduler.snapshot import Snapshot
from scheduler.windows import Plan

__all__ = ["Placement", "place", "place_greedily"]


def place(snapshot: Snapshot, *, time_limit_s: float, plan: Plan | None = None) -> Decision:
    """The decision of highest worth, in money per hour, that fits GPUs, watts and contracts.

    Every waiting job that does not start at once gets a Wait. The certificate's bound is the solver's proof;
    its fallback says when a simpler method answered.
    """
    return Placement().decide(snapshot, time_limit_s=time_limit_s, plan=plan)


class Placement:
    """One placement after the other on the same site: each starts from what the last one found.

    On a large site a placement after few changes looks at a part of it (`focus`); its certificate says so.
    """

    def __init__(self, *, large: int = LARGE) -> None:
        """`large`: GPUs from which on a part may be looked at alone."""
        self._large = large
        self._warm: Warm | None = None
        self._last: Looked | None = None

    def decide(self, snapshot: Snapshot, *, time_limit_s: float, plan: Plan | None = None) -> Decision:
        """As `place`. A decision that looks at a part has waits for that part alone."""
        if time_limit_s <= 0:
            return place_greedily(snapshot, plan)
        focus = focus_on(snapshot, self._last, large=self._large)
        posed = build_problem(snapshot, plan, focus)
        if focus is None:
            choice, self._warm = solve_warm(posed.problem, time_limit_s=time_limit_s, warm=self._warm)
            decision = propose(posed, pull_together(posed.problem, choice))
        else:
            part, kept = narrowed(posed.problem)
            choice = widened(solve(part, time_limit_s=min(time_limit_s, LIMIT_S)), kept)
            decision = _scoped(propose(posed, pull_together(posed.problem, choice)), focus)
        self._remember(posed, decision, focus)
        return decision

    def _remember(self, posed: Posed, decision: Decision, focus: Focus | None) -> None:
        snapshot, closed = posed.snapshot, np.zeros(len(posed.snapshot.tree.index.names), dtype=bool)
        if focus is None:
            closed[posed.problem.pools.leaf[posed.reservation.reserved]] = True
        self._last = looked_at(
            snapshot,
            self._last,
            closed=closed if focus is None else focus.closed,
            stopped=[preempt.job_id for preempt in decision.preempts],
            whole=focus is None,
        )


def _scoped(decision: Decision, focus: Focus) -> Decision:
    certificates = (replace(c, scope=focus.scope) for c in decision.certificates)
    return replace(decision, certificates=tuple(certificates))

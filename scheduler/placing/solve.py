"""Which solver answers: exact where the site is small, prices where it is large, greedy where neither can."""

from __future__ import annotations

from dataclasses import replace

from scheduler.placing.exact import small_enough, solve_exactly
from scheduler.placing.greedy import choose
from scheduler.placing.large import Warm, solve_large
from scheduler.placing.problem import Choice, PlacementProblem

__all__ = ["Warm", "solve", "solve_warm"]

EXACT_SHARE = 0.7  # of the time limit that the exact solver may use up
FEW_POOLS = 512  # below it a greedy answer costs next to nothing, and may be the better one
SETUP_S_PER_ROW = 3e-6  # what one look at the prices and one answer take, per option, offer and pool


def solve(problem: PlacementProblem, *, time_limit_s: float) -> Choice:
    """The best placement that is found within the time limit, with a bound; there always is an answer."""
    return solve_warm(problem, time_limit_s=time_limit_s)[0]


def solve_warm(
    problem: PlacementProblem, *, time_limit_s: float, warm: Warm | None = None
) -> tuple[Choice, Warm | None]:
    """The same, from what an earlier solve of a like problem left; and what this one leaves."""
    left_s = time_limit_s
    if small_enough(problem):
        choice = solve_exactly(problem, time_limit_s=EXACT_SHARE * time_limit_s)
        if choice is not None:
            return choice, warm
        left_s -= EXACT_SHARE * time_limit_s
    rows = len(problem.options) + len(problem.offers.group) + len(problem.pools)
    if left_s < SETUP_S_PER_ROW * rows:
        return choose(problem), warm
    choice, after = solve_large(problem, time_limit_s=left_s, warm=warm)
    if len(problem.pools) > FEW_POOLS:
        return choice, after
    simple = choose(problem, fallback=None)
    if simple.value <= choice.value:
        return choice, after
    return replace(
        simple,
        bound=max(simple.value, choice.bound),
        domain_price=choice.domain_price,
        solve_s=choice.solve_s + simple.solve_s,
    ), after

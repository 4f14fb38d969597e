"""Runs CP-SAT on a placement: exact where it finishes in time, else the best answer found and its bound."""

from __future__ import annotations

import time
from dataclasses import replace

from ortools.sat.python import cp_model

from scheduler.greedy import choose
from scheduler.instance import Choice, Instance
from scheduler.solver_model import AGE_BONUS, PlacementModel, groups_of

SPOTS_PER_S = 5000  # what can be built and still be searched, per second of the time limit
LARGE = 600  # variables
LARGE_GAP = 1e-4


def solve(instance: Instance, *, time_limit_s: float) -> Choice | None:
    """The best choice found within `time_limit_s`, at least as good as the greedy one that it starts from.

    None when the solver has no answer at all.
    """
    began_s = time.perf_counter()
    guess = choose(instance)
    if _spots(instance) > SPOTS_PER_S * time_limit_s:
        return replace(guess, fallback="greedy: too large to solve in time")
    model = PlacementModel(instance)
    model.hint(guess)
    solver = cp_model.CpSolver()
    solver.parameters.random_seed = 0
    solver.parameters.num_workers = 1  # the same answer every time, and the jobs keep their cores
    if model.size > LARGE:  # measured: then presolve eats the time limit and the last ties are not worth it
        solver.parameters.cp_model_presolve = False
        solver.parameters.symmetry_level = 0
        solver.parameters.cp_model_probing_level = 0
        solver.parameters.relative_gap_limit = LARGE_GAP
    solver.parameters.max_time_in_seconds = max(0.01, time_limit_s - (time.perf_counter() - began_s))
    status = solver.solve(model.model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    found = model.choice(solver)
    bonus = AGE_BONUS * len(instance.candidates)
    bound = max(found.value, min(found.bound, guess.bound + bonus))
    if guess.value > found.value + bonus:
        return replace(guess, bound=max(bound, guess.value), solve_s=found.solve_s)
    return replace(found, bound=bound)


def _spots(instance: Instance) -> int:
    """Variables that the model would have: one per group of like candidates, pool and level."""
    pools, ones = instance.pools, (group.one for group in groups_of(instance))
    return sum(len(one.offered(pools[i])) for one in ones for i in instance.open_pools(one))

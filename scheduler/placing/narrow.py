"""A problem without the pools that nothing can happen on: after one change that is nearly all of them."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from power.arrays import Ints
from scheduler.placing.problem import Choice, PlacementProblem, Pools

NO_POOL = -1


def narrowed(problem: PlacementProblem) -> tuple[PlacementProblem, Ints]:
    """(the same problem over fewer pools, their rows in the one given). Has the same answers and bounds."""
    pools, holds = problem.pools, problem.holds
    used = (pools.free + pools.coming) > 0
    used[holds.pool[holds.pool >= 0]] = True
    kept = np.nonzero(used)[0]
    new_row = np.full(len(pools) + 1, NO_POOL)  # the last entry is for those in no pool
    new_row[kept] = np.arange(len(kept))
    fewer = Pools(**{column.name: getattr(pools, column.name)[kept] for column in fields(Pools)})
    return replace(problem, pools=fewer, holds=replace(holds, pool=new_row[holds.pool])), kept


def widened(choice: Choice, kept: Ints) -> Choice:
    """An answer to the narrowed problem, in pools of the one given."""
    return replace(choice, part_pool=kept[choice.part_pool])

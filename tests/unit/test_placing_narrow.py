"""A problem over the pools that matter has the same answers, in the rows of the one given."""

from __future__ import annotations

import numpy as np

from scheduler.placing.build import build_problem
from scheduler.placing.narrow import narrowed, widened
from scheduler.placing.solve import solve
from tests.builders import gpus, job, running, snapshot


def test_full_nodes_of_nobody_that_may_be_touched_are_left_out() -> None:
    # Three nodes of two: `stays` may not be touched (nobody of a higher class waits), node-2 is free.
    world = snapshot(
        gpus(6),
        running(job("stays", gpus=2, requeue=False), 0, 1),
        running(job("also", gpus=2, requeue=False), 2, 3),
        job("new", gpus=2, priority="high"),
        nodes=3,
    )
    problem = build_problem(world).problem
    part, kept = narrowed(problem)
    whole, small = solve(problem, time_limit_s=1.0), solve(part, time_limit_s=1.0)
    assert len(kept) <= len(problem.pools)
    assert small.value == whole.value
    wide = widened(small, kept)
    leaves = problem.pools.leaf[wide.part_pool]
    assert [world.tree.index.names[leaf] for leaf in leaves] == ["node-2"]


def test_holds_keep_their_pools() -> None:
    world = snapshot(gpus(4), running(job("a", gpus=1), 3), job("b", gpus=1), nodes=4)
    problem = build_problem(world).problem
    part, kept = narrowed(problem)
    before = problem.pools.leaf[problem.holds.pool[problem.holds.pool >= 0]]
    after = part.pools.leaf[part.holds.pool[part.holds.pool >= 0]]
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(part.pools.free, problem.pools.free[kept])

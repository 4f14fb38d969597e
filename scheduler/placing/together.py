"""Gangs over several nodes pulled together: into one rack if one has room, else into one row.

Solvers count GPUs and watts; where a gang goes is worth nothing to them. Here nothing else changes: same
kind, same cap, watts that nobody uses, and no node is broken that was not needed anyway.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from power.arrays import Floats, Ints
from scheduler.placing.problem import ANY_SPLIT, Choice, PlacementProblem
from scheduler.placing.spread import nearest, spread
from scheduler.placing.tight import Tight


def pull_together(problem: PlacementProblem, choice: Choice) -> Choice:
    """The same starts, gangs of several parts under the lowest domain that has room for all of it."""
    wide = np.nonzero(np.diff(choice.part_start) > 1)[0]
    if not len(wide):
        return choice
    yard = _Yard(problem, choice)
    for start in wide.tolist():
        yard.move(start)
    return yard.choice()


class _Yard:
    """Free GPUs and watts beside a choice; a resident that gives way counts at its least all the same."""

    def __init__(self, problem: PlacementProblem, choice: Choice) -> None:
        self._problem, self._choice = problem, choice
        options = problem.options
        least_w = options.cap_w[options.least]
        self._tight = Tight(problem)
        self._tight.load_residents(np.maximum(least_w, options.cap_w[choice.option]))
        caps = np.repeat(choice.start_cap_w, np.diff(choice.part_start))
        self._parts = [self._part(start) for start in range(len(choice.start_job))]
        self._tight.spend(choice.part_pool, self._watts(choice.part_pool, choice.part_gpus, caps))
        used = np.bincount(choice.part_pool, choice.part_gpus, len(problem.pools)).astype(np.int64)
        self._left: Ints = problem.pools.free - used

    def _part(self, start: int) -> tuple[Ints, Ints]:
        rows = slice(int(self._choice.part_start[start]), int(self._choice.part_start[start + 1]))
        return self._choice.part_pool[rows], self._choice.part_gpus[rows]

    def _watts(self, pool: Ints, gpus: Ints, cap_w: Floats) -> Floats:
        watts: Floats = gpus * self._problem.pools.loaded_w(pool, cap_w)
        return watts

    def move(self, start: int) -> None:
        """Unless its GPUs are yet to come free, or it is as close together as it can be."""
        pools, board = self._parts[start]
        if (self._left[pools] < 0).any():
            return
        cap_w = np.full(len(pools), self._choice.start_cap_w[start])
        self._left[pools] += board
        self._tight.spend(pools, -self._watts(pools, board, cap_w))
        found = self._closer(start, pools)
        if found is not None:
            new_pools, new_gpus = found
            watts = self._watts(new_pools, new_gpus, np.full(len(new_pools), cap_w[0]))
            if self._tight.take(new_pools, watts):
                self._left[new_pools] -= new_gpus
                self._parts[start] = found
                return
        self._left[pools] -= board
        self._tight.spend(pools, self._watts(pools, board, cap_w))

    def _closer(self, start: int, now: Ints) -> tuple[Ints, Ints] | None:
        problem, group = self._problem, int(self._choice.start_group[start])
        board, gpus = problem.pools, int(problem.groups.gpus[group])
        nodes = int(problem.groups.nodes[group])
        part = 1 if nodes == ANY_SPLIT else gpus // nodes
        alike = (board.kind == board.kind[now[0]]) & (board.settable == board.settable[now[0]])
        if not problem.groups.backfill[group]:
            alike &= ~board.reserved
        pools = np.nonzero(alike & (self._left >= part))[0]
        found = spread(problem.index, board.leaf, self._left, pools, gpus=gpus, nodes=nodes)
        if found is None or self._height(found[0]) >= self._height(now):
            return None
        return found

    def _height(self, pools: Ints) -> int:
        """Steps from the nodes up to the lowest domain over all of them."""
        return nearest(self._problem.index, self._problem.pools.leaf[pools])

    def choice(self) -> Choice:
        """The choice with the parts as they are now."""
        counts = np.array([len(pools) for pools, _ in self._parts], dtype=np.int64)
        return replace(
            self._choice,
            part_start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            part_pool=np.concatenate([pools for pools, _ in self._parts]),
            part_gpus=np.concatenate([gpus for _, gpus in self._parts]),
        )

"""What is free and what is left once a choice is made: the figures that waiting jobs are told."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from power.arrays import Floats, Ints
from scheduler.placing.build import Posed
from scheduler.placing.paths import least_over
from scheduler.placing.problem import ANY_SPLIT, Act, Choice, PlacementProblem


@dataclass(frozen=True)
class Scene:
    """A choice in its problem. Watts are per domain column, GPUs per pool."""

    posed: Posed
    choice: Choice

    @property
    def problem(self) -> PlacementProblem:
        return self.posed.problem

    @cached_property
    def free_after(self) -> Ints:
        """Free GPUs once the starts are done."""
        taken = np.bincount(self.choice.part_pool, self.choice.part_gpus, len(self.problem.pools))
        return np.maximum(0, self.posed.pools.pools.free - taken.astype(np.int64))

    @cached_property
    def left_w(self) -> Floats:
        """Watts left with residents at their contract floors, without the starts."""
        options, problem = self.problem.options, self.problem
        least_w = options.cap_w[options.least]
        lower = np.minimum(least_w, options.cap_w[self.choice.option])
        return problem.room_w - self._residents_w(np.asarray(lower, dtype=np.float64))

    @cached_property
    def left_after_w(self) -> Floats:
        """The same after the starts."""
        return self.left_w - self._starts_w

    @cached_property
    def slack_w(self) -> Floats:
        """Watts that the choice leaves unused."""
        cap_w = self.problem.options.cap_w[self.choice.option]
        return self.problem.room_w - self._residents_w(cap_w) - self._starts_w

    @cached_property
    def pool_left_w(self) -> Floats:
        """Per pool: the least of `left_after_w` over it."""
        return self._over_pools(self.left_after_w)

    @cached_property
    def pool_before_w(self) -> Floats:
        """Per pool: the least of `left_w` over it."""
        return self._over_pools(self.left_w)

    @cached_property
    def pool_slack_w(self) -> Floats:
        """Per pool: the least of `slack_w` over it."""
        return self._over_pools(self.slack_w)

    def path(self, pool: int) -> list[int]:
        """Columns of the domains over a pool, nearest first."""
        over = self.problem.index.ancestors[self.problem.pools.leaf[pool]]
        return [int(column) for column in over if column >= 0]

    def _over_pools(self, watts: Floats) -> Floats:
        return least_over(self.problem.index, watts)[self.problem.pools.leaf]

    @cached_property
    def _starts_w(self) -> Floats:
        problem, choice = self.problem, self.choice
        caps = np.repeat(choice.start_cap_w, np.diff(choice.part_start))
        watts = choice.part_gpus * problem.pools.loaded_w(choice.part_pool, caps)
        return problem.index.under(problem.pools.leaf[choice.part_pool], watts)

    def _residents_w(self, cap_w: Floats) -> Floats:
        """Per domain: residents at these caps, those that are stopped as empty."""
        holds, options = self.problem.holds, self.problem.options
        stopped = (options.act[self.choice.option] == int(Act.PREEMPT))[holds.resident]
        watts = np.where(stopped, holds.empty_w, holds.fixed_w + holds.steered * cap_w[holds.resident])
        return self.problem.index.under(holds.leaf, watts)


def gang_fits(free: Ints, kind: Ints, suits: Ints, gpus: int, nodes: int) -> bool:
    """Whether a gang fits into `free` GPUs per pool, all of one of the kinds in `suits`."""
    for one in suits.tolist():
        here = free[kind == one]
        if nodes == ANY_SPLIT:
            if int(here.sum()) >= gpus:
                return True
        elif int((here >= gpus // nodes).sum()) >= nodes:
            return True
    return False

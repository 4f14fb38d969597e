"""Watts left under the domains that could run short, while an answer grows. All others are left out."""

from __future__ import annotations

import numpy as np

from power.arrays import Floats, Ints
from scheduler.placing.problem import PlacementProblem

ROOM_W = 1e-6


class Tight:
    """`left_w` per tight domain; `over_pool` and `over_leaf`: which of them are over a pool or column."""

    def __init__(self, problem: PlacementProblem) -> None:
        self.problem = problem
        self.columns = problem.tight
        index, holds = problem.index, problem.holds
        slot = np.full(len(index.names) + 1, len(self.columns), dtype=np.int64)
        slot[self.columns] = np.arange(len(self.columns))
        self.over_leaf: Ints = slot[index.ancestors]  # OUTSIDE reads the last entry: none
        self.over_pool: Ints = self.over_leaf[problem.pools.leaf]
        self.left_w: Floats = np.append(problem.room_w[self.columns], np.inf)  # the last: no domain
        self._held_w: Floats = np.zeros(len(self.left_w))
        order = np.argsort(holds.resident, kind="stable")
        self._holds = order
        self._begin = np.searchsorted(holds.resident[order], np.arange(len(problem.residents) + 1))

    def load_residents(self, cap_w: Floats) -> None:
        """Everybody at these caps (per resident), nobody stopped."""
        holds = self.problem.holds
        inside = holds.leaf >= 0
        watts = (holds.fixed_w + holds.steered * cap_w[holds.resident])[inside]
        self._take(self.over_leaf[holds.leaf[inside]], watts)

    def hold_back(self, cap_w: Floats) -> None:
        """Keep watts out of reach of starts: what residents have gone below their least caps, in order."""
        holds = self.problem.holds
        inside = holds.leaf >= 0
        watts: Floats = (holds.steered * cap_w[holds.resident])[inside]
        before_w = self.left_w[:-1].copy()
        self._take(self.over_leaf[holds.leaf[inside]], watts)
        self._held_w[:-1] = before_w - self.left_w[:-1]

    def release(self) -> None:
        """The watts that were held back."""
        self.left_w += self._held_w
        self._held_w = np.zeros(len(self.left_w))

    def holds_of(self, resident: int) -> Ints:
        """Rows of its holds."""
        return self._holds[self._begin[resident] : self._begin[resident + 1]]

    def over(self, resident: int) -> bool:
        """Holds a GPU under a domain that is over its limit."""
        leaf = self.problem.holds.leaf[self.holds_of(resident)]
        return bool((self.left_w[self.over_leaf[leaf[leaf >= 0]]] < -ROOM_W).any())

    def move(self, resident: int, cap_w: float) -> None:
        """Its cap rises by this much."""
        holds, rows = self.problem.holds, self.holds_of(resident)
        rows = rows[holds.leaf[rows] >= 0]
        watts: Floats = holds.steered[rows].astype(np.float64) * cap_w
        self._take(self.over_leaf[holds.leaf[rows]], watts)

    def take(self, pools: Ints, watts: Floats) -> bool:
        """Take watts in these pools if every domain has them left; all or nothing."""
        over = self.over_pool[pools]
        need = np.bincount(over.ravel(), np.repeat(watts, over.shape[1]), len(self.left_w))
        need[-1] = 0.0
        if (need > np.maximum(self.left_w, 0.0) + ROOM_W).any():
            return False
        self.left_w -= need
        return True

    def spend(self, pools: Ints, watts: Floats) -> None:
        """Take watts in these pools, whether they are left or not."""
        self._take(self.over_pool[pools], watts)

    def _take(self, over: Ints, watts: Floats) -> None:
        need = np.bincount(over.ravel(), np.repeat(watts, over.shape[1]), len(self.left_w))
        need[-1] = 0.0
        self.left_w -= need

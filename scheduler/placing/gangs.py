"""Where the parts of a gang go: under the lowest domain that holds them all, a rack, a row, or anywhere."""

from __future__ import annotations

import numpy as np

from power.arrays import Floats, Ints
from scheduler.placing.packing import Packing
from scheduler.placing.problem import ANY_SPLIT

MOST_TRIED = 4  # domains of one level for a gang, those first that it would fill up


class Ground:
    """What some pools could give to gangs of one part size and rank, kept up to date between their starts.

    With `stop`, residents may be stopped for them at a cost. `above` are the domains over each pool of the
    site, its own first; `part_w` watts of one part by pool.
    """

    def __init__(
        self, packing: Packing, above: Ints, pools: Ints, size: int, rank: int, *, stop: bool
    ) -> None:
        self._packing, self._pools, self._size, self._rank, self._stop = packing, pools, size, rank, stop
        self._leaf = packing.market.problem.pools.leaf[pools]
        self._above = above[pools].T[1:] if above.shape[1] > 1 else above[pools].T
        self._look()

    def _look(self) -> None:
        everywhere = np.arange(len(self._pools))
        self._ready = np.zeros(len(self._pools), dtype=np.int64)
        self._cost = np.zeros(len(self._pools))
        self._renew(everywhere)
        self._headroom_w = self._packing.room.headroom_w(self._leaf, self._rank)
        self._stops, self._fresh = int(self._packing.stopped.sum()), True

    def _renew(self, rows: Ints) -> None:
        packing, pools = self._packing, self._pools[rows]
        now = packing.ready(pools, self._rank)
        self._ready[rows] = now
        if self._stop:
            self._ready[rows], cost = packing.after_stops(pools, self._rank)
            self._cost[rows] = np.where(now >= self._size, 0.0, cost)

    def find(self, parts: int, gpus: int, part_w: Floats) -> tuple[Ints, Ints] | None:
        """(which of the pools, GPUs of each) for a gang; None where it does not fit."""
        if int(self._packing.stopped.sum()) != self._stops:
            self._look()
        found = self._find(parts, gpus, part_w)
        if found is None and not self._fresh:
            self._look()
            found = self._find(parts, gpus, part_w)
        return found

    def used(self, rows: Ints) -> None:
        """A start took GPUs of these."""
        self._renew(rows)
        self._fresh = False

    def _find(self, parts: int, gpus: int, part_w: Floats) -> tuple[Ints, Ints] | None:
        able = np.nonzero((self._ready >= self._size) & (self._headroom_w >= part_w))[0]
        any_split = parts == ANY_SPLIT
        need = gpus if any_split else parts
        offers = self._ready[able] if any_split else np.ones(len(able), dtype=np.int64)
        if int(offers.sum()) < need:
            return None
        for level in self._above:
            above = level[able]
            held = np.bincount(above, offers)
            enough = np.nonzero(held >= need)[0]
            chances: list[tuple[float, int, int, Ints, Ints]] = []
            for domain in enough[np.argsort(held[enough], kind="stable")][:MOST_TRIED]:
                rows, taken = self._cut(able[above == domain], parts, gpus)
                spare = int((self._ready[rows] - taken).sum())
                chances.append((float(self._cost[rows].sum()), spare, len(chances), rows, taken))
            for _, _, _, rows, taken in sorted(chances, key=lambda chance: chance[:3]):
                load_w = part_w[rows] * taken / self._size
                if self._packing.room.first_that_fit(self._leaf[rows], load_w, self._rank).all():
                    return rows, taken
        return None

    def _cut(self, rows: Ints, parts: int, gpus: int) -> tuple[Ints, Ints]:
        """The best of these pools, and how many GPUs of each; whole nodes first where any split will do."""
        ready = self._ready[rows]
        coveted = self._packing.coveted(self._pools[rows], self._size, self._rank)
        order = rows[np.lexsort((ready if parts != ANY_SPLIT else -ready, coveted, self._cost[rows]))]
        if parts != ANY_SPLIT:
            return order[:parts], np.full(parts, self._size, dtype=np.int64)
        before = np.cumsum(self._ready[order]) - self._ready[order]
        chosen = order[before < gpus]
        return chosen, np.minimum(self._ready[chosen], gpus - before[before < gpus])

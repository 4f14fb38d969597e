"""Free GPUs sorted by how many a pool has left, so that the tightest fit is found at once."""

from __future__ import annotations

import heapq

import numpy as np

from power.arrays import Floats, Ints
from scheduler.placing.distinct import distinct
from scheduler.placing.problem import ANY_SPLIT, PlacementProblem
from scheduler.placing.spread import spread
from scheduler.placing.tight import ROOM_W, Tight

Parts = tuple[tuple[int, int], ...]


class Shelves:
    """Pools by zone (alike in kind, settable, reserved and the tight domains over them) and by GPUs left."""

    def __init__(self, problem: PlacementProblem, tight: Tight) -> None:
        pools = problem.pools
        self._pools, self._tight = pools, tight
        self._left = pools.free.copy()
        self._index = problem.index
        first, self._zone = distinct(pools.kind, pools.settable, pools.reserved, *tight.over_pool.T)
        self._kind, self._settable = pools.kind[first], pools.settable[first]
        self._reserved, self._over = pools.reserved[first], tight.over_pool[first]
        self._empty_w = np.full(len(first), np.inf)
        np.minimum.at(self._empty_w, self._zone, pools.empty_w)
        self._max_cap_w = pools.max_cap_w[first]
        # shelves[zone][count]: a heap of the pools that have this many GPUs left
        self._shelves: list[dict[int, list[int]]] = [{} for _ in first]
        for pool in np.nonzero(self._left)[0].tolist():
            self._put(pool)
        self._most = np.array([max(shelf, default=0) for shelf in self._shelves], dtype=np.int64)

    def take(
        self, *, gpus: int, nodes: int, cap_w: float, kind: int, settable: bool, backfill: bool
    ) -> Parts | None:
        """GPUs for one gang, and their watts; None where they are not free together."""
        part = 1 if nodes == ANY_SPLIT else gpus // nodes
        open_here = (self._kind == kind) & (self._settable == settable) & (self._most >= part)
        if not backfill:
            open_here &= ~self._reserved
        zones = np.nonzero(open_here)[0]
        if not len(zones):
            return None
        each_w = self._each_w(zones, cap_w)
        room_w = np.min(self._tight.left_w[self._over[zones]], axis=1)
        if nodes == 1:
            zones = zones[(each_w * gpus <= np.maximum(room_w, 0.0) + ROOM_W)]
            return self._on_one(zones, gpus, cap_w)
        zones = zones[each_w * part <= np.maximum(room_w, 0.0) + ROOM_W]
        open_zone = np.zeros(len(self._kind), dtype=bool)
        open_zone[zones] = True
        pools = np.nonzero(open_zone[self._zone] & (self._left >= part))[0]
        found = spread(self._index, self._pools.leaf, self._left, pools, gpus=gpus, nodes=nodes)
        if found is None:
            return None
        return self._keep(list(zip(found[0].tolist(), found[1].tolist(), strict=True)), cap_w)

    def _on_one(self, zones: Ints, gpus: int, cap_w: float) -> Parts | None:
        found = [(self._tightest(zone, gpus), zone) for zone in zones.tolist()]
        if not found:
            return None
        count, zone = min(found)
        return self._keep([(self._shelves[zone][count][0], gpus)], cap_w)

    def _keep(self, parts: list[tuple[int, int]], cap_w: float) -> Parts | None:
        pools = np.array([pool for pool, _ in parts], dtype=np.int64)
        counts = np.array([count for _, count in parts], dtype=np.float64)
        if not self._tight.take(pools, counts * self._each_w(self._zone[pools], cap_w)):
            return None
        for pool, count in parts:
            zone, left = int(self._zone[pool]), int(self._left[pool])
            shelf = self._shelves[zone]
            if shelf[left][0] == pool:
                heapq.heappop(shelf[left])
            else:
                shelf[left].remove(pool)
                heapq.heapify(shelf[left])
            if not shelf[left]:
                del shelf[left]
            self._left[pool] -= count
            self._put(pool)
            self._most[zone] = max(shelf, default=0)
        return tuple(parts)

    def _each_w(self, zones: Ints, cap_w: float) -> Floats:
        """Watts that one loaded GPU adds, at the most that any pool of the zone would count."""
        counted_w = np.where(self._settable[zones], cap_w, self._max_cap_w[zones])
        return np.asarray(np.maximum(0.0, counted_w - self._empty_w[zones]), dtype=np.float64)

    def _put(self, pool: int) -> None:
        left = int(self._left[pool])
        if left:
            heapq.heappush(self._shelves[int(self._zone[pool])].setdefault(left, []), pool)

    def _tightest(self, zone: int, gpus: int) -> int:
        return min(count for count in self._shelves[zone] if count >= gpus)

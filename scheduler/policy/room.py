"""Free GPUs and watts as they fill up while a queue is gone through: where a gang would sit, and taking it.

GPUs are counted by pool (one kind on one node). A new load counts at its cap in every domain over it, as
`verify` counts it, so what fits here passes there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.tree_index import TreeIndex
from scheduler.placing.pools import PoolMap
from scheduler.placing.problem import Pools

FITS_W = 1e-6
NO_POOLS: Ints = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Gang:
    """GPUs that start together: `gpus` in equal parts on `nodes` nodes, all of one kind.

    Asked for on one node, they are spread only where no node of the kind is large enough. `kinds` in order
    of preference; `cap_w` per kind of the site.
    """

    gpus: int
    nodes: int
    kinds: Sequence[int]
    cap_w: Floats


@dataclass(frozen=True, slots=True)
class Seats:
    """So many GPUs of each of these pools, every one at this cap."""

    pools: Ints
    counts: Ints
    cap_w: float


@dataclass(frozen=True)
class Layout:
    """Pools and the domains over them: what does not change while a queue is gone through."""

    pools: Pools
    index: TreeIndex

    @cached_property
    def of_kind(self) -> dict[int, Ints]:
        """The pools of each kind of GPU that there is."""
        kind = self.pools.kind
        return {each: np.nonzero(kind == each)[0] for each in np.unique(kind).tolist()}

    @cached_property
    def above(self) -> Ints:
        """Per pool: every domain over it; what is above the root reads the last entry of `left_w`."""
        rows: Ints = self.index.ancestors[self.pools.leaf]
        return rows

    def loaded_w(self, seats: Seats) -> Floats:
        """Per pool of the seats: watts that filling them adds."""
        each_w = self.pools.loaded_w(seats.pools, np.full(len(seats.pools), seats.cap_w))
        return np.asarray(each_w * seats.counts, dtype=np.float64)


@dataclass
class Room:
    """`free` GPUs per pool; `left_w` per domain, and one entry more, infinite, for what is above the root."""

    layout: Layout
    free: Ints
    left_w: Floats

    @classmethod
    def now(cls, there: PoolMap) -> Room:
        """What is free in this moment."""
        snapshot, gpus = there.snapshot, there.snapshot.gpus
        index = snapshot.tree.index
        left_w = snapshot.domain_gpu_w - index.under(gpus.leaf, gpus.accounted_w)
        return cls(Layout(there.pools, index), there.pools.free.copy(), np.append(left_w, math.inf))

    @classmethod
    def nobody_there(cls, there: PoolMap) -> Room:
        """The site with every usable GPU empty: what does not fit here cannot start under these limits."""
        snapshot, gpus = there.snapshot, there.snapshot.gpus
        index = snapshot.tree.index
        counted_w = np.where(gpus.usable, np.minimum(gpus.idle_w, gpus.accounted_w), gpus.accounted_w)
        left_w = snapshot.domain_gpu_w - index.under(gpus.leaf, counted_w)
        return cls(Layout(there.pools, index), there.pools.size.copy(), np.append(left_w, math.inf))

    def with_more(self, there: PoolMap, freed: Bools) -> Room:
        """The room once these GPUs (a mask over rows) are empty too."""
        gpus, pool = there.snapshot.gpus, there.of_gpu[freed]
        free = self.free + np.bincount(pool[pool >= 0], minlength=len(self.free))
        gained_w = np.maximum(gpus.accounted_w[freed] - gpus.idle_w[freed], 0.0)
        left_w = self.left_w + np.append(self.layout.index.under(gpus.leaf[freed], gained_w), 0.0)
        return replace(self, free=free, left_w=left_w)

    def and_in(self, other: Room) -> Room:
        """What is there in both."""
        return replace(
            self, free=np.minimum(self.free, other.free), left_w=np.minimum(self.left_w, other.left_w)
        )

    def seats(self, gang: Gang) -> Seats | None:
        """Where the gang would sit, on the first kind that has room; None where it does not fit.

        The fullest nodes that take it, so that whole ones stay free.
        """
        for kind in gang.kinds:
            pools = self.layout.of_kind.get(kind, NO_POOLS)
            free = self.free[pools]
            if free.sum() < gang.gpus:
                continue
            able = self._with_watts(pools, free, float(gang.cap_w[kind]))
            chosen = self._chosen(pools, free, able, gang)
            if chosen is None:
                continue
            seats = Seats(pools[chosen[0]], chosen[1], float(gang.cap_w[kind]))
            if len(seats.pools) == 1 or self.has(seats):
                return seats
        return None

    def has(self, seats: Seats) -> bool:
        """Whether these GPUs and their watts are there together."""
        if (self.free[seats.pools] < seats.counts).any():
            return False
        if not self._limited:
            return True
        above, left_w = self.layout.above[seats.pools], self.left_w.copy()
        np.subtract.at(left_w, above, self.layout.loaded_w(seats)[:, None])
        return bool((left_w[above] >= -FITS_W).all())

    def take(self, seats: Seats) -> None:
        """Fill them."""
        self.free[seats.pools] -= seats.counts
        if self._limited:
            above = self.layout.above[seats.pools]
            np.subtract.at(self.left_w, above, self.layout.loaded_w(seats)[:, None])

    @cached_property
    def _limited(self) -> bool:
        """Any limit at all."""
        return bool(np.isfinite(self.left_w).any())

    def _with_watts(self, pools: Ints, free: Ints, cap_w: float) -> Ints:
        """Of the free GPUs those that could be loaded at this cap, each pool looked at alone."""
        if not self._limited:
            return free
        room_w = self.left_w[self.layout.above[pools]].min(axis=1)
        each_w = self.layout.pools.loaded_w(pools, np.full(len(pools), cap_w))
        with np.errstate(divide="ignore", invalid="ignore"):
            most = np.floor((room_w + FITS_W) / each_w)
        free = np.where(room_w >= -FITS_W, free, 0)  # under a limit that is exceeded nothing starts at all
        return np.where(each_w > 0, np.minimum(free, most), free).astype(np.int64)

    def _chosen(self, pools: Ints, free: Ints, able: Ints, gang: Gang) -> tuple[Ints, Ints] | None:
        """(rows of `pools`, GPUs of each), or None."""
        part = gang.gpus // gang.nodes
        if gang.nodes == 1 and int(self.layout.pools.size[pools].max()) < gang.gpus:
            return _spread(able, gang.gpus)
        rows = np.nonzero(able >= part)[0]
        if len(rows) < gang.nodes:
            return None
        if gang.nodes == 1:
            return rows[[np.argmin(free[rows])]], np.array([part])
        fullest = rows[np.argsort(free[rows], kind="stable")[: gang.nodes]]
        return fullest, np.full(gang.nodes, part)


def _spread(able: Ints, gpus: int) -> tuple[Ints, Ints] | None:
    """The emptiest pools whole, and the rest on the fullest that still takes it."""
    if able.sum() < gpus:
        return None
    emptiest = np.argsort(-able, kind="stable")
    before = np.cumsum(able[emptiest]) - able[emptiest]
    whole = emptiest[(before + able[emptiest] <= gpus) & (able[emptiest] > 0)]
    rest = gpus - int(able[whole].sum())
    if not rest:
        return whole, able[whole]
    others = np.setdiff1d(np.nonzero(able >= rest)[0], whole)
    last = others[np.argmin(able[others])]
    return np.append(whole, last), np.append(able[whole], rest)

"""Parts onto pools: which starts go where, and which residents must stop for them.

Large parts first, important ranks first among them. A part goes to the fullest node that still takes it, so
that whole nodes stay whole; the parts of a gang go under the lowest domain that holds them all (a rack, then
a row, then anywhere). GPUs that nobody holds go before those that somebody must give up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.leveling import Placed
from scheduler.placing.market import Market
from scheduler.placing.room import FITS_W, Room


@dataclass
class Starts:
    """Starts so far: the group of each, and its parts (start, pool, GPUs)."""

    group: list[Ints] = field(default_factory=list)
    start: list[Ints] = field(default_factory=list)
    pool: list[Ints] = field(default_factory=list)
    gpus: list[Ints] = field(default_factory=list)
    count: int = 0

    def add(self, group: Ints, parts_each: int, pool: Ints, gpus: Ints) -> None:
        """Starts of `parts_each` parts each, their parts in order (0: all parts belong to the one start)."""
        number = self.count + np.arange(len(group))
        self.group.append(group)
        self.start.append(np.repeat(number, parts_each if parts_each else len(pool)))
        self.pool.append(pool)
        self.gpus.append(gpus)
        self.count += len(group)


class Packing:
    """GPUs by class and pool (`left`), those that could be freed at a cost (`could`), and the starts."""

    def __init__(self, market: Market, room: Room, *, stopping: Bools, loss: Floats, option: Ints) -> None:
        """`stopping` are the residents that may be stopped, each at a `loss` of money per hour; `option` is
        what each takes otherwise."""
        self.market, self.room = market, room
        problem, items = market.problem, market.items
        pools = problem.pools
        self.ranks = max(1, len(market.ranks))
        self.left: Ints = np.zeros((self.ranks, len(pools)), dtype=np.int64)
        self.left[0] = pools.free + pools.coming
        self._item_class: Ints = market.protected_below[items.resident]
        self.stopped: Bools = np.zeros(len(problem.residents), dtype=bool)
        self._may_stop = stopping
        self._loss = loss
        self._option = option
        self.could: Ints = np.zeros_like(self.left)
        self.cost: Floats = np.zeros(self.left.shape)
        rows = np.nonzero(stopping[items.resident])[0]
        self._offer(rows)
        self.waiting: Ints = problem.groups.count.copy()
        self.starts = Starts()

    def _offer(self, rows: Ints) -> None:
        items = self.market.items
        np.add.at(self.could, (self._item_class[rows], items.pool[rows]), items.freed[rows])
        cost = self._loss[items.resident[rows]] * items.share[rows]
        np.add.at(self.cost, (self._item_class[rows], items.pool[rows]), cost)

    def ready(self, pool: Ints, rank: int) -> Ints:
        """GPUs of each pool that a start of this rank may take at once."""
        total: Ints = _up_to(self.left, pool, rank)
        return total

    def coveted(self, pool: Ints, gpus: int, rank: int) -> Ints:
        """How many ranks besides could have used the GPUs that a part would take there, counted per GPU."""
        need = np.full(len(pool), gpus, dtype=np.int64)
        total = np.zeros(len(pool), dtype=np.int64)
        for kind in range(rank, -1, -1):
            used = np.minimum(self.left[kind, pool], need)
            need -= used
            total += used * (rank - kind)
        return total

    def after_stops(self, pool: Ints, rank: int) -> tuple[Ints, Floats]:
        """GPUs that it may take once residents were stopped there, and what that costs."""
        could: Ints = _up_to(self.could, pool, rank)
        cost: Floats = _up_to(self.cost, pool, rank)
        return self.ready(pool, rank) + could, cost

    def stop_on(self, pool: Ints, rank: int) -> None:
        """Stop those residents on these pools that may be stopped for this rank."""
        items = self.market.items
        chosen = np.zeros(self.left.shape[1], dtype=bool)
        chosen[pool] = True
        rows = chosen[items.pool] & (self._item_class <= rank) & self._may_stop[items.resident]
        rows &= ~self.stopped[items.resident]
        self.stop(np.unique(items.resident[rows]))

    def stop(self, resident: Ints) -> None:
        """Stop these residents: their GPUs and watts may be used from now on."""
        items = self.market.items
        if not len(resident):
            return
        self.stopped[resident] = True
        self.room.release(resident, self._option)
        new = np.zeros(len(self.stopped), dtype=bool)
        new[resident] = True
        freed = np.nonzero(new[items.resident])[0]
        where = (self._item_class[freed], items.pool[freed])
        np.add.at(self.left, where, items.freed[freed])
        np.subtract.at(self.could, where, items.freed[freed])
        cost = self._loss[items.resident[freed]] * items.share[freed]
        np.subtract.at(self.cost, where, cost)

    def take(self, pool: Ints, gpus: Ints, rank: int) -> None:
        """Use GPUs of distinct pools, those first that fewest others could use."""
        need = gpus.copy()
        for kind in range(rank, -1, -1):
            used = np.minimum(self.left[kind, pool], need)
            self.left[kind, pool] -= used
            need -= used

    def now_left(self, room: Room, option: Ints) -> None:
        """Go on from what is left once residents who stay take `option`."""
        self.room.left_w = room.left_w.copy()
        self._option = option

    def placed(self) -> Placed:
        """The starts so far as arrays."""
        starts, pools = self.starts, self.market.problem.pools
        nothing = [np.zeros(0, dtype=np.int64)]
        group = np.concatenate(starts.group or nothing)
        start = np.concatenate(starts.start or nothing)
        order = np.argsort(start, kind="stable")
        pool = np.concatenate(starts.pool or nothing)[order]
        gpus = np.concatenate(starts.gpus or nothing)[order]
        start = start[order]
        first = pool[np.searchsorted(start, np.arange(len(group)))] if len(group) else group
        settable = pools.settable[first]
        return Placed(group, self.market.rank[group], pools.kind[first], settable, start, pool, gpus)

    def resume_unused(self) -> None:
        """Residents whose GPUs nobody took in the end stay; the dearest to stop first."""
        items = self.market.items
        rows = np.nonzero(self.stopped[items.resident])[0]
        residents = np.unique(items.resident[rows])
        by_resident = rows[np.argsort(items.resident[rows], kind="stable")]
        start = np.searchsorted(items.resident[by_resident], residents)
        spare = np.cumsum(self.left, axis=0)[self._item_class[by_resident], items.pool[by_resident]]
        enough = spare >= items.freed[by_resident]
        hopeful = np.logical_and.reduceat(enough, start) if len(start) else np.zeros(0, dtype=bool)
        ends = np.append(start[1:], len(by_resident))
        order = np.nonzero(hopeful)[0]
        for one in order[np.argsort(-self._loss[residents[order]], kind="stable")]:
            self._resume(int(residents[one]), by_resident[start[one] : ends[one]])

    def _resume(self, resident: int, rows: Ints) -> None:
        items = self.market.items
        kind = int(self._item_class[rows[0]])
        pool, gpus = items.pool[rows], items.freed[rows]
        if (self.ready(pool, kind) < gpus).any():
            return
        before_w = self.room.left_w.copy()
        self.room.release(np.array([resident]), self._option, sign=-1.0)
        worse = self.room.left_w < before_w
        if (self.room.left_w[worse] < -FITS_W).any():
            self.room.left_w = before_w
            return
        self.take(pool, gpus, kind)
        self.stopped[resident] = False


def _up_to(by_class: Any, pool: Ints, rank: int) -> Any:
    """Sums over the classes that a rank may use, per pool."""
    total = by_class[0][pool]
    for kind in range(1, rank + 1):
        total = total + by_class[kind][pool]
    return total

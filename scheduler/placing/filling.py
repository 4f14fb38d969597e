"""Filling a site: how many members of which groups start, and on which pools."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from power.arrays import Floats, Ints
from scheduler.placing.bids import Habits
from scheduler.placing.gangs import Ground
from scheduler.placing.market import Market
from scheduler.placing.packing import Packing

NOTHING = 1e-9


@dataclass(frozen=True)
class Ware:
    """Parts of one size for one rank, wanted by `groups` (best payer first), on the pools of one zone."""

    zone: int
    pools: Ints
    size: int
    rank: int
    groups: Ints


@dataclass(frozen=True)
class FillPrices:
    """Money for the best parts by zone and state of a node; and for one part by zone, size and rank."""

    money: Floats
    price: Floats


class Filling:
    """Puts members of groups onto pools, by zone, size of part and rank."""

    def __init__(self, market: Market, packing: Packing, habits: Habits, fill: FillPrices) -> None:
        self._market, self._packing, self._habits, self._fill = market, packing, habits, fill
        pools, groups = market.problem.pools, market.problem.groups
        order = np.argsort(market.zones.of_pool, kind="stable")
        edges = np.searchsorted(market.zones.of_pool[order], np.arange(len(market.zones) + 1))
        self._pools = [order[low:high] for low, high in pairwise(edges)]
        self._part, self._nodes = groups.part, groups.nodes
        gain = (habits.value - fill.price[:, market.size, market.rank]) / groups.part
        grain = 0.01 * max(1e-9, float(np.abs(fill.price).max(initial=0.0)))
        best = np.maximum(0.0, gain.max(axis=0, initial=0.0))
        # what each group would lose by going there and not to its best zone, coarsely
        self._elsewhere = np.where(np.isfinite(gain), np.round((best - gain) / grain), np.inf)
        above = market.problem.index.ancestors[pools.leaf]
        self._above: Ints = np.where(above >= 0, above, 0)

    def fill(self, most: Ints, *, stop: bool) -> None:
        """Start up to `most` (zones x groups) members of each group; `stop`: residents may stop for them."""
        largest = self._largest(stop=stop)
        wares = [
            ware
            for zone in range(len(most))
            for ware in self._wares(zone, most[zone])
            if ware.size <= largest[ware.rank, zone]
        ]
        for ware in sorted(wares, key=lambda w: (-w.size, -w.rank, w.zone)):
            if stop or (self._packing.ready(ware.pools, ware.rank) >= ware.size).any():
                self._supply(ware, np.minimum(most[ware.zone], self._packing.waiting), stop=stop)

    def _largest(self, *, stop: bool) -> Ints:
        """Per rank and zone: the most GPUs that it could have on one pool."""
        packing = self._packing
        ready = np.cumsum(packing.left + packing.could if stop else packing.left, axis=0)
        largest = np.zeros((len(ready), len(self._pools)), dtype=np.int64)
        for zone, pools in enumerate(self._pools):
            largest[:, zone] = ready[:, pools].max(axis=1, initial=0)
        return largest

    def spread(self, groups: Ints, *, stop: bool) -> None:
        """Start gangs that found no zone large enough: over all zones that are alike but for their watts."""
        market, zones = self._market, self._market.zones
        lot = (zones.kind * 2 + zones.settable) * 2 + zones.reserved
        for one in np.unique(lot):
            here = np.nonzero(lot == one)[0]
            if len(here) < 2:
                continue
            pools = np.concatenate([self._pools[zone] for zone in here])
            payers = groups[self._habits.value[np.ix_(here, groups)].max(axis=0, initial=0.0) > NOTHING]
            cell = market.size[payers] * len(market.ranks) + market.rank[payers]
            for which in np.unique(cell)[::-1]:
                gangs = payers[cell == which]
                size, rank = int(self._part[gangs[0]]), int(market.rank[gangs[0]])
                ware = Ware(int(here[0]), pools, size, rank, gangs)
                self._gangs(ware, gangs, self._packing.waiting.copy(), stop=stop)

    def _supply(self, ware: Ware, wanted: Ints, *, stop: bool) -> None:
        single = ware.groups[self._nodes[ware.groups] == 1]
        gangs = ware.groups[self._nodes[ware.groups] != 1]
        if len(gangs):
            self._gangs(ware, gangs, wanted, stop=stop)
        if len(single):
            self._singles(ware, single, wanted, stop=stop)

    def _wares(self, zone: int, wanted: Ints) -> list[Ware]:
        market, value = self._market, self._habits.value[zone]
        group = np.nonzero((np.minimum(wanted, self._packing.waiting) > 0) & (value > NOTHING))[0]
        order = np.lexsort((-value[group] / self._part[group], self._elsewhere[zone, group]))
        group = group[order]
        key = market.size[group] * len(market.ranks) + market.rank[group]
        return [
            Ware(
                zone,
                self._pools[zone],
                int(market.sizes[cell // len(market.ranks)]),
                int(cell % len(market.ranks)),
                group[key == cell],
            )
            for cell in np.unique(key)
        ]

    def _singles(self, ware: Ware, groups: Ints, wanted: Ints, *, stop: bool) -> None:
        """One part each: all members at once onto the best pools."""
        pools = ware.pools
        number = int(wanted[groups].sum())
        for _ in range(3):
            number -= self._onto(
                ware, groups, wanted, self._slots(ware, pools, number, self._typical_w(groups, wanted))
            )
            if number <= 0 or not stop or not self._make_room(ware, pools, number):
                return

    def _slots(self, ware: Ware, pools: Ints, number: int, zone_w: Floats) -> Ints:
        """Pools with room for a part, fullest first, the most watts to spare among equals; a row per part."""
        packing, leaf = self._packing, self._market.problem.pools.leaf
        ready = packing.ready(pools, ware.rank)
        able = np.nonzero(ready >= ware.size)[0]
        pools, ready = pools[able], ready[able]
        spare_w = packing.room.headroom_w(leaf[pools], ware.rank)
        order = np.lexsort(
            (-spare_w, ready, packing.coveted(pools, ware.size, ware.rank), self._regret(ware, pools))
        )
        slots = np.repeat(pools[order], ready[order] // ware.size)
        watts = zone_w[self._market.zones.of_pool[slots]]
        return slots[packing.room.first_that_fit(leaf[slots], watts, ware.rank)][:number]

    def _regret(self, ware: Ware, pools: Ints) -> Floats:
        """What nodes could have earned in a better way, in hundredths of the dearest price of a part."""
        market, left = self._market, self._packing.left[:, pools]
        size = int(np.searchsorted(market.sizes, ware.size))
        zone = market.zones.of_pool[pools]
        regret = np.zeros(len(pools))
        small = market.small_pool[pools]
        last = market.classes - 1
        counts = np.concatenate([left[:last], left[last:].sum(axis=0, keepdims=True)])
        state = market.states.of(counts[:, small].T)
        after = market.states.after_part[state, size, min(ware.rank, last)]
        at, price = zone[small], self._fill.price[zone[small], size, ware.rank]
        lost = self._fill.money[at, state] - self._fill.money[at, np.maximum(after, 0)] - price
        regret[small] = lost
        grain = 0.01 * max(1e-9, float(np.abs(price).max(initial=0.0)))
        return np.round(regret / grain)

    def _typical_w(self, groups: Ints, wanted: Ints) -> Floats:
        """Per zone: watts of a mean part of these groups."""
        typical: Floats = self._habits.part_w[:, groups] @ (wanted[groups] / max(1, wanted[groups].sum()))
        return typical

    def _onto(self, ware: Ware, groups: Ints, wanted: Ints, slots: Ints) -> int:
        """Give the slots to the best payers."""
        packing = self._packing
        first = np.minimum(np.cumsum(wanted[groups]), len(slots))
        member = np.repeat(groups, np.diff(first, prepend=0))
        slots = slots[: len(member)]
        leaf = self._market.problem.pools.leaf[slots]
        watts = self._habits.part_w[ware.zone, member]
        fits = packing.room.first_that_fit(leaf, watts, ware.rank)
        slots, member = slots[fits], member[fits]
        if not len(slots):
            return 0
        used = np.bincount(slots, minlength=packing.left.shape[1])
        at = np.nonzero(used)[0]
        packing.take(at, used[at] * ware.size, ware.rank)
        self._book(ware, member, 1, slots, np.full(len(slots), ware.size))
        taken = np.bincount(member, minlength=len(wanted))
        wanted -= taken
        packing.waiting -= taken
        return len(slots)

    def _book(self, ware: Ware, member: Ints, parts_each: int, pool: Ints, gpus: Ints) -> None:
        group = member if parts_each else np.repeat(member, len(pool))
        watts = self._habits.part_w[self._market.zones.of_pool[pool], group] * gpus / ware.size
        leaf = self._market.problem.pools.leaf[pool]
        self._packing.room.load(leaf, watts, np.full(len(pool), ware.rank))
        self._packing.starts.add(member, parts_each, pool, gpus)

    def _make_room(self, ware: Ware, pools: Ints, number: int) -> bool:
        """Stop residents where a part costs least, enough for `number` parts."""
        packing = self._packing
        gpus, cost = packing.after_stops(pools, ware.rank)
        gained = gpus // ware.size - packing.ready(pools, ware.rank) // ware.size
        able = np.nonzero(gained > 0)[0]
        if not len(able):
            return False
        each = cost[able] / gained[able]
        order = able[np.argsort(each, kind="stable")]
        enough = int(np.searchsorted(np.cumsum(gained[order]), number)) + 1
        packing.stop_on(pools[order[:enough]], ware.rank)
        return True

    def _gangs(self, ware: Ware, groups: Ints, wanted: Ints, *, stop: bool) -> None:
        """Several parts each, one pool each (or split in any way): one start after the other."""
        packing, market = self._packing, self._market
        ways = (False, True) if stop else (False,)
        grounds = [
            Ground(packing, self._above, ware.pools, ware.size, ware.rank, stop=stops) for stops in ways
        ]
        zone = market.zones.of_pool[ware.pools]
        for group in groups.tolist():
            parts, gpus = int(self._nodes[group]), int(market.problem.groups.gpus[group])
            part_w = self._habits.part_w[zone, group]
            while wanted[group] > 0:
                tries = (ground.find(parts, gpus, part_w) for ground in grounds)
                chosen = next((one for one in tries if one is not None), None)
                if chosen is None:
                    break
                rows, held = chosen
                pool = ware.pools[rows]
                lacking = packing.ready(pool, ware.rank) < held
                if lacking.any():
                    packing.stop_on(pool[lacking], ware.rank)
                packing.take(pool, held, ware.rank)
                self._book(ware, np.array([group]), 0, pool, held)
                for ground in grounds:
                    ground.used(rows)
                wanted[group] -= 1
                packing.waiting[group] -= 1

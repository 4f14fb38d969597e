"""What waiting jobs would pay: the best zone and cap for every group at given prices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from power.arrays import Floats, Ints
from scheduler.placing.market import Market, totals


@dataclass(frozen=True)
class Lot:
    """Zones on which the same offers hold, and those offers, sorted by group."""

    number: int
    zones: Ints
    offer: Ints
    group: Ints
    start: Ints  # where each group's offers begin
    row: Ints  # per offer: position of its group
    worth: Floats  # per offer: of one part
    gpus: Ints  # per offer: GPUs of one part
    rank: Ints  # per offer

    def best(self, cost: Floats | float) -> Floats:
        """Per group: the most that one part earns."""
        return np.maximum.reduceat(self.worth - cost, self.start) if len(self.start) else np.zeros(0)

    def best_offer(self, cost: Floats | float) -> Ints:
        """Per group: the offer (position in the lot) that earns most, the lower cap of two equals."""
        return self.offer_at(cost, self.best(cost))

    def offer_at(self, cost: Floats | float, best: Floats) -> Ints:
        """The same, where it is known what the `best` offer of each group earns."""
        hit = np.nonzero(self.worth - cost >= best[self.row])[0]
        chosen = np.zeros(len(self.group), dtype=np.int64)
        chosen[self.row[hit[::-1]]] = hit[::-1]
        return chosen

    def least_offer(self) -> Ints:
        """Per group: the lowest cap that earns anything (position in the lot); else its lowest."""
        chosen = self.start.copy()
        earns = np.nonzero(self.worth > 0.0)[0][::-1]
        chosen[self.row[earns]] = earns
        return chosen


@dataclass(frozen=True)
class Demand:
    """What is wanted; `watts` are by (mask, size, rank), counted once."""

    money: Floats  # per size and rank, flat: beyond all prices
    zone: Ints  # per group: where it earns most, -1 where it would rather wait
    part_w: Floats  # per group: watts of one part there, as far as watts are priced
    parts: Floats  # by (zone, size, rank)
    watts: Floats


@dataclass(frozen=True)
class Habits:
    """How members of a group behave at given prices, for those who look for places.

    Per zone and group: `value` of one part less its watts' price (-infinity where it may not go), and its
    watts, `part_w`. Per zone, size, rank: `mean_w`, watts of a part by the mean GPU that waits (the same for
    all, so that prices which tie in one zone tie in every zone).
    """

    value: Floats
    part_w: Floats
    mean_w: Floats


class Bids:
    """Demand at any prices."""

    def __init__(self, market: Market) -> None:
        self._market = market
        zones, groups = market.zones, market.problem.groups
        key = (zones.kind * 2 + zones.settable) * 2 + zones.reserved
        _, first, lot_of = np.unique(key, return_index=True, return_inverse=True)
        self._lot_of: Ints = lot_of.ravel()
        self.lots = [self._lot(number, np.nonzero(self._lot_of == number)[0]) for number in range(len(first))]
        self._load_w = [self._watts(zone) for zone in range(len(zones))]
        self._free = [lot.best(0.0) for lot in self.lots]
        self._count = groups.count.astype(np.float64)
        self._weight = self._count * groups.gpus
        self._cells = [market.cell[lot.group] for lot in self.lots]
        self._units = [market.units[lot.group] for lot in self.lots]

    def _lot(self, number: int, zones: Ints) -> Lot:
        market, offers, groups = self._market, self._market.problem.offers, self._market.problem.groups
        one = zones[0]
        fits = offers.kind == market.zones.kind[one]
        if not market.zones.settable[one]:
            fits &= offers.top
        if market.zones.reserved[one]:
            fits &= groups.backfill[offers.group]
        rows = np.nonzero(fits)[0]
        of = offers.group[rows]
        group, start, row = np.unique(of, return_index=True, return_inverse=True)
        part = groups.part[of]
        worth = offers.worth[rows] * part
        return Lot(number, zones, rows, group, start, row.ravel(), worth, part, market.rank[of])

    def _watts(self, zone: int) -> Floats:
        zones, lot = self._market.zones, self.lots[self._lot_of[zone]]
        cap_w = self._market.problem.offers.cap_w[lot.offer]
        counted_w = cap_w if zones.settable[zone] else np.full(len(cap_w), zones.max_cap_w[zone])
        watts: Floats = lot.gpus * np.maximum(0.0, counted_w - zones.empty_w[zone])
        return watts

    def _cost(self, zone: int, price: Floats) -> Floats:
        lot = self.lots[self._lot_of[zone]]
        cost: Floats = price[lot.rank] * self._load_w[zone]
        return cost

    def at(self, start_price: Floats, part_price: Floats) -> Demand:
        """`start_price`: per mask and rank; `part_price`: per zone, size and rank."""
        market, zones = self._market, self._market.zones
        shape = part_price.shape[1:]
        profit = np.zeros(len(market.problem.groups))
        best_zone = np.full(len(profit), -1)
        values: list[Floats] = []
        for zone in range(len(zones)):
            lot, price = self.lots[self._lot_of[zone]], start_price[zones.mask[zone]]
            value = lot.best(self._cost(zone, price)) if price.any() else self._free[lot.number]
            values.append(value)
            gain = value - part_price[zone].ravel()[self._cells[lot.number]]
            gain *= self._units[lot.number]
            better = np.nonzero(gain > profit[lot.group])[0]
            profit[lot.group[better]] = gain[better]
            best_zone[lot.group[better]] = zone
        parts, watts, part_w = self._taken(best_zone, values, start_price, part_price.shape)
        money = totals(market.cell, profit * self._count, shape[0] * shape[1])
        return Demand(money, best_zone, part_w, parts, watts)

    def _taken(
        self, best_zone: Ints, values: list[Floats], start_price: Floats, shape: tuple[int, ...]
    ) -> tuple[Floats, Floats, Floats]:
        """(parts, watts, watts of one part per group); `values`: per zone, what its lot's groups earn."""
        market, zones = self._market, self._market.zones
        parts, watts = np.zeros(shape), np.zeros((len(start_price), *shape[1:]))
        part_w = np.zeros(len(best_zone))
        for zone in np.unique(best_zone[best_zone >= 0]).tolist():
            lot, mask = self.lots[self._lot_of[zone]], zones.mask[zone]
            mine = np.nonzero(best_zone[lot.group] == zone)[0]
            group = lot.group[mine]
            wanted = self._count[group] * market.units[group]
            cells = np.bincount(market.cell[group], wanted, shape[1] * shape[2])
            parts[zone] = cells.reshape(shape[1:])
            if market.masks[mask].any():
                chosen = lot.offer_at(self._cost(zone, start_price[mask]), values[zone])[mine]
                part_w[group] = self._load_w[zone][chosen]
                used_w = np.bincount(market.cell[group], wanted * part_w[group], shape[1] * shape[2])
                watts[mask] += used_w.reshape(shape[1:])
        return parts, watts, part_w

    def habits(self, start_price: Floats, shape: tuple[int, ...], *, least: bool = False) -> Habits:
        """For those who look for places: what to expect of each group and zone; `least`: at the fewest watts
        that earn anything."""
        market, zones = self._market, self._market.zones
        groups = len(market.problem.groups)
        value, part_w = np.full((len(zones), groups), -np.inf), np.zeros((len(zones), groups))
        mean_w = np.zeros((len(zones), *shape))
        for zone in range(len(zones)):
            lot = self.lots[self._lot_of[zone]]
            if not len(lot.group):
                continue
            cost = self._cost(zone, start_price[zones.mask[zone]])
            chosen = lot.least_offer() if least else lot.best_offer(cost)
            value[zone, lot.group] = (lot.worth - cost)[chosen]
            part_w[zone, lot.group] = self._load_w[zone][chosen]
            weight = self._weight[lot.group]
            gpu_w = float((part_w[zone, lot.group] / market.problem.groups.part[lot.group] * weight).sum())
            mean_w[zone] = market.sizes[:, None] * gpu_w / max(1e-12, float(weight.sum()))
        return Habits(value, part_w, mean_w)

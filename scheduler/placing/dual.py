"""The bound: for any prices of watts and of parts, what all residents, nodes and waiting jobs together earn.

Every limit that several share (watts of a domain, parts on offer in a zone) is taken out and paid for at a
price instead; what remains falls apart into one small choice per resident, per node and per waiting job, each
of which is made exactly (Lagrangian relaxation). No answer can be worth more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.bids import Bids, Habits
from scheduler.placing.market import Market, totals
from scheduler.placing.node_fill import best_fill
from scheduler.placing.stops import Stops


@dataclass(frozen=True)
class Prices:
    """Money per watt-hour by (priced domain, waiting rank), >= 0; money per part-hour by (kind, size, rank).

    The price of a part in a zone is the latter less what the watts of a typical job cost there, plus for each
    of its GPUs what `zone` says (of either sign).
    """

    watt: Floats
    part: Floats
    zone: Floats


@dataclass(frozen=True)
class Verdict:
    """What one set of prices shows.

    The bound is the sum of what the parties earn: first residents and nodes together, then waiting jobs of
    each rank. `slopes` say how each would change with the prices.
    """

    bound: float
    earned: Floats
    slopes: tuple[Prices, ...]
    stopped: Bools  # per item of the market: whether its GPUs would be freed
    stop_loss: Floats  # per resident: what stopping it costs at these prices
    step: Ints  # per resident: step of `Stays` it would take
    zone: Ints  # per group: where its members would go, -1 where they would rather wait
    part_w: Floats  # per group: watts of one part there, as far as watts are priced
    part_price: Floats  # per zone, size, rank


class Dual:
    """Evaluates prices on one market."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.bids = Bids(market)
        self.stops = Stops(market)
        holds, problem = market.problem.holds, market.problem
        self._mask = market.mask[holds.leaf]
        self._room_w = problem.room_w[market.priced]
        self._residents = len(problem.residents)
        self._kinds = int(market.zones.kind.max(initial=0)) + 1
        ranks = max(1, len(market.ranks))
        self._shape = (len(market.sizes), ranks)
        self._limits = np.tri(ranks, ranks).T  # rank x limit: a start counts under its own and those above
        self.part_w: Floats = np.zeros((len(market.zones), *self._shape))
        self._wait = np.minimum(market.protected_below, len(market.ranks))
        self._stop_worth = np.zeros(self._residents)
        able = market.stop_option >= 0
        self._stop_worth[able] = problem.options.worth[market.stop_option[able]]
        # stopping those frees no GPU that anybody waits for
        self._idle_stop = able & (np.bincount(market.items.resident, minlength=self._residents) == 0)

    def expect(self, prices: Prices) -> None:
        """Take watts of a typical job from these prices. Bounds hold whatever is expected."""
        self.part_w = self.habits(prices).mean_w

    def habits(self, prices: Prices, *, least: bool = False) -> Habits:
        """What waiting jobs do at these prices; `least`: if they took the fewest watts."""
        return self.bids.habits(self._start_price(prices), self._shape, least=least)

    def steps_at(self, prices: Prices) -> Ints:
        """Per resident: the step of `Stays` it would take at these prices."""
        holds = self.market.problem.holds
        full = self._start_price(prices)[self._mask, 0]
        cap_price = totals(holds.resident, full * holds.steered, self._residents)
        return self.market.stays.best_at(cap_price)[1]

    def _start_price(self, prices: Prices) -> Floats:
        """Per mask and rank: money per watt-hour of a start."""
        by_mask: Floats = self.market.masks @ prices.watt @ self._limits.T
        return by_mask

    def _part_price(self, prices: Prices, start_price: Floats) -> Floats:
        """Below 0 nobody sells; the bound holds all the same."""
        zones = self.market.zones
        watts_cost = self.part_w * start_price[zones.mask][:, None, :]
        extra = prices.zone[:, None, None] * self.market.sizes[:, None]
        total: Floats = prices.part[zones.kind] - watts_cost + extra
        return total

    def judge(self, prices: Prices) -> Verdict:
        """The bound at these prices, and which way they should move."""
        market, holds = self.market, self.market.problem.holds
        start_price = self._start_price(prices)
        part_price = self._part_price(prices, start_price)
        all_price = np.concatenate([start_price, np.zeros((len(start_price), 1))], axis=1)
        full, open_price = all_price[self._mask, 0], all_price[self._mask, self._wait[holds.resident]]
        owner, count = holds.resident, self._residents
        fixed = totals(owner, full * holds.fixed_w, count)
        stay, step = market.stays.best_at(totals(owner, full * holds.steered, count))
        stay = stay - fixed
        emptied = open_price * holds.empty_w + (full - open_price) * market.least_w
        stop = self._stop_worth - totals(owner, emptied, count)
        gives_up = self._idle_stop & (stop > stay)
        bids = self.bids.at(start_price, part_price)
        supply = self.stops.choose(best_fill(market.states, part_price), part_price, stay - stop)
        offered = float(np.where(gives_up, stop, stay).sum()) + supply.money
        offered += float((prices.watt * self._room_w[:, None]).sum())
        gone = np.bincount(market.items.resident, market.items.share * supply.stopped, count) + gives_up
        earned = np.concatenate([[offered], bids.money])
        mine = self._slope(supply.parts, self._used_w(gone, step))
        slopes = [replace(mine, watt=mine.watt + self._room_w[:, None])]
        for one in np.eye(self._shape[1]):
            slopes.append(self._slope(-bids.parts * one, bids.watts * one @ self._limits))
        return Verdict(
            bound=float(earned.sum()),
            earned=earned,
            slopes=tuple(slopes),
            stopped=supply.stopped,
            stop_loss=stay - stop,
            step=step,
            zone=bids.zone,
            part_w=bids.part_w,
            part_price=part_price,
        )

    def _slope(self, parts: Floats, used_w: Floats) -> Prices:
        """Change of earnings with the prices; where dearer watts make parts cheaper, through those too."""
        market, zones = self.market, self.market.zones
        by_kind = np.zeros((self._kinds, *self._shape))
        np.add.at(by_kind, zones.kind, parts)
        cheaper = (parts * self.part_w).sum(axis=1) @ self._limits
        by_mask = -used_w
        np.subtract.at(by_mask, zones.mask, cheaper)
        by_zone = (parts.sum(axis=2) * market.sizes).sum(axis=1)
        return Prices(market.masks.T @ by_mask, by_kind, by_zone)

    def _used_w(self, gone: Floats, step: Ints) -> Floats:
        """Watts of residents per mask and waiting rank, stopped ones at their least where protected.

        `gone` is the share of each resident that is stopped.
        """
        market, holds = self.market, self.market.problem.holds
        masks, ranks = len(market.masks), self._shape[1]
        cap_w = market.stays.cap_w[step, np.arange(self._residents)]
        part = gone[holds.resident]
        stays_w = (1.0 - part) * (holds.fixed_w + holds.steered * cap_w[holds.resident])
        used = np.repeat(totals(self._mask, stays_w, masks)[:, None], ranks, axis=1)
        rows = np.nonzero(part > 0)[0]
        wait = self._wait[holds.resident[rows]]
        for rank in range(ranks):
            left_w = np.where(rank >= wait, holds.empty_w[rows], market.least_w[rows])
            used[:, rank] += np.bincount(self._mask[rows], part[rows] * left_w, masks)
        return used

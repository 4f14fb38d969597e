"""The bound: for any prices of watts and of parts, what all residents, nodes and waiting jobs together earn.

Every limit that several share (watts of a domain, parts on offer in a zone) is taken out and paid for at a
price instead; what remains falls apart into one small choice per resident, per node and per waiting job, each
of which is made exactly (Lagrangian relaxation). No answer can be worth more.
"""

from __future__ import annotations

from dataclasses import dataclass

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

    The bound is the sum of what the parties earn: first those of residents and nodes together, then waiting
    jobs of each rank. `slopes` say how each would change with the prices, a row per party.
    """

    bound: float
    earned: Floats
    slopes: Prices
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
        self._wait: Ints = np.minimum(market.protected_below, len(market.ranks))[holds.resident]
        self._open_cell = self._mask * (ranks + 1) + self._wait
        self._of_kind = np.eye(self._kinds)[:, market.zones.kind]  # kinds x zones
        self._of_mask = np.eye(len(market.masks))[:, market.zones.mask]
        self._of_party = np.eye(market.parties)[:, market.party[market.zones.mask]]
        self._stop_worth = np.zeros(self._residents)
        able = market.stop_option >= 0
        self._stop_worth[able] = problem.options.worth[market.stop_option[able]]
        # stopping those frees no GPU that anybody waits for
        idle = np.bincount(market.items.resident, minlength=self._residents) == 0
        self._idle_stop = able & idle
        self._sellers = Sellers(market, np.nonzero(idle)[0])

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
        full, open_price = start_price[:, 0][self._mask], all_price.ravel()[self._open_cell]
        owner, count = holds.resident, self._residents
        fixed = totals(owner, full * holds.fixed_w, count)
        stay, step = market.stays.best_at(totals(owner, full * holds.steered, count))
        stay = stay - fixed
        emptied = open_price * holds.empty_w + (full - open_price) * market.least_w
        stop = self._stop_worth - totals(owner, emptied, count)
        gives_up = self._idle_stop & (stop > stay)
        bids = self.bids.at(start_price, part_price)
        supply = self.stops.choose(best_fill(market.states, part_price), part_price, stay - stop)
        offered = self._sellers.by_party(np.where(gives_up, stop, stay))
        offered += self._of_party @ supply.money
        offered[0] += float((prices.watt * self._room_w[:, None]).sum())
        earned = np.concatenate([offered, bids.money])
        used_w = self._used_w(self._sellers.gone(supply.stopped, gives_up), step)
        cells = np.eye(len(bids.money)).reshape(-1, 1, *self._shape)
        slopes = self._slopes(
            np.concatenate([self._of_party[:, :, None, None] * supply.parts, -bids.parts * cells]),
            np.concatenate([used_w, (bids.watts * cells).sum(axis=2) @ self._limits]),
        )
        slopes.watt[0] += self._room_w[:, None]
        return Verdict(
            bound=float(earned.sum()),
            earned=earned,
            slopes=slopes,
            stopped=supply.stopped,
            stop_loss=stay - stop,
            step=step,
            zone=bids.zone,
            part_w=bids.part_w,
            part_price=part_price,
        )

    def _slopes(self, parts: Floats, used_w: Floats) -> Prices:
        """Change of earnings with the prices; where dearer watts make parts cheaper, through those too.

        `parts` are parties x zones x sizes x ranks, `used_w` parties x masks x ranks.
        """
        parties, zones = parts.shape[:2]
        by_kind = self._of_kind @ parts.reshape(parties, zones, -1)
        cheaper = (parts * self.part_w).sum(axis=2) @ self._limits
        by_mask = -used_w - self._of_mask @ cheaper
        by_zone = (parts.sum(axis=3) * self.market.sizes).sum(axis=2)
        shape = (parties, self._kinds, *self._shape)
        return Prices(self.market.masks.T @ by_mask, by_kind.reshape(shape), by_zone)

    def _used_w(self, gone: Floats, step: Ints) -> Floats:
        """Watts of residents per party, mask and waiting rank, stopped ones at their least where protected.

        `gone` is the share that each of the sellers stops.
        """
        market, holds, sellers = self.market, self.market.problem.holds, self._sellers
        masks, ranks, count = len(market.masks), self._shape[1], self._residents
        cap_w = market.stays.cap_w.ravel()[step * count + np.arange(count)][holds.resident]
        runs_w = holds.fixed_w + holds.steered * cap_w
        cell = sellers.party * masks + self._mask[sellers.hold]
        full_w = totals(cell, sellers.share[sellers.seller] * runs_w[sellers.hold], market.parties * masks)
        used = np.repeat(full_w[:, None], ranks, axis=1)
        stops = np.nonzero(gone[sellers.seller] > 0)[0]
        part, rows = gone[sellers.seller[stops]], sellers.hold[stops]
        cell, wait = cell[stops], self._wait[rows]
        for rank in range(ranks):
            left_w = np.where(rank >= wait, holds.empty_w[rows], market.least_w[rows])
            used[:, rank] += np.bincount(cell, part * (left_w - runs_w[rows]), len(used))
        return used.reshape(market.parties, masks, ranks)


class Sellers:
    """Residents by the party whose nodes would stop them. Who spans several belongs to each by the `share`
    that it could stop, so that what each party earns is convex in the prices.

    Per hold of each seller: `seller`, `hold`, `party`.
    """

    def __init__(self, market: Market, idle: Ints) -> None:
        """`idle` are residents who could free no GPU: each at home."""
        items, holds, parties = market.items, market.problem.holds, market.parties
        there = market.party[market.zones.mask[market.zones.of_pool[items.pool]]]
        self._idle = idle
        key, of = np.unique(
            np.concatenate([items.resident * parties + there, idle * parties + market.home[idle]]),
            return_inverse=True,
        )
        self._freed, self._of_item, self._of_idle = items.share, of[: len(there)], of[len(there) :]
        self.share: Floats = totals(of, np.concatenate([items.share, np.ones(len(idle))]), len(key))
        self._resident, self._party, self._parties = key // parties, key % parties, parties
        by_resident = np.argsort(holds.resident, kind="stable")
        held = np.bincount(holds.resident, minlength=len(market.home))
        count = held[key // parties]
        first = (np.cumsum(held) - held)[key // parties]
        self.seller: Ints = np.repeat(np.arange(len(key)), count)
        offset = np.arange(len(self.seller)) - np.repeat(np.cumsum(count) - count, count)
        self.hold: Ints = by_resident[np.repeat(first, count) + offset]
        self.party: Ints = (key % parties)[self.seller]

    def gone(self, stopped: Bools, gives_up: Bools) -> Floats:
        """Per seller: the share of it that stops. `stopped` is per item, `gives_up` per resident."""
        share = totals(self._of_item, self._freed * stopped, len(self.share))
        share[self._of_idle] += gives_up[self._idle]
        return share

    def by_party(self, earned: Floats) -> Floats:
        """What residents earn, per party."""
        return totals(self._party, self.share * earned[self._resident], self._parties)

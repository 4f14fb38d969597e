"""Caps for everybody once it is settled who runs where: within every domain, worth as much as possible.

Begins at the caps that the prices suggest; takes watts back where a domain has too few, from whom they help
least; gives out what is left where it earns most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.market import Market
from scheduler.placing.room import FITS_W, Room

ROUNDS = 40
RISES = 8
NOTHING = 1e-12


@dataclass(frozen=True)
class Placed:
    """Starts with their parts: group, kind and settable per start; start, pool and GPUs per part."""

    group: Ints
    rank: Ints
    kind: Ints
    settable: Bools
    part_start: Ints  # sorted
    part_pool: Ints
    part_gpus: Ints

    def __len__(self) -> int:
        return len(self.group)

    def without(self, gone: Bools) -> Placed:
        number = np.cumsum(~gone) - 1
        parts = ~gone[self.part_start]
        return Placed(
            self.group[~gone],
            self.rank[~gone],
            self.kind[~gone],
            self.settable[~gone],
            number[self.part_start[parts]],
            self.part_pool[parts],
            self.part_gpus[parts],
        )


class Leveling:
    """Residents and starts as climbers on ladders: a column each, residents first, lowest cap first."""

    def __init__(self, market: Market, placed: Placed, stopped: Bools) -> None:
        self._market, self.placed, self.stopped = market, placed, stopped
        problem, stays = market.problem, market.stays
        self._residents = len(problem.residents)
        self._offer = _offers_of(market, placed)
        offers, gpus = problem.offers, problem.groups.gpus[placed.group]
        there = self._offer >= 0
        cap_w = np.where(there, offers.cap_w[self._offer], 0.0)
        worth = np.where(there, offers.worth[self._offer] * gpus, -np.inf)
        deep = max(len(cap_w), len(stays.cap_w))
        self.cap_w = np.concatenate([_deepened(stays.cap_w, deep, 0.0), _deepened(cap_w, deep, 0.0)], axis=1)
        self.worth = np.concatenate(
            [_deepened(stays.worth, deep, -np.inf), _deepened(worth, deep, -np.inf)], axis=1
        )
        self.worth[:, : self._residents][:, stopped] = -np.inf  # they climb no more
        self.rank = np.concatenate([np.zeros(self._residents, dtype=np.int64), placed.rank])
        self.step = np.zeros(self.cap_w.shape[1], dtype=np.int64)
        self.room = Room(market)
        self._load_pieces()

    def _load_pieces(self) -> None:
        """Climber, tight domain and watts per watt of cap, wherever a climber counts under a tight domain."""
        problem, placed, above = self._market.problem, self.placed, self.room.above
        pools, holds = problem.pools, problem.holds
        hold, hold_domain = self._market.tight_holds
        here = above[pools.leaf[placed.part_pool]]
        part, column = np.nonzero(here >= 0)
        climber = np.concatenate([holds.resident[hold], self._residents + placed.part_start[part]])
        domain = np.concatenate([hold_domain, here[part, column]])
        counts = placed.part_gpus * pools.settable[placed.part_pool]
        per_cap = np.concatenate([holds.steered[hold], counts[part]])
        domains, some = max(1, len(self.room.tight)), per_cap > 0
        total = np.bincount(climber[some] * domains + domain[some], per_cap[some]).astype(np.float64)
        key = np.nonzero(total)[0]
        self._piece_w, self._piece_climber, self._piece_domain = total[key], key // domains, key % domains
        self._piece_start = np.searchsorted(self._piece_climber, np.arange(len(self.step) + 1))
        self._limited = np.nonzero(np.diff(self._piece_start))[0]  # climbers under some tight domain

    def begin(self, resident_step: Ints, watt_price: Floats) -> None:
        """Residents as suggested, starts at their best; `watt_price` is per tight domain and rank."""
        self.step[: self._residents] = resident_step
        total = np.cumsum(watt_price[:, ::-1], axis=1)[:, ::-1]
        paid = self._piece_w * total[self._piece_domain, self.rank[self._piece_climber]]
        price = np.bincount(self._piece_climber, paid, len(self.step))[self._residents :]
        earned = self.worth[:, self._residents :] - price * self.cap_w[:, self._residents :]
        if earned.shape[1]:
            self.step[self._residents :] = earned.argmax(axis=0)
        self.recount()

    def recount(self) -> None:
        """Room left under everybody's present cap."""
        problem, placed = self._market.problem, self.placed
        option = self._market.stays.option[self.step[: self._residents], np.arange(self._residents)]
        self.room.settle(self.stopped, option)
        cap_w = self.cap_w[self.step, np.arange(len(self.step))][self._residents + placed.part_start]
        watts = placed.part_gpus * problem.pools.loaded_w(placed.part_pool, cap_w)
        self.room.load(problem.pools.leaf[placed.part_pool], watts, placed.rank[placed.part_start])

    def repair(self) -> None:
        """Lower caps until every domain holds, as far as they can be lowered."""
        for _ in range(ROUNDS):
            short = np.nonzero((self.room.left_w < -FITS_W).any(axis=1))[0]
            if not len(short):
                break
            moved = False
            for domain in short[::-1]:  # children after their parents in the tree, so from the leaves up
                moved |= self._lower(int(domain))
            self.recount()
            if not moved:
                break

    def _under(self, domain: int) -> tuple[Ints, Floats]:
        rows = np.nonzero(self._piece_domain == domain)[0]
        return self._piece_climber[rows], self._piece_w[rows]

    def _lower(self, domain: int) -> bool:
        """One step down for as many as it takes, those first whom it costs least per watt."""
        left = self.room.left_w[domain]
        rank = int(np.argmin(left))
        need_w = -float(left[rank])
        if need_w <= FITS_W:
            return False
        climber, per_cap = self._under(domain)
        able = (self.step[climber] > 0) & (self.rank[climber] <= rank)
        residents = climber < self._residents
        able &= ~(residents & np.append(self.stopped, True)[np.minimum(climber, self._residents)])
        climber, per_cap = climber[able], per_cap[able]
        if not len(climber):
            return False
        step = self.step[climber]
        saved_w = per_cap * (self.cap_w[step, climber] - self.cap_w[step - 1, climber])
        cost = self.worth[step, climber] - self.worth[step - 1, climber]
        order = np.argsort(cost / np.maximum(saved_w, 1e-9), kind="stable")
        enough = int(np.searchsorted(np.cumsum(saved_w[order]), need_w)) + 1
        chosen = climber[order[:enough]]
        self.step[chosen] -= 1
        rows = np.isin(self._piece_climber, chosen)
        who = self._piece_climber[rows]
        back_w = self._piece_w[rows] * (self.cap_w[self.step[who] + 1, who] - self.cap_w[self.step[who], who])
        given = np.zeros(self.room.left_w.shape)
        for column in range(self.room.ranks):
            mine = self.rank[who] <= column
            given[:, column] = np.bincount(self._piece_domain[rows][mine], back_w[mine], len(given))
        self.room.left_w += given
        return True

    def too_many(self) -> Bools:
        """Starts to give up, least worth per GPU first, for domains that do not hold even so."""
        short = np.nonzero((self.room.left_w < -FITS_W).any(axis=1))[0]
        gone = np.zeros(len(self.placed), dtype=bool)
        problem, placed = self._market.problem, self.placed
        number = self._residents + np.arange(len(placed))
        cap_w = self.cap_w[self.step[number], number]
        part_w = placed.part_gpus * problem.pools.loaded_w(placed.part_pool, cap_w[placed.part_start])
        each = self.worth[self.step[number], number] / problem.groups.gpus[placed.group]
        above = self.room.above[problem.pools.leaf[placed.part_pool]]
        for domain in short:
            rank = int(np.argmin(self.room.left_w[domain]))
            need_w = -float(self.room.left_w[domain, rank])
            here = (above == domain).any(axis=1)
            under_w = np.bincount(placed.part_start[here], part_w[here], len(placed))
            need_w -= float(under_w[gone].sum())
            able = np.nonzero((under_w > 0) & ~gone & (placed.rank <= rank))[0]
            order = able[np.argsort(each[able], kind="stable")]
            enough = int(np.searchsorted(np.cumsum(under_w[order]), need_w)) + 1 if need_w > 0 else 0
            gone[order[:enough]] = True
        return gone

    def rise(self) -> None:
        """Watts that are left go where they earn most, as far as every domain over a climber allows."""
        now = self.worth[self.step, np.arange(len(self.step))]
        hungry = np.nonzero(np.isfinite(now) & (self.worth.max(axis=0, initial=-np.inf) > now + NOTHING))[0]
        piece_w = np.bincount(self._piece_climber, self._piece_w, len(self.step))
        for _ in range(RISES):
            hungry = self._rise_once(hungry, np.maximum(piece_w, 1e-9))
            if not len(hungry):
                return
            self.recount()

    def _rise_once(self, climber: Ints, piece_w: Floats) -> Ints:
        """Lift who earns most by it per watt; the climbers that may hope for more, none if nobody rose."""
        step = self.step[climber]
        now_w, now = self.cap_w[step, climber], self.worth[step, climber]
        best, target = np.zeros(len(climber)), step.copy()
        most_w = self._headroom()[climber] + FITS_W
        for higher in range(1, len(self.worth)):
            more_w = self.cap_w[higher, climber] - now_w
            gain = self.worth[higher, climber] - now
            able = (higher > step) & (gain > NOTHING) & (more_w <= most_w)
            slope = np.where(able, gain / np.maximum(more_w * piece_w[climber], 1e-9), 0.0)
            better = slope > best
            best[better], target[better] = slope[better], higher
        rows = np.nonzero(best > 0.0)[0]
        rows = rows[np.argsort(-best[rows], kind="stable")]
        rows = rows[
            self._first_that_fit(climber[rows], self.cap_w[target[rows], climber[rows]] - now_w[rows])
        ]
        self.step[climber[rows]] = target[rows]
        return climber[best > 0.0] if len(rows) else climber[:0]

    def _headroom(self) -> Floats:
        """Per climber: the most by which its cap may rise."""
        least = np.minimum.accumulate(self.room.left_w[:, ::-1], axis=1)[:, ::-1]
        room = least[self._piece_domain, self.rank[self._piece_climber]] / self._piece_w
        most = np.full(len(self.step), np.inf)
        if len(room):
            most[self._limited] = np.minimum.reduceat(room, self._piece_start[self._limited])
        return most

    def _first_that_fit(self, climber: Ints, more_w: Floats) -> Bools:
        """Of climbers in order, those that all fit together."""
        least = np.minimum.accumulate(self.room.left_w[:, ::-1], axis=1)[:, ::-1] + FITS_W
        number = self._piece_start[climber + 1] - self._piece_start[climber]
        of = np.repeat(np.arange(len(climber)), number)
        offset = np.arange(len(of)) - np.repeat(np.cumsum(number) - number, number)
        piece = self._piece_start[climber][of] + offset
        order = np.argsort(self._piece_domain[piece], kind="stable")
        piece, of = piece[order], of[order]
        domain = self._piece_domain[piece]
        total = np.cumsum(self._piece_w[piece] * more_w[of])
        first = np.concatenate([[True], domain[1:] != domain[:-1]]) if len(domain) else np.zeros(0, bool)
        before = np.concatenate([[0.0], total])[:-1][first]
        fits = total - before[np.cumsum(first) - 1] <= least[domain, self.rank[climber[of]]]
        ok = np.ones(len(climber), dtype=bool)
        ok[of[~fits]] = False
        return ok

    @property
    def offer(self) -> Ints:
        """Per start: the row of the offer it runs at."""
        found: Ints = self._offer[self.step[self._residents :], np.arange(len(self.placed))]
        return found


def _deepened(rows: Floats, deep: int, fill: float) -> Floats:
    missing = deep - len(rows)
    return np.concatenate([rows, np.full((missing, rows.shape[1]), fill)]) if missing else rows


def _offers_of(market: Market, placed: Placed) -> Ints:
    """Rows of the offers of each start, lowest cap first, a column each; -1 where there are no more."""
    offers = market.problem.offers
    kinds = int(max(offers.kind.max(initial=0), placed.kind.max(initial=0))) + 1
    key = offers.group * kinds + offers.kind
    wanted = placed.group * kinds + placed.kind
    low, high = np.searchsorted(key, wanted), np.searchsorted(key, wanted, side="right")
    deep = int((high - low).max(initial=1))
    rows = low + np.arange(deep)[:, None]
    rows = np.where(rows < high, rows, -1)
    only_top = ~placed.settable & ~np.where(rows >= 0, offers.top[rows], False)
    rows = np.where(only_top, -1, rows)
    return np.where(rows < 0, -1, rows)

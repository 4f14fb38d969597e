"""Placement for large sites: prices that nearly clear the market, an answer built along them, and a bound.

1. `market`, `dual`, `prices`: prices of watts and of parts of nodes; their Lagrangian value is the bound.
2. `mixing`: at those prices many are indifferent; how often each wish should be granted.
3. `packing`, `filling`: who starts where, and who stops for it, largest parts first.
4. `leveling`: caps, within the watts of every domain.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.dual import Dual
from scheduler.placing.filling import Filling, FillPrices
from scheduler.placing.leveling import Leveling, Placed
from scheduler.placing.market import Market
from scheduler.placing.mixing import mixed, whole_members
from scheduler.placing.node_fill import best_fill
from scheduler.placing.packing import Packing
from scheduler.placing.prices import Found, Remembered, clear
from scheduler.placing.problem import Choice, PlacementProblem
from scheduler.placing.room import FITS_W, Room

ROUNDS = 36  # looks at the market; each costs about as much as the next
WARM_ROUNDS = 8
CLOSE = 3e-4  # of what could be gained over leaving all as it is
PRICE_SHARE = 0.6  # of the time limit
INDIFFERENT = 1e-3  # share of the dearest part's price: who would lose no more than that may start, too
GOOD_GAP = 0.003  # with a larger one other ways of rounding are tried, while there is time
TURNS = (0.25, 0.5, 0.75, 0.125, 0.625)
TURN_SHARE = 0.25  # of the time limit, by which the last of them must be done
LOOSER = 1.5  # a quick answer may be this much further from its bound than the last full one was


@dataclass(frozen=True)
class Warm:
    """What a solve leaves for the next one: prices, and how far its answer was from its bound."""

    prices: Remembered
    slack: float


def solve_large(
    problem: PlacementProblem, *, time_limit_s: float, warm: Warm | None = None
) -> tuple[Choice, Warm]:
    """An answer with its bound. Prices are sought no longer than the time limit allows; one look at them and
    one answer are always made, whatever that takes.

    With `warm` prices a quick answer comes first, in which residents stay as they are where they can; it is
    taken where it is about as near to its bound as the last full one.
    """
    began_s = time.perf_counter()
    market = Market(problem)
    dual = Dual(market)
    if warm is not None:
        found = clear(dual, start=warm.prices, rounds=1, close=CLOSE, until_s=began_s)
        choice = _Builder(market, dual, found, began_s).quick()
        slack = choice.bound - choice.value
        if slack <= LOOSER * warm.slack or time.perf_counter() - began_s >= PRICE_SHARE * time_limit_s:
            return choice, warm
    found = clear(
        dual,
        start=None if warm is None else warm.prices,
        rounds=ROUNDS if warm is None else WARM_ROUNDS,
        close=CLOSE,
        until_s=began_s + PRICE_SHARE * time_limit_s,
    )
    builder = _Builder(market, dual, found, began_s)
    priced_s = time.perf_counter() - began_s
    choice = builder.full()
    built_s = time.perf_counter() - began_s - priced_s
    for turn in TURNS:
        late = time.perf_counter() - began_s + built_s > TURN_SHARE * time_limit_s
        if late or choice.bound - choice.value <= GOOD_GAP * (choice.bound - choice.unchanged):
            break
        choice = builder.better(choice, builder.full(turn))
    return choice, Warm(found.scale.remember(found.point), choice.bound - choice.value)


class _Builder:
    """Answers along prices."""

    def __init__(self, market: Market, dual: Dual, found: Found, began_s: float) -> None:
        self._market, self._dual, self._found, self._began_s = market, dual, found, began_s
        self._prices = found.scale.prices(found.point)
        problem = market.problem
        self._watt_price = np.zeros((len(problem.tight), self._prices.watt.shape[1]))
        self._watt_price[np.searchsorted(problem.tight, market.priced)] = self._prices.watt
        self._habits = dual.habits(self._prices)
        price = found.verdict.part_price
        self._fill = FillPrices(best_fill(market.states, price).money, price)
        self._residents = np.arange(len(problem.residents))

    def full(self, turn: float = 0.0) -> Choice:
        """Everybody may move; another `turn` (0..1) rounds in another way."""
        market, count = self._market, self._market.problem.groups.count
        wishes = mixed(market, self._found, turn)
        packing = self._packing(wishes.step, may_stop=self._sellers(wishes.stops))
        packing.stop(np.nonzero(wishes.stops)[0])
        part_w = np.where(wishes.part_w > 0, wishes.part_w, self._habits.part_w)
        filling = Filling(market, packing, replace(self._habits, part_w=part_w), self._fill)
        filling.fill(whole_members(wishes.members, count, turn), stop=True)
        self._make_room(packing, np.minimum(wishes.step, self._frugal()))
        self._fill_up(packing)
        packing.resume_unused()
        choice = self._finish(packing, wishes.step)
        return choice if choice.value >= choice.unchanged else self.better(choice, self.quick())

    def quick(self) -> Choice:
        """Residents stay as they are, as far as watts allow, but for those whom a start pays to stop."""
        choice = self._from_now(self._sellers())
        return (
            choice
            if choice.value >= choice.unchanged
            else self.better(choice, self._from_now(self._residents[:0]))
        )

    def _from_now(self, may_stop: Ints) -> Choice:
        step = self._unchanged()
        packing = self._packing(step, may_stop=may_stop)
        if (packing.room.left_w < -FITS_W).any():
            step = self._make_room(packing, step)
        self._fill_up(packing)
        packing.resume_unused()
        return self._finish(packing, step)

    def _sellers(self, besides: Bools | None = None) -> Ints:
        """Residents whose every GPU would be sold at these prices, and those marked."""
        items, sold = self._market.items, self._found.verdict.stopped
        some, kept = (
            np.bincount(items.resident[rows], minlength=len(self._residents)) for rows in (sold, ~sold)
        )
        sells = (some > 0) & (kept == 0)
        return np.nonzero(sells if besides is None else sells | besides)[0]

    def better(self, one: Choice, other: Choice) -> Choice:
        best = one if one.value >= other.value else other
        return replace(best, solve_s=time.perf_counter() - self._began_s)

    def _unchanged(self) -> Ints:
        """Steps of residents as they are now; the lowest for one that nothing is said of."""
        options, stays = self._market.problem.options, self._market.stays
        now = (stays.option >= 0) & options.unchanged[stays.option]
        step: Ints = now.argmax(axis=0)
        return step

    def _frugal(self) -> Ints:
        """Steps of residents at these prices: as many watts as they pay for, and no more."""
        return self._dual.steps_at(self._prices)

    def _packing(self, step: Ints, *, may_stop: Ints) -> Packing:
        market = self._market
        option = market.stays.option[step, self._residents]
        room = Room(market)
        nobody = np.zeros(len(self._residents), dtype=bool)
        room.settle(nobody, option)
        stopping = nobody.copy()
        stopping[may_stop] = True
        return Packing(market, room, stopping=stopping, loss=self._found.verdict.stop_loss, option=option)

    def _make_room(self, packing: Packing, step: Ints) -> Ints:
        """Lower caps until all fits; the steps of residents, with what is left entered in the packing."""
        leveling = self._leveled(packing.placed(), packing, step)
        step = leveling.step[self._residents].copy()
        packing.now_left(leveling.room, self._market.stays.option[step, self._residents])
        return step

    def _fill_up(self, packing: Packing) -> None:
        """More starts, where they pay; then wherever GPUs would be idle."""
        market = self._market
        count, price = market.problem.groups.count, self._fill.price
        gain = self._habits.value - price[:, market.size, market.rank]
        pays = gain > -INDIFFERENT * max(0.0, float(price.max(initial=0.0)))
        filling = Filling(market, packing, self._habits, self._fill)
        filling.fill(np.where(pays, count, 0), stop=True)
        gangs = np.nonzero((market.problem.groups.nodes != 1) & pays.any(axis=0) & (packing.waiting > 0))[0]
        filling.spread(gangs, stop=True)
        filling.fill(np.where(np.isfinite(gain), count, 0), stop=False)
        if packing.waiting.any():
            thrifty = self._dual.habits(self._prices, least=True)
            filling = Filling(market, packing, thrifty, self._fill)
            filling.fill(np.where(np.isfinite(gain), packing.waiting, 0), stop=False)
            filling.spread(
                np.nonzero((market.problem.groups.nodes != 1) & (packing.waiting > 0))[0], stop=False
            )

    def _leveled(self, placed: Placed, packing: Packing, step: Ints) -> Leveling:
        leveling = Leveling(self._market, placed, packing.stopped)
        leveling.begin(step, self._watt_price)
        leveling.repair()
        return leveling

    def _finish(self, packing: Packing, step: Ints) -> Choice:
        """Caps that fit, as high as they pay; starts that cannot fit are given up."""
        placed = packing.placed()
        while True:
            leveling = self._leveled(placed, packing, step)
            gone = leveling.too_many()
            if not gone.any():
                break
            placed = placed.without(gone)
        leveling.rise()
        return self._choice(leveling)

    def _choice(self, leveling: Leveling) -> Choice:
        market, problem, placed = self._market, self._market.problem, leveling.placed
        options, offers, groups = problem.options, problem.offers, problem.groups
        option = market.stays.option[leveling.step[self._residents], self._residents]
        option = np.where(leveling.stopped, market.stop_option, option)
        order, job = _members(groups.member_start, groups.member, placed.group)
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        parts = np.argsort(place[placed.part_start], kind="stable")
        offer = leveling.offer[order]
        value = float(options.worth[option].sum())
        value += float((offers.worth[offer] * groups.gpus[placed.group[order]]).sum())
        return Choice(
            option=option,
            start_job=job,
            start_group=placed.group[order],
            start_cap_w=offers.cap_w[offer],
            part_start=np.searchsorted(place[placed.part_start][parts], np.arange(len(order) + 1)),
            part_pool=placed.part_pool[parts],
            part_gpus=placed.part_gpus[parts],
            value=value,
            bound=max(value, self._found.verdict.bound),
            unchanged=float(options.worth[options.unchanged].sum()),
            domain_price=self._domain_price(),
            solve_s=time.perf_counter() - self._began_s,
        )

    def _domain_price(self) -> Floats:
        price = np.zeros(len(self._market.problem.index.names))
        price[self._market.priced] = self._prices.watt.sum(axis=1)
        return price


def _members(member_start: Ints, member: Ints, group: Ints) -> tuple[Ints, Ints]:
    """(starts sorted by group, the job of each): the oldest members of a group are those that start."""
    order = np.argsort(group, kind="stable")
    sorted_group = group[order]
    first = np.searchsorted(sorted_group, sorted_group)
    return order, member[member_start[sorted_group] + np.arange(len(order)) - first]

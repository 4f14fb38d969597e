"""From a planning problem to windows with a certificate: prices, a bound from them, and runs that fit."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from scheduler.plan.bound import FEW_JOBS, MANY_JOBS, Dual, dual_bound, polished
from scheduler.plan.classes import compressed
from scheduler.plan.disaggregate import FEW, Placing, order_of
from scheduler.plan.improve import improve, value_of
from scheduler.plan.prices import SlotPrices
from scheduler.plan.problem import PlanProblem
from scheduler.plan.relax import Relaxed, relax
from scheduler.plan.room import Room
from scheduler.plan.runs import NEVER, Chosen

log = logging.getLogger("wattmill.plan")

STAND_INS = 1500  # jobs that stand for all in the search for prices
GOOD_GAP = 0.01  # prices of the last plan that still lead to this are good enough
# Shares of the time limit, by when each part must be done.
LP_SHARE, POLISH_SHARE, PLACE_SHARE = 0.25, 0.35, 0.9
SCARCE = 0.1  # mean price of a GPU-hour, in values of its work, from which it is scarce throughout
SMALLER = 0.95  # the site at whose prices jobs are placed
FEW_ALONE = 200  # jobs, up to which each of them moves prices
WALKS = 3  # down the dual; more only where the last one led lower
LONGER = 1.2  # as long as another placing may take
GREEDY = "greedy windows: no LP in the time limit"
LAST_PRICES = "last plan's prices: no LP in the time limit"
ENOUGH_GAP, ENOUGH_OF_MANY = 1e-6, 1e-3  # below it nothing is left to seek; where jobs are many


@dataclass(frozen=True, kw_only=True)
class Solved:
    """`value` and `bound` are money gained over deferring nothing into the slots; see `gap`."""

    chosen: Chosen
    prices: SlotPrices
    value: float
    bound: float
    fallback: str | None = None

    @property
    def gap(self) -> float:
        """(bound - value) / (bound - 0): doing nothing, all runs on as it does, gains 0 by definition."""
        return (self.bound - self.value) / max(self.bound, 1e-9)


@dataclass
class _Clock:
    """Shares of a time limit."""

    limit_s: float
    began_s: float = field(default_factory=time.perf_counter)

    def at(self, share: float) -> float:
        return self.began_s + share * self.limit_s

    def left_s(self, share: float) -> float:
        return self.at(share) - time.perf_counter()


def solve(problem: PlanProblem, *, time_limit_s: float, first: SlotPrices | None = None) -> Solved:
    """The best plan found. With `first`, prices of an earlier plan, many jobs are placed at these before the
    LP is tried, and instead of it where that does well; FEW_ALONE go without it where no peak is paid for,
    and in between they stand in for an LP that finds no time.

    Where time runs out the answer is what there is by then, and `fallback` names what was left out.
    """
    clock = _Clock(time_limit_s)
    if not len(problem.offers):
        return Solved(chosen=_nobody(problem), prices=SlotPrices.zero(problem), value=0.0, bound=0.0)
    stand_ins = compressed(problem, STAND_INS)
    warm: Solved | None = None
    if first is not None and len(problem.work) > FEW:
        prices = _priced(stand_ins, first, clock)
        warm = _placed(problem, prices, clock, rises_w=(np.inf, 0.0), thorough=False)
        if warm.gap <= GOOD_GAP:
            return warm
        clock = _Clock(clock.left_s(1.0))
    known = first is not None and len(problem.work) <= FEW_ALONE and problem.site.rise_price_per_w <= 0
    relaxed = None if known else _relaxed(problem, clock.left_s(LP_SHARE))
    if relaxed is None and warm is not None:
        return replace(warm, fallback=_both(LAST_PRICES, warm.fallback))
    start, rise_w = (first or SlotPrices.zero(problem), 0.0)
    if relaxed is not None:
        start, rise_w = relaxed.prices, relaxed.rise_w
    prices = _priced(stand_ins, start, clock)
    cold = _placed(problem, prices, clock, rises_w=(rise_w, np.inf, 0.0), thorough=True)
    if relaxed is None and not known:
        return replace(cold, fallback=_both(GREEDY if first is None else LAST_PRICES, cold.fallback))
    return cold if warm is None else _joined(cold, warm)


@dataclass(frozen=True)
class _Priced:
    """Prices for the bound, and those to place at: of a site a little smaller, so that what is just enough
    already has a price, and who can do without it does."""

    bound: SlotPrices
    place: SlotPrices


def _priced(stand_ins: PlanProblem, start: SlotPrices, clock: _Clock) -> _Priced:
    site = stand_ins.site
    smaller = replace(site, gpus=site.gpus * SMALLER, watts=site.watts * SMALLER)
    until_s = clock.at(POLISH_SHARE)
    if len(stand_ins.work) <= FEW_ALONE:
        prices = polished(stand_ins, start, walk=FEW_JOBS, walks=WALKS, until_s=until_s)
        return _Priced(prices, prices)
    place = polished(replace(stand_ins, site=smaller), start, walk=MANY_JOBS, walks=1, until_s=until_s)
    return _Priced(polished(stand_ins, place, walk=MANY_JOBS, walks=WALKS, until_s=until_s), place)


def _relaxed(problem: PlanProblem, time_limit_s: float) -> Relaxed | None:
    try:
        return relax(problem, time_limit_s=time_limit_s)
    except (RuntimeError, ValueError):  # what MathOpt raises for a model or solver that is broken
        log.exception("the LP failed")
        return None


def _placed(
    problem: PlanProblem, prices: _Priced, clock: _Clock, *, rises_w: tuple[float, ...], thorough: bool
) -> Solved:
    """The best of some placings at these prices: as many as there is time for, and at least one.

    Not `thorough`: one for each rise of the peak, and no search for better ones.
    """
    bound = dual_bound(problem, prices.bound)
    dual = Dual(problem)
    most = Solved(chosen=_nobody(problem), prices=prices.bound, value=0.0, bound=bound)
    enough = (1.0 - (ENOUGH_GAP if len(problem.work) <= FEW else ENOUGH_OF_MANY)) * bound
    rises_w = rises_w if problem.site.rise_price_per_w > 0 else rises_w[:1]
    starts = _starts(problem, prices.place)
    tries = product(starts if thorough else starts[:1], rises_w)
    for number, ((price_step, at), rise_w) in enumerate(tries):
        began_s = time.perf_counter()
        placing = Placing(problem, Room(problem, rise_w), clock.at(PLACE_SHARE), price_step)
        best = dual.best(at)
        without = placing.at_prices(order_of(problem, best), at)
        placing.fill(without[np.argsort(-best.net[without], kind="stable")])
        if thorough:
            improve(placing, prices.place, enough=enough, until_s=clock.at(PLACE_SHARE), seed=number)
        value = value_of(problem, placing)
        late = f"{placing.hurried} jobs placed in haste: short of time" if placing.hurried else None
        if value > most.value:
            most = replace(most, chosen=placing.chosen(), value=value, fallback=late)
        took_s = time.perf_counter() - began_s
        if most.value >= enough or clock.left_s(PLACE_SHARE) < LONGER * took_s:
            break
    return most


def _starts(problem: PlanProblem, prices: SlotPrices) -> tuple[tuple[float, SlotPrices], ...]:
    """Price steps and prices to try, the likelier first: where little is scarce, prices have far to go when
    it becomes so. Of few jobs a search makes the rest: there it counts from where."""
    if len(problem.work) <= FEW:
        return (0.25, prices), (0.25, SlotPrices.zero(problem)), (1.0, prices)
    worth = float(np.median(problem.work.worth / (problem.work.gpus * problem.work.full_h)))
    scarce = float(prices.gpu_h.mean()) > SCARCE * worth
    return ((1.0, prices), (4.0, prices)) if scarce else ((4.0, prices), (12.0, prices))


def _joined(one: Solved, other: Solved) -> Solved:
    """The more valuable plan under the lower bound."""
    most = one if one.value >= other.value else other
    lower = one if one.bound <= other.bound else other
    return replace(most, bound=lower.bound, prices=lower.prices)


def _both(first: str, second: str | None) -> str:
    return first if second is None else f"{first}; {second}"


def _nobody(problem: PlanProblem) -> Chosen:
    none = np.full(len(problem.work), -1, dtype=np.int64)
    return Chosen(np.full(len(problem.work), NEVER), none, none, none)

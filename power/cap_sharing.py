"""The watts of scarce domains to the jobs under them; everybody else gets what they want. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from power.arrays import Floats, Ints
from power.cap_gains import GainTable
from power.cap_gangs import fitted, raised
from power.cap_levels import Demand, Filled, fill
from power.cap_prices import Asked, Buyers, Market, clearing_prices, closer_prices, dual_bound
from power.cap_scarce import FITS_W, Holdings, Parts, Scarce
from power.tree_index import OUTSIDE, TreeIndex

SAME_W: Final = 1e-3  # caps closer than this are one

_GOOD_ENOUGH = 1e-4  # a relative gap not worth another pass
_PASSES = 4  # at most, where gangs leave a larger one
_MENDS = 2  # passes that take back the watts that a bend of a curve got for nothing


@dataclass(frozen=True)
class Wanted:
    """Jobs with floors that fit every domain: columns per job, watts per GPU."""

    table: GainTable
    of_class: Ints
    gpus: Floats
    floor_w: Floats
    ceiling_w: Floats
    holdings: Holdings

    @cached_property
    def economic_w(self) -> Floats:
        """The caps where watts cost nothing: more would bring nothing."""
        return self.table.wanted_w(self.of_class, self.floor_w, self.ceiling_w)


@dataclass(frozen=True)
class Shared:
    """Caps, the column of the domain that holds each below its economic cap (OUTSIDE for none), and what no
    split can beat."""

    cap_w: Floats
    binding: Ints
    bound: float


def share_out(wanted: Wanted, index: TreeIndex, available_w: Floats) -> Shared:
    """The best caps found within `available_w` (per column of the tree)."""
    own_w, own_domain = _alone(wanted, index, available_w)
    ceiling_w = np.minimum(wanted.ceiling_w, own_w)
    cap_w = np.minimum(wanted.economic_w, own_w)
    binding = np.where(cap_w < wanted.economic_w - SAME_W, own_domain, OUTSIDE)
    scarce = wanted.holdings.used_w(index, cap_w) > available_w + FITS_W
    prices, sold = [np.zeros(len(cap_w))], [0.0]
    if scarce.any():
        rows, market = _market(wanted, Scarce.of(index, scarce, available_w), cap_w)
        split = _split(market)
        cap_w[rows] = split.cap_w
        held = split.cap_w < market.ceiling_w - SAME_W
        binding[rows[held]] = market.scarce.column[_binding(market, split)[held]]
        prices, sold = [], []
        for price in split.prices:
            prices.append(np.zeros(len(cap_w)))
            prices[-1][rows] = market.job_prices(price)
            sold.append(float((price * market.scarce.available_w).sum()))
    bounds = [
        sale + dual_bound(wanted.table, wanted.of_class, wanted.gpus, wanted.floor_w, ceiling_w, price)
        for price, sale in zip(prices, sold, strict=True)
    ]
    return Shared(cap_w, binding, min(bounds))


def _alone(wanted: Wanted, index: TreeIndex, available_w: Floats) -> tuple[Floats, Ints]:
    """A domain with one job under it is a ceiling on that job's cap, and no price is needed for it.

    Returns, per job, the lowest such ceiling and its column.
    """
    holdings, jobs = wanted.holdings, len(wanted.gpus)
    ceiling_w, domain = np.full(jobs, np.inf), np.full(jobs, OUTSIDE)
    over = holdings.used_w(index, wanted.economic_w) > available_w + FITS_W
    if over.any():
        least, most = np.full(len(over), jobs), np.full(len(over), OUTSIDE)
        np.minimum.at(least, holdings.leaf, holdings.job)
        np.maximum.at(most, holdings.leaf, holdings.job)
        for columns in reversed(index.by_depth[1:]):
            np.minimum.at(least, index.parent[columns], least[columns])
            np.maximum.at(most, index.parent[columns], most[columns])
        column = np.nonzero(over & (least == most))[0]
        cap_w = available_w[column] / holdings.used_w(index, np.ones(jobs))[column]
        order = np.argsort(-cap_w, kind="stable")  # the lowest is written last
        ceiling_w[least[column[order]]], domain[least[column[order]]] = cap_w[order], column[order]
    return np.maximum(ceiling_w, wanted.floor_w), domain


def _market(wanted: Wanted, scarce: Scarce, cap_w: Floats) -> tuple[Ints, Market]:
    """The jobs with GPUs under a scarce domain, and their rows."""
    parts = Parts.of(wanted.holdings, scarce, len(cap_w))
    inside = np.zeros(len(cap_w), dtype=bool)
    inside[parts.job] = True
    rows = np.nonzero(inside)[0]
    row_of = np.cumsum(inside) - 1
    market = Market(
        table=wanted.table,
        of_class=wanted.of_class[rows],
        gpus=wanted.gpus[rows],
        floor_w=wanted.floor_w[rows],
        ceiling_w=cap_w[rows],
        parts=replace(parts, job=row_of[parts.job], spans=parts.spans[rows]),
        scarce=scarce,
    )
    return rows, market


@dataclass(frozen=True)
class _Split:
    """Caps of the market's jobs, and prices of its domains: any of them prove a bound."""

    cap_w: Floats
    prices: tuple[Floats, ...]


def _split(market: Market) -> _Split:
    """Fill, and fill again where a bend had taken watts for nothing."""
    split = _filled(market)
    for _ in range(_MENDS):
        lowered_w = market.table.unbent_w(market.of_class, split.cap_w, market.floor_w)
        if (lowered_w >= split.cap_w - SAME_W).all():
            break
        held_w = np.where(lowered_w < split.cap_w - SAME_W, lowered_w, market.ceiling_w)
        again = _filled(replace(market, ceiling_w=held_w))
        split = _Split(again.cap_w, split.prices)
    return split


def _filled(market: Market) -> _Split:
    """Nested jobs by levels; where gangs span domains, around them."""
    parts = market.parts
    filled = _levels(market, parts, market.scarce.available_w)
    if not parts.spans.any():
        cap_w = market.ceiling_w.copy()
        cap_w[parts.job] = filled.cap_w
        return _Split(cap_w, (filled.prices(market.scarce),))
    # Gangs cut into parts that need not agree: their prices are near those of the gangs as they are.
    buyers = Buyers(market)
    asked = clearing_prices(buyers, filled.prices(market.scarce))
    split = _around(market, asked)
    for _ in range(_PASSES):
        value = _hull_value(market, split)
        if asked.dual - value <= _GOOD_ENOUGH * abs(asked.dual):
            break
        tried = clearing_prices(buyers, closer_prices(buyers, asked, value).prices)
        again = _around(market, tried)
        asked = min(asked, tried, key=lambda answer: answer.dual)
        split = max(split, again, key=lambda found: _hull_value(market, found))
    return _Split(split.cap_w, (asked.prices, split.prices[-1]))


def _around(market: Market, asked: Asked) -> _Split:
    """The gangs at the caps they ask for, as far as they fit; nested jobs by levels in what they leave."""
    parts, gangs = market.parts, market.parts.spans
    cap_w = fitted(market, asked.cap_w, gangs)
    nested = parts.only(~gangs[parts.job])
    taken_w = parts.only(gangs[parts.job]).used_w(market.scarce, cap_w)
    filled = _levels(market, nested, market.scarce.available_w - taken_w)
    cap_w[nested.job] = filled.cap_w
    return _Split(raised(market, cap_w, gangs), (asked.prices, filled.prices(market.scarce)))


def _hull_value(market: Market, split: _Split) -> float:
    return float((market.gpus * market.table.hull.at(market.of_class, split.cap_w)).sum())


def _levels(market: Market, parts: Parts, available_w: Floats) -> Filled:
    demand = Demand(
        of_class=market.of_class[parts.job],
        home=parts.home,
        gpus=parts.gpus,
        floor_w=market.floor_w[parts.job],
        ceiling_w=market.ceiling_w[parts.job],
    )
    return fill(market.table.hull, demand, market.scarce, available_w)


def _binding(market: Market, split: _Split) -> Ints:
    """Per job, the scarce domain that asks most for a watt among the full ones over it; where none is full,
    the one with the least room."""
    scarce, parts = market.scarce, market.parts
    room_w = scarce.available_w - parts.used_w(scarce, split.cap_w)
    price = split.prices[-1]
    score = np.where(room_w <= SAME_W, 1.0 + price / (price.max() + 1e-300), -room_w)
    on_path = np.append(score, -np.inf)[scarce.above]
    best = on_path.argmax(axis=1)  # the outermost of equals
    rows = np.arange(len(scarce))
    domain, score = scarce.above[rows, best], on_path[rows, best]
    order = np.argsort(score[parts.home], kind="stable")  # the highest is written last
    binding = np.zeros(len(market.gpus), dtype=np.int64)
    binding[parts.job[order]] = domain[parts.home[order]]
    return binding

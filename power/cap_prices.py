"""Prices of a watt in each scarce domain where gangs span them, and the bound that any prices prove. Pure.

A gang takes watts from several domains at one cap and pays the mean of their prices. The prices minimise the
Lagrangian dual: Newton steps on the demands smoothed between the columns of the hull, each accepted only if
the dual itself falls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.cap_gains import GainTable, Hull, compressed
from power.cap_scarce import FITS_W, Parts, Scarce

_ROUNDS = 25
_EDGE_ROUNDS = 30
_SHORTER = 0.3
_TRIES = 11
_CLOSED = 1e-6  # relative: a fall of the dual not worth another round
_DENSE = 30_000_000  # multiplications that one exact Newton step may take
_DUST = 1e-9  # relative: float error of sums over the site


@dataclass(frozen=True)
class Market:
    """The jobs that want watts of scarce domains: columns per job, and their parts."""

    table: GainTable
    of_class: Ints
    gpus: Floats  # all GPUs of the job
    floor_w: Floats
    ceiling_w: Floats
    parts: Parts
    scarce: Scarce

    def job_prices(self, prices: Floats) -> Floats:
        """What each job pays for one watt more on every GPU, per GPU."""
        path = self.scarce.path_sums(prices)
        parts = self.parts
        paid = np.bincount(parts.job, parts.gpus * path[parts.home], len(self.gpus))
        per_gpu: Floats = paid / self.gpus
        return per_gpu


def dual_bound(
    table: GainTable, of_class: Ints, gpus: Floats, floor_w: Floats, ceiling_w: Floats, price: Floats
) -> float:
    """Money per hour that jobs cannot exceed when they pay `price` (per job) for every watt of cap: each at
    what is best for it, on a hull that lies above every true gain. The watts sold are still to be added."""
    upper = table.upper
    asked_w = upper.cap_w(of_class, upper.count(of_class, price, ties=False))
    cap_w = np.clip(asked_w, floor_w, ceiling_w)
    gains = upper.at(of_class, cap_w)
    return float((gpus * (gains - price * cap_w)).sum() + _DUST * (gpus * np.abs(gains)).sum())


@dataclass(frozen=True)
class Asked:
    """The answer to some prices of the scarce domains."""

    prices: Floats
    dual: float  # money per hour: no caps on the hulls are worth more
    exact_w: Floats  # per job: the best cap at these prices
    cap_w: Floats  # per job: the same, smoothed between the columns
    elasticity: Floats  # per job: watts of cap less for a price higher by one
    overdrawn_w: Floats  # per scarce domain, by the smoothed caps


def clearing_prices(buyers: Buyers, prices: Floats) -> Asked:
    """Newton steps towards the least dual, from a first guess."""
    asked = buyers.asked(prices)
    for _ in range(_ROUNDS):
        better = _step(buyers, asked)
        if better is None:
            break
        asked, fell = better, asked.dual - better.dual
        if fell <= _CLOSED * abs(asked.dual):
            break
    return asked


def _step(buyers: Buyers, asked: Asked) -> Asked | None:
    """Prices with a lower dual, or None."""
    free = (asked.prices > 0) | (asked.overdrawn_w > 0)
    change = buyers.newton(asked, free)
    for shortening in range(_TRIES):
        tried = np.maximum(0.0, asked.prices + change * _SHORTER**shortening)
        answer = buyers.asked(tried)
        if answer.dual < asked.dual:
            return answer
    return None


def closer_prices(buyers: Buyers, asked: Asked, value: float) -> Asked:
    """Where Newton's steps have stuck at an edge of the dual: subgradient steps by Polyak's rule towards a
    `value` that was reached, each bent towards the last against zigzag (Camerini, Fratta, Maffioli 1975)."""
    best, last = asked, np.zeros(len(asked.prices))
    for _ in range(_EDGE_ROUNDS):
        uphill = buyers.overdrawn_w(asked.exact_w)
        uphill[(asked.prices <= 0) & (uphill < 0)] = 0.0
        against = float((uphill * last).sum())
        if against < 0:
            uphill = uphill - 1.5 * against / float((last * last).sum()) * last
        square = float((uphill * uphill).sum())
        if square <= 0 or best.dual - value <= _CLOSED * abs(best.dual):
            break
        asked = buyers.asked(np.maximum(0.0, asked.prices + (asked.dual - value) / square * uphill))
        best, last = min(best, asked, key=lambda answer: answer.dual), uphill
    return best


class Buyers:
    """The market's jobs, those that ask alike searched for once."""

    def __init__(self, market: Market) -> None:
        self._market, hull = market, market.table.hull
        self._hull = hull
        parts, spans = market.parts, market.parts.spans
        alone = ~spans[parts.job]
        self._whole, self._gang = parts.job[alone], np.nonzero(spans)[0]
        classes, homes = len(hull.least_w), parts.home[alone]
        keys, kind = compressed(homes * classes + market.of_class[self._whole], len(market.scarce) * classes)
        self._kind = np.empty(len(market.gpus), dtype=np.int64)
        self._kind[self._whole] = kind
        self._kind[self._gang] = len(keys) + np.arange(len(self._gang))
        self._kind_home = keys // classes
        self._kind_class = np.concatenate([keys % classes, market.of_class[self._gang]])
        self._gains_floor = hull.at(market.of_class, market.floor_w)
        self._gains_ceiling = hull.at(market.of_class, market.ceiling_w)
        self._dearest = float(hull.slopes.max(initial=0.0))

    def asked(self, prices: Floats) -> Asked:
        market, hull = self._market, self._hull
        price = np.concatenate(
            [
                market.scarce.path_sums(prices)[self._kind_home],
                market.job_prices(prices)[self._gang],
            ]
        )
        column = hull.count(self._kind_class, price, ties=False)
        exact_w = hull.cap_w(self._kind_class, column)[self._kind]
        gains = hull.values[self._kind_class, column][self._kind]
        gains = np.where(exact_w <= market.floor_w, self._gains_floor, gains)
        gains = np.where(exact_w >= market.ceiling_w, self._gains_ceiling, gains)
        exact_w = np.clip(exact_w, market.floor_w, market.ceiling_w)
        dual = (market.gpus * (gains - price[self._kind] * exact_w)).sum() + (
            prices * market.scarce.available_w
        ).sum()
        smooth_w, elasticity = _smoothed(hull, self._kind_class, column, price)
        smooth_w, elasticity = smooth_w[self._kind], elasticity[self._kind]
        inside = (smooth_w > market.floor_w) & (smooth_w < market.ceiling_w)
        cap_w = np.clip(smooth_w, market.floor_w, market.ceiling_w)
        return Asked(
            prices=prices,
            dual=float(dual),
            exact_w=exact_w,
            cap_w=cap_w,
            elasticity=np.where(inside, elasticity, 0.0),
            overdrawn_w=self.overdrawn_w(cap_w),
        )

    def overdrawn_w(self, cap_w: Floats) -> Floats:
        """Per scarce domain: watts that these caps take beyond what there is."""
        market = self._market
        return market.parts.used_w(market.scarce, cap_w) - market.scarce.available_w

    def newton(self, asked: Asked, free: Bools) -> Floats:
        """The change of prices at which the domains in `free` would just be full; where nobody there would
        take less for a little, as dear as a watt can be."""
        per_job = asked.elasticity * self._market.gpus
        change = np.zeros(len(free))
        rows = np.nonzero(free & (np.abs(asked.overdrawn_w) > FITS_W))[0]
        excess_w = asked.overdrawn_w[rows]
        at_most = np.abs(excess_w) / max(self._dearest, 1e-30)
        if len(self._gang) * len(rows) ** 2 <= _DENSE and len(rows) ** 3 <= _DENSE:
            slope = self._curvature(per_job)[np.ix_(rows, rows)]
            slope[np.diag_indices(len(rows))] += at_most
            change[rows] = np.linalg.solve(slope, excess_w)
        else:
            change[rows] = excess_w / (self._row_sums(per_job)[rows] + at_most)
        return np.clip(change, -self._dearest, self._dearest)

    def _curvature(self, per_job: Floats) -> Floats:
        """Scarce domains squared: watts that a domain sheds for a price of another higher by one."""
        scarce, parts = self._market.scarce, self._market.parts
        on_path = np.zeros((len(scarce), len(scarce) + 1))
        on_path[np.arange(len(scarce))[:, None], scarce.above] = 1.0
        on_path = on_path[:, :-1]
        alone = ~parts.spans[parts.job]
        weight = np.bincount(parts.home[alone], per_job[parts.job[alone]], len(scarce))
        total: Floats = on_path.T @ (weight[:, None] * on_path)
        gang = np.full(len(per_job), -1)
        gang[self._gang] = np.arange(len(self._gang))
        counts = np.zeros((len(self._gang), len(scarce)))
        counts[gang[parts.job[~alone]], parts.home[~alone]] = parts.gpus[~alone]
        counts = counts @ on_path / self._market.gpus[self._gang][:, None]
        total += counts.T @ (per_job[self._gang][:, None] * counts)
        return total

    def _row_sums(self, per_job: Floats) -> Floats:
        """Of the same matrix: steps by these are shorter than Newton's, and never too long."""
        market = self._market
        deep = market.scarce.depth + 1.0
        parts = market.parts
        reach = np.bincount(parts.job, parts.gpus * deep[parts.home], len(market.gpus)) / market.gpus
        return parts.used_w(market.scarce, per_job * reach / market.gpus)


def _smoothed(hull: Hull, of_class: Ints, column: Ints, price: Floats) -> tuple[Floats, Floats]:
    """Caps asked for at the prices, and how they fall as the price rises, with the steps between columns
    drawn as lines: at the slope of a column half of it is taken."""
    last = hull.columns - 1
    low = hull.slopes[of_class, np.minimum(column, last)]  # not worth the price any more
    low = np.where((column > last) | (low < 0), 0.0, low)
    high = hull.slopes[of_class, np.maximum(column - 1, 0)]
    high = np.where(column > 0, high, np.maximum(2.0 * low, price))
    width = np.maximum(high - low, 1e-300)
    into = np.clip((high - price) / width, 0.0, 1.0)
    step_w = hull.step_w[of_class]
    begin_w = np.where(column > 0, step_w * (column - 0.5), 0.0)
    end_w = step_w * np.where((column > last) | (low <= 0), column, column + 0.5)
    cap_w = hull.least_w[of_class] + begin_w + into * (end_w - begin_w)
    return cap_w, (end_w - begin_w) / width

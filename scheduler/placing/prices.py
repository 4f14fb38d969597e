"""Prices at which a market nearly clears, found by a bundle method: linear models of each party, improved
wherever they proved wrong, within a box around the best prices so far.

Prices are built so that equals tie by themselves. A start pays for its rank's limit and for those of all
ranks above; a part of s GPUs pays for floor(s / k) units of every size k in use (Chvatal-Gomory cuts).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from ortools.linear_solver.pywraplp import Constraint, Solver

from power.arrays import Floats
from scheduler.placing.dual import Dual, Prices, Verdict
from scheduler.placing.market import Market

FIRST_BOX, LEAST_BOX, MOST_BOX = 0.2, 1e-4, 0.5  # in units of the scales below
GROW, SHRINK = 1.5, 0.8
MOST_ZONES = 24  # with prices of their own
LAST_LOOK_S = 0.05
# Planes are only ever added: the last basis stays dual feasible, and is kept unless the model is presolved.
RESUMABLE = "use_dual_simplex: true use_preprocessing: false"
REACH = 0.5  # of the way to where the models' sum is least: they are less wrong near the best prices
GOOD_STEP = 0.1  # of the improvement that the models foresaw


@dataclass(frozen=True)
class Remembered:
    """Prices of an earlier market, by name: domain and rank; kind, size and rank."""

    watt: dict[tuple[int, int], float]
    unit: dict[tuple[int, int, int], float]
    zone: dict[tuple[int, ...], float]


class Scale:
    """Translates between a point (an array >= 0 of natural size) and prices."""

    def __init__(self, market: Market) -> None:
        self.market = market
        ranks, sizes = max(1, len(market.ranks)), market.sizes
        kinds = int(market.zones.kind.max(initial=0)) + 1
        self.watt_shape = (len(market.priced), ranks)
        self.unit_shape = (kinds, len(sizes), ranks)
        self._units = (sizes[:, None] // np.maximum(sizes[None, :], 1)).astype(np.float64)
        self._from = np.tri(ranks, ranks).T  # rank x limit: limits of its own rank and above
        offers = market.problem.offers
        worth = float(np.abs(offers.worth).max(initial=0.0)) or 1.0
        watts = float(offers.cap_w.max(initial=0.0)) or 1.0
        self._unit = worth
        self._watt = worth / watts
        self._split = len(market.priced) * ranks
        self._end = self._split + int(np.prod(self.unit_shape))
        pools = market.problem.pools
        gpus = np.bincount(market.zones.of_pool, pools.size, len(market.zones))
        self._own = np.sort(np.argsort(-gpus, kind="stable")[:MOST_ZONES])  # with prices of their own

    @property
    def length(self) -> int:
        return self._end + len(self._own)

    @property
    def least(self) -> Floats:
        """The lowest that each price may be."""
        return np.concatenate([np.zeros(self._end), np.full(len(self._own), -np.inf)])

    def prices(self, point: Floats) -> Prices:
        watt = point[: self._split].reshape(self.watt_shape) * self._watt
        unit = point[self._split : self._end].reshape(self.unit_shape) * self._unit
        part = np.einsum("sk,akl,rl->asr", self._units, unit, self._from, optimize=False)
        zone = np.zeros(len(self.market.zones))
        zone[self._own] = point[self._end :] * self._unit
        return Prices(watt, part, zone)

    def slopes(self, change: Prices) -> Floats:
        """Change with the point of what changes so with the prices; a row per party."""
        parties = len(change.zone)
        unit = np.einsum("sk,pasr,rl->pakl", self._units, change.part, self._from, optimize=False)
        parts = (change.watt * self._watt, unit * self._unit, change.zone[:, self._own] * self._unit)
        return np.concatenate([part.reshape(parties, -1) for part in parts], axis=1)

    def point(self, remembered: Remembered | None) -> Floats:
        """What was remembered, in this market's terms; a plain guess where nothing was."""
        market = self.market
        watt, unit = np.zeros(self.watt_shape), np.zeros(self.unit_shape)
        if remembered is None:
            watt[:, -1:] = 0.15
            unit[:, :1, -1:] = 0.25
            return np.concatenate([watt.ravel(), unit.ravel(), np.zeros(len(self._own))])
        for row, domain in enumerate(market.priced):
            for column, rank in enumerate(market.ranks):
                watt[row, column] = remembered.watt.get((int(domain), int(rank)), 0.0) / self._watt
        for kind in range(self.unit_shape[0]):
            for row, size in enumerate(market.sizes):
                for column, rank in enumerate(market.ranks):
                    key = (kind, int(size), int(rank))
                    unit[kind, row, column] = remembered.unit.get(key, 0.0) / self._unit
        zone = [remembered.zone.get(self._name(one), 0.0) / self._unit for one in self._own]
        return np.concatenate([watt.ravel(), unit.ravel(), zone])

    def _name(self, zone: int) -> tuple[int, ...]:
        """What a zone is called beyond this market: kind, settable, reserved, priced domains over it."""
        zones, market = self.market.zones, self.market
        over = market.priced[np.nonzero(market.masks[zones.mask[zone]])[0]]
        flags = (zones.kind[zone], zones.settable[zone], zones.reserved[zone])
        return (*map(int, flags), *over.tolist())

    def remember(self, point: Floats) -> Remembered:
        market = self.market
        watt = point[: self._split].reshape(self.watt_shape) * self._watt
        unit = point[self._split : self._end].reshape(self.unit_shape) * self._unit
        return Remembered(
            {
                (int(d), int(r)): float(watt[row, column])
                for row, d in enumerate(market.priced)
                for column, r in enumerate(market.ranks)
            },
            {
                (kind, int(s), int(r)): float(unit[kind, row, column])
                for kind in range(self.unit_shape[0])
                for row, s in enumerate(market.sizes)
                for column, r in enumerate(market.ranks)
            },
            {
                self._name(zone): float(price) * self._unit
                for zone, price in zip(self._own, point[self._end :], strict=True)
            },
        )


@dataclass
class Found:
    """The best prices so far and what they showed; `looked` at on the way, with the `weight` (rounds x
    parties) at which the parties' choices there, mixed, respect all that is shared."""

    scale: Scale
    point: Floats
    verdict: Verdict
    looked: list[Verdict]
    weight: Floats

    @property
    def rounds(self) -> int:
        return len(self.looked)


class _Models:
    """Cutting planes of each party's earnings, and the LP that seeks prices where their sum is least."""

    def __init__(self, length: int, parties: int, money: float, base: Floats) -> None:
        """`money` is the unit of account, `base` what each party's earnings are counted from: both keep the
        LP's figures near 1."""
        self._money, self._base = money, base
        self._solver = Solver.CreateSolver("GLOP")
        self._solver.SetSolverSpecificParametersAsString(RESUMABLE)
        self._at = [self._solver.NumVar(0.0, 1.0, "") for _ in range(length)]
        infinity = self._solver.infinity()
        self._earned = [self._solver.NumVar(-infinity, infinity, "") for _ in range(parties)]
        self._solver.Minimize(sum(self._earned))
        self._planes: list[list[Constraint]] = []

    def add(self, point: Floats, earned: Floats, slopes: Floats) -> None:
        """Party p earns at least earned[p] + slopes[p] x (point - this one)."""
        above = (earned - self._base) / self._money
        self._planes.append([])
        for variable, money, rise in zip(self._earned, above, slopes, strict=True):
            slope = rise / self._money
            plane = self._solver.Constraint(float(money - slope @ point), self._solver.infinity())
            plane.SetCoefficient(variable, 1.0)
            for column in np.nonzero(slope)[0]:
                plane.SetCoefficient(self._at[column], -float(slope[column]))
            self._planes[-1].append(plane)

    def weight(self) -> Floats:
        """rounds x parties: how much of each plane the last answer leaned on; each party's sum to 1."""
        weight = np.array([[max(0.0, plane.dual_value()) for plane in planes] for planes in self._planes])
        total: Floats = weight / np.maximum(weight.sum(axis=0), 1e-12)
        return total

    def best(self, low: Floats, high: Floats, limit_s: float) -> tuple[Floats, float] | None:
        """(point within the box where the models' sum is least, that sum)."""
        for variable, least, most in zip(self._at, low.tolist(), high.tolist(), strict=True):
            variable.SetBounds(least, most)
        self._solver.SetTimeLimit(max(1, int(1000 * limit_s)))
        if self._solver.Solve() != Solver.OPTIMAL:
            return None
        point = np.array([variable.solution_value() for variable in self._at])
        foreseen = self._solver.Objective().Value() * self._money + float(self._base.sum())
        return np.clip(point, low, high), foreseen


def clear(dual: Dual, *, start: Remembered | None, rounds: int, close: float, until_s: float) -> Found:
    """Improve prices for so many rounds, until `until_s` by `time.perf_counter`, or until the models see no
    more to gain near them than the share `close` of the bound's distance from leaving all as it is.
    """
    scale = Scale(dual.market)
    point = scale.point(start)
    dual.expect(scale.prices(point))
    first = dual.judge(scale.prices(point))
    found = Found(scale, point, first, [first], np.ones((1, len(first.earned))))
    if not scale.length or rounds <= 1:
        return found
    base = float(dual.market.problem.options.worth[dual.market.problem.options.unchanged].sum())
    models = _Models(
        scale.length,
        len(first.earned),
        max(1.0, (first.bound - base) / 10),
        first.earned,
    )
    _learn(models, scale, point, first)
    box = FIRST_BOX if start is None else FIRST_BOX / 5
    while found.rounds < rounds and time.perf_counter() < until_s:
        low, high = np.maximum(scale.least, found.point - box), found.point + box
        answer = models.best(low, high, until_s - time.perf_counter())
        if answer is None:
            break
        point, foreseen = answer
        point = found.point + REACH * (point - found.point)
        gain = found.verdict.bound - foreseen
        if gain <= close * max(1e-9, found.verdict.bound - base) and box >= FIRST_BOX / 10:
            break
        verdict = dual.judge(scale.prices(point))
        found.looked.append(verdict)
        _learn(models, scale, point, verdict)
        if verdict.bound < found.verdict.bound - GOOD_STEP * gain:
            box = min(MOST_BOX, box * GROW)
        else:
            box = max(LEAST_BOX, box * SHRINK)
        if verdict.bound < found.verdict.bound:
            found.point, found.verdict = point, verdict
    low, high = np.maximum(scale.least, found.point - box), found.point + box
    if models.best(low, high, LAST_LOOK_S) is not None:
        found.weight = models.weight()
    else:
        found.weight = np.zeros((found.rounds, found.weight.shape[1]))
        found.weight[next(row for row, seen in enumerate(found.looked) if seen is found.verdict)] = 1.0
    return found


def _learn(models: _Models, scale: Scale, point: Floats, verdict: Verdict) -> None:
    models.add(point, verdict.earned, scale.slopes(verdict.slopes))

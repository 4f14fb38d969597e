"""A bound that no plan can beat, from prices alone: the Lagrangian dual over the jobs themselves.

For any prices >= 0 of GPUs, watts, ramp steps and the peak, what is free at those prices plus each job's best
net gain, taken job by job as if alone, is at least the value of every plan. Good prices make it tight.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from power.arrays import Floats
from scheduler.plan.exclusive import Exclusive
from scheduler.plan.prices import Left, SlotPrices, worth_of
from scheduler.plan.problem import PlanProblem
from scheduler.plan.runs import Chosen, Runs, used

LEAST = 2e-4  # of the bound: how much lower a walk must lead for another to follow
MEMORY = 0.7  # of earlier directions: jobs move in flocks, and the mean of their moves is the better guide


@dataclass(frozen=True)
class Walk:
    """Steps down the dual: the first would earn this share of the bound, were the dual linear."""

    steps: int
    first: float
    decay: float


MANY_JOBS = Walk(50, 2e-3, 0.95)  # from prices that are nearly right
FEW_JOBS = Walk(100, 2e-2, 0.97)  # of which each weighs: right prices are far from those of broken work


class Dual:
    """The bound as a function of prices. The largest gangs are taken together: see `exclusive`."""

    def __init__(self, problem: PlanProblem) -> None:
        self.problem = problem
        self._every, self._exclusive = Runs(problem), Exclusive(problem)

    def best(self, prices: SlotPrices) -> Chosen:
        """The runs that net the most, of all that the bound at these prices lets run."""
        return self._exclusive.apart(self._every.best(prices), prices)

    def bound(self, prices: SlotPrices, best: Chosen) -> float:
        """Money that no plan on the grid of these slots gains over deferring nothing into them."""
        return worth_of(prices, _all_of_it(self.problem)) + float(np.maximum(best.net, 0.0).sum())


def dual_bound(problem: PlanProblem, prices: SlotPrices) -> float:
    """The bound at these prices."""
    dual = Dual(problem)
    return dual.bound(prices, dual.best(prices))


def polished(
    problem: PlanProblem, prices: SlotPrices, *, walk: Walk, walks: int, until_s: float = np.inf
) -> SlotPrices:
    """The prices of the lowest bound met on at most `walks` walks down the dual from `prices`.

    `until_s` is a time of `time.perf_counter`.
    """
    dual, lowest = Dual(problem), np.inf
    for _ in range(walks):
        prices, bound = _walked(dual, prices, walk, until_s)
        if bound > lowest * (1.0 - LEAST):
            break
        lowest = bound
    return prices


def _walked(dual: Dual, prices: SlotPrices, walk: Walk, until_s: float) -> tuple[SlotPrices, float]:
    """Subgradients with memory: (best prices met, their bound)."""
    problem, lowest, best_prices = dual.problem, np.inf, prices
    direction: dict[str, Floats] = {}
    scale = _scale(problem)
    for step in range(walk.steps):
        runs = dual.best(prices)
        bound = dual.bound(prices, runs)
        if bound < lowest:
            lowest, best_prices = bound, prices
        if time.perf_counter() > until_s:
            break
        left = Left.of(problem, *used(problem, runs.only(runs.net > 0)))
        for name, unit in scale.items():
            amount = getattr(left, name)
            short = np.where(np.isfinite(amount), -amount, 0.0) / unit
            direction[name] = MEMORY * direction.get(name, short) + (1.0 - MEMORY) * short
        length = sum(float((along**2).sum()) for along in direction.values())
        if length <= 0 or bound <= 0:
            break
        prices = _moved(problem, prices, direction, scale, walk.first * walk.decay**step * bound / length)
    return best_prices, lowest


def _all_of_it(problem: PlanProblem) -> Left:
    """What is left beside no deferred run at all."""
    none = np.zeros(len(problem.slots))
    return Left.of(problem, none, none, none)


def _scale(problem: PlanProblem) -> dict[str, float]:
    """Units in which the scarce things weigh alike, by name: as many of each as go with one GPU-hour."""
    site = problem.site
    gpus = max(float(site.gpus.sum(axis=0).mean()), 1.0)
    watts = max(float(site.watts.max(axis=0, initial=0.0).mean()) / gpus, 1e-9)
    units = {"gpu_h": 1.0, "watt_h": watts}
    if np.isfinite(site.ramp_w_per_min):
        units |= {"up_w": watts, "down_w": watts}
    if site.rise_price_per_w > 0:
        units["peak_w"] = watts
    return units


def _moved(
    problem: PlanProblem,
    prices: SlotPrices,
    direction: dict[str, Floats],
    scale: dict[str, float],
    step: float,
) -> SlotPrices:
    """Prices a step along the direction, cut at zero, and the peak's at the demand charge."""
    moved = {
        name: np.maximum(0.0, getattr(prices, name) + step * direction[name] / scale[name])
        for name in direction
    }
    if "peak_w" in moved:
        total, most = float(moved["peak_w"].sum()), problem.site.rise_price_per_w
        moved["peak_w"] *= min(1.0, most / max(total, 1e-300))
    return replace(prices, **moved)

"""A bound that no plan can beat, from prices alone: the Lagrangian dual over the jobs themselves.

For any prices >= 0 of GPUs, watts, ramp steps and the peak, what is free at those prices plus each job's best
net gain, taken job by job as if alone, is at least the value of every plan. Good prices make it tight.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from power.arrays import Floats
from scheduler.plan.prices import Left, SlotPrices, worth_of
from scheduler.plan.problem import PlanProblem
from scheduler.plan.runs import Chosen, Runs, used

STEPS = 50
LEAST = 2e-4  # of the bound: how much lower a walk must lead for another to follow
FIRST_STEP = 2e-3  # the first step would earn this share of the bound, were the dual linear
STEP_DECAY = 0.95
MEMORY = 0.7  # of earlier directions: jobs move in flocks, and the mean of their moves is the better guide


def dual_bound(problem: PlanProblem, prices: SlotPrices, best: Chosen | None = None) -> float:
    """Money that no plan on the grid of these slots gains over deferring nothing into them."""
    runs = Runs(problem).best(prices) if best is None else best
    return worth_of(prices, _all_of_it(problem)) + float(np.maximum(runs.net, 0.0).sum())


def polished(problem: PlanProblem, prices: SlotPrices, *, walks: int, until_s: float = np.inf) -> SlotPrices:
    """The prices of the lowest bound met on at most `walks` walks down the dual from `prices`.

    `until_s` is a time of `time.perf_counter`.
    """
    every, lowest = Runs(problem), np.inf
    for _ in range(walks):
        prices, bound = _walk(problem, every, prices, until_s)
        if bound > lowest * (1.0 - LEAST):
            break
        lowest = bound
    return prices


def _walk(problem: PlanProblem, every: Runs, prices: SlotPrices, until_s: float) -> tuple[SlotPrices, float]:
    """Subgradients with memory: (best prices met, their bound)."""
    lowest, best_prices = np.inf, prices
    direction: dict[str, Floats] = {}
    scale = _scale(problem)
    for step in range(STEPS):
        runs = every.best(prices)
        bound = dual_bound(problem, prices, runs)
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
        prices = _moved(problem, prices, direction, scale, FIRST_STEP * STEP_DECAY**step * bound / length)
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

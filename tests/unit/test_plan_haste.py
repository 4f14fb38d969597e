"""What a plan does when time is short, and what it knows of gangs that cannot run beside each other."""

from __future__ import annotations

import time

import numpy as np
import pytest

from scheduler.plan.bound import Dual, dual_bound
from scheduler.plan.disaggregate import Placing, order_of
from scheduler.plan.improve import value_of
from scheduler.plan.prices import SlotPrices
from scheduler.plan.problem import PlanProblem
from scheduler.plan.relax import relax
from scheduler.plan.room import Room
from scheduler.plan.solve import solve
from tests.plan_builders import JobRow, best_gain, broken, problem, runs_of

HOURS = 24
WAVES = tuple(60.0 + 50.0 * np.sin(np.arange(HOURS) / 3.0))


def crowd(jobs: int, **limits: float) -> PlanProblem:
    """More than the cheap hours can take, of many lengths, sizes and deadlines."""
    chance = np.random.default_rng(1)
    size, hours = chance.integers(1, 5, jobs), chance.uniform(0.3, 4.0, jobs)
    worth = size * hours * chance.uniform(0.1, 1.0, jobs)
    due_h = hours + chance.uniform(2.0, 20.0, jobs)
    rows = list(zip(size.tolist(), hours.tolist(), worth.tolist(), due_h.tolist(), strict=True))
    return problem(rows, prices=WAVES, gpus=(jobs // 5, jobs // 20), **limits)


def placed(case: PlanProblem, prices: SlotPrices, *, until_s: float) -> Placing:
    placing = Placing(case, Room(case), until_s)
    without = placing.at_prices(order_of(case, Dual(case).best(prices)), prices)
    placing.fill(without)
    assert broken(case, runs_of(placing.chosen())) == []
    return placing


def test_haste_costs_little() -> None:
    case = crowd(3000)
    relaxed = relax(case, time_limit_s=20.0)
    assert relaxed is not None
    bound = dual_bound(case, relaxed.prices)
    careful = placed(case, relaxed.prices, until_s=np.inf)
    hasty = placed(case, relaxed.prices, until_s=time.perf_counter())
    assert (careful.hurried, hasty.hurried > 0) == (0, True)
    assert value_of(case, careful) - value_of(case, hasty) < 0.02 * bound


@pytest.mark.parametrize(
    "limits", [{"watts": 9e4}, {"watts": 9e4, "ramp_w_per_min": 400.0}, {"demand_charge_per_kw": 0.01}]
)
def test_haste_breaks_no_limit(limits: dict[str, float]) -> None:
    case = crowd(300, **limits)
    hasty = placed(case, SlotPrices.zero(case), until_s=0.0)
    assert hasty.chosen().found.sum() > 50


GANGS: tuple[JobRow, ...] = ((3, 3, 3.0, 5), (3, 3, 2.0, 5), (1, 2, 0.4, 5))


def test_of_two_gangs_that_exclude_each_other_the_bound_counts_one() -> None:
    case = problem(GANGS, prices=(10.0,) * 5, gpus=(4,))
    none = SlotPrices.zero(case)
    best = Dual(case).best(none)
    assert best.found.tolist() == [True, False, True]
    assert dual_bound(case, none) == pytest.approx(best_gain(case))


def test_gangs_that_have_time_for_each_other_both_count() -> None:
    case = problem(((3, 2, 3.0, 5), (3, 3, 2.0, 5)), prices=(10.0,) * 5, gpus=(4,))
    best = Dual(case).best(SlotPrices.zero(case))
    assert best.found.all()
    assert (best.last[0] < best.first[1]) or (best.last[1] < best.first[0])
    answer = solve(case, time_limit_s=1.0)
    assert answer.value == pytest.approx(best_gain(case))


@pytest.mark.parametrize("seed", range(6))
def test_the_bound_with_gangs_stands(seed: int) -> None:
    chance = np.random.default_rng(seed)
    rows = [
        (float(chance.integers(2, 5)), float(chance.uniform(0.5, 3.0)), float(chance.uniform(0.1, 3.0)), 6.0)
    ]
    rows += [(3.0, float(chance.uniform(0.5, 4.0)), float(chance.uniform(0.5, 3.0)), 6.0) for _ in range(3)]
    case = problem(rows, prices=chance.uniform(0.0, 200.0, 6).tolist(), gpus=(4, 1))
    most = best_gain(case)
    for scale in (0.0, 0.1, 0.5):
        prices = SlotPrices.zero(case)
        prices.gpu_h[:] = chance.uniform(0.0, scale, prices.gpu_h.shape)
        assert dual_bound(case, prices) >= most - 1e-9

"""The planning problem itself: against every combination on small ones, and each limit drawn alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scheduler.plan.bound import dual_bound
from scheduler.plan.prices import SlotPrices
from scheduler.plan.problem import PlanProblem
from scheduler.plan.relax import relax
from scheduler.plan.runs import Runs, gains
from scheduler.plan.solve import Solved, solve
from tests.plan_builders import JobRow, best_gain, broken, gain_of, problem, runs_of

VALLEY = (90.0, 60.0, 20.0, 30.0, 80.0)
PAIR: tuple[JobRow, ...] = ((1, 2, 1.0, 5), (2, 1, 1.5, 5))
THREE: tuple[JobRow, ...] = ((1, 2, 1.0, 4), (2, 1, 1.5, 5), (1, 1, 0.02, 3))


def solved(case: PlanProblem, limit_s: float = 2.0) -> Solved:
    return solve(case, time_limit_s=limit_s)


def starts(case: PlanProblem, answer: Solved) -> dict[str, int]:
    """First slot by job."""
    rows = {case.work.ids[case.offers.job[offer]]: first for offer, first, _ in runs_of(answer.chosen)}
    return dict(sorted(rows.items()))


@pytest.mark.parametrize(
    "case",
    [
        problem(PAIR, prices=VALLEY),
        problem(PAIR, prices=VALLEY, gpus=(1, 2)),
        problem(THREE, prices=VALLEY, watts=500.0),
        problem(THREE, prices=VALLEY, gpus=(1, 1, 1)),
        problem(PAIR, prices=VALLEY, watts=450.0, caps=((300.0, 1.0), (150.0, 0.6))),
        problem(PAIR, prices=VALLEY, gpus=(2,), ramp_w_per_min=6.0),
        problem(PAIR, prices=VALLEY, demand_charge_per_kw=0.05),
        problem(PAIR, prices=VALLEY, demand_charge_per_kw=50.0),
        problem(PAIR, prices=VALLEY, ceilings=(70.0, 25.0)),
    ],
)
def test_it_finds_what_trying_every_combination_finds(case: PlanProblem) -> None:
    answer, best = solved(case), best_gain(case)
    assert broken(case, runs_of(answer.chosen)) == []
    assert answer.value == pytest.approx(gain_of(case, runs_of(answer.chosen)))
    assert answer.value == pytest.approx(best, rel=1e-6, abs=1e-9)
    assert answer.bound >= best - 1e-9


def test_without_scarcity_the_bound_is_the_value() -> None:
    answer = solved(problem(PAIR, prices=VALLEY, gpus=(8,)))
    assert answer.gap == pytest.approx(0.0, abs=1e-9)
    assert answer.fallback is None


def test_a_ramp_spreads_starts_and_ends() -> None:
    jobs: tuple[JobRow, ...] = ((1, 2, 1.0, 8), (1, 2, 1.0, 8))
    row = (50.0, 50.0, 50.0, 10.0, 10.0, 50.0, 50.0, 50.0)
    free = problem(jobs, prices=row)
    slow = problem(jobs, prices=row, ramp_w_per_min=300.0 / 60.0)  # one job's watts per hour
    assert starts(free, solved(free)) == {"job-0": 3, "job-1": 3}
    answer = solved(slow)
    assert broken(slow, runs_of(answer.chosen)) == []
    assert len(set(starts(slow, answer).values())) == 2


def test_a_ramp_that_no_job_can_climb_lets_none_run() -> None:
    answer = solved(problem(PAIR, prices=VALLEY, ramp_w_per_min=1.0))
    assert runs_of(answer.chosen) == []
    assert answer.value == 0.0


@pytest.mark.parametrize(
    ("charge", "peak_w", "together"),
    [(0.0, 0.0, True), (10.0, 600.0, True), (10.0, 300.0, False)],  # the month has seen 600 W, or only 300 W
)
def test_a_demand_charge_keeps_jobs_apart(charge: float, peak_w: float, together: bool) -> None:
    jobs: tuple[JobRow, ...] = ((1, 1, 5.0, 5), (1, 1, 5.0, 5))
    case = problem(jobs, prices=VALLEY, demand_charge_per_kw=charge, month_peak_w=peak_w)
    begun = starts(case, solved(case))
    assert len(begun) == 2
    assert (len(set(begun.values())) == 1) == together


def test_work_worth_less_than_the_charge_does_not_run() -> None:
    case = problem(((1, 1, 2.0, 5),), prices=VALLEY, demand_charge_per_kw=10.0)  # 300 W cost 3
    assert solved(case).value == 0.0


def test_no_time_at_all_still_gives_a_plan_and_a_bound() -> None:
    case = problem(THREE, prices=VALLEY, watts=500.0)
    answer = solved(case, limit_s=0.0)
    assert broken(case, runs_of(answer.chosen)) == []
    assert answer.value > 0
    assert answer.bound >= best_gain(case)
    assert answer.fallback is not None
    assert answer.fallback.startswith("greedy windows")


def test_an_earlier_plans_prices_lead_to_the_same_plan() -> None:
    jobs = [(1.0 + i % 2, 1.0 + i % 3, 1.0 + i % 4, 8.0) for i in range(14)]
    case = problem(jobs, prices=(90, 60, 20, 30, 80, 40, 50, 60), gpus=(4,))
    cold = solved(case)
    warm = solve(case, time_limit_s=2.0, first=cold.prices)
    assert warm.fallback is None
    assert warm.value == pytest.approx(cold.value, rel=0.01)
    assert warm.bound <= cold.bound + 1e-9


def test_any_prices_give_a_bound() -> None:
    case = problem(THREE, prices=VALLEY, watts=500.0)
    best, zero = best_gain(case), SlotPrices.zero(case)
    for gpu_h in (0.0, 0.01, 0.3, 2.0):
        prices = replace(zero, gpu_h=np.full((1, 5), gpu_h), watt_h=np.full((1, 5), gpu_h / 300.0))
        assert dual_bound(case, prices) >= best - 1e-9


def test_the_lp_prices_what_is_scarce_and_only_that() -> None:
    case = problem(((1, 1, 1.0, 3), (1, 1, 0.9, 3)), prices=(50.0, 10.0, 50.0), gpus=(1,))
    answer = relax(case, time_limit_s=2.0)
    assert answer is not None
    assert answer.prices.gpu_h[0, 1] > 0
    assert answer.prices.gpu_h[0, [0, 2]].tolist() == pytest.approx([0.0, 0.0], abs=1e-9)
    assert answer.prices.watt_h.max() == pytest.approx(0.0, abs=1e-9)


def test_the_best_runs_alone_gain_what_they_say() -> None:
    case = problem(THREE, prices=VALLEY, caps=((300.0, 1.0), (150.0, 0.6)))
    best = Runs(case).best(SlotPrices.zero(case))
    assert gains(case, best) == pytest.approx(best.net)
    assert best.net == pytest.approx([gain_of(case, [run]) for run in runs_of(best)])

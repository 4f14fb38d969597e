"""Whatever the jobs and limits: a plan breaks none of them, and its bound stands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.plan.bound import dual_bound
from scheduler.plan.prices import SlotPrices
from scheduler.plan.problem import PlanProblem
from scheduler.plan.solve import solve
from tests.plan_builders import broken, every_run, gain_of, problem, runs_of

SLOTS = 6
JOBS = st.lists(
    st.tuples(
        st.integers(1, 4).map(float),
        st.floats(0.2, 4.0),
        st.floats(0.01, 5.0),
        st.floats(1.0, 8.0),
    ),
    min_size=1,
    max_size=7,
)
PRICES = st.lists(st.floats(-100.0, 500.0), min_size=SLOTS, max_size=SLOTS)
LIMITS = st.fixed_dictionaries(
    {"watts": st.floats(0.0, 2000.0)},
    optional={
        "ramp_w_per_min": st.floats(0.5, 40.0),
        "demand_charge_per_kw": st.floats(0.0, 5.0),
        "month_peak_w": st.floats(0.0, 1000.0),
    },
)
CAPS = st.sampled_from([((300.0, 1.0),), ((300.0, 1.0), (150.0, 0.7)), ((250.0, 0.95), (120.0, 0.5))])
CASES = st.builds(
    lambda jobs, prices, gpus, caps, limits: problem(jobs, prices=prices, gpus=gpus, caps=caps, **limits),
    JOBS,
    PRICES,
    st.lists(st.integers(0, 4), min_size=1, max_size=2),
    CAPS,
    LIMITS,
)


@settings(deadline=None, max_examples=40)
@given(case=CASES, limit_s=st.sampled_from([0.0, 0.3]))
def test_no_limit_is_broken_and_the_bound_stands(case: PlanProblem, limit_s: float) -> None:
    answer = solve(case, time_limit_s=limit_s)
    runs = runs_of(answer.chosen)
    assert broken(case, runs) == []
    for run in runs:  # deadlines and ceilings, and never past the horizon
        assert run in every_run(case, int(case.offers.job[run[0]]))
    assert abs(answer.value - gain_of(case, runs)) <= 1e-6 * max(1.0, abs(answer.value))
    assert answer.value <= answer.bound + 1e-6
    assert answer.value >= 0.0


@settings(deadline=None)
@given(case=CASES, more_w=st.floats(0.0, 500.0), gpu_h=st.floats(0.0, 2.0), watt_h=st.floats(0.0, 0.01))
def test_more_budget_never_lowers_the_bound(
    case: PlanProblem, more_w: float, gpu_h: float, watt_h: float
) -> None:
    zero = SlotPrices.zero(case)
    prices = replace(zero, gpu_h=zero.gpu_h + gpu_h, watt_h=zero.watt_h + watt_h)
    richer = replace(case, site=replace(case.site, watts=case.site.watts + more_w))
    assert dual_bound(richer, prices) >= dual_bound(case, prices) - 1e-9


@settings(deadline=None, max_examples=20)
@given(case=CASES, prices=st.floats(0.0, 3.0))
def test_the_bound_stands_at_any_prices(case: PlanProblem, prices: float) -> None:
    answer = solve(case, time_limit_s=0.2)
    zero = SlotPrices.zero(case)
    at_these = replace(zero, gpu_h=np.full_like(zero.gpu_h, prices))
    assert dual_bound(case, at_these) >= answer.value - 1e-6

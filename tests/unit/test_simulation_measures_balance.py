"""The books of a simulation balance, and an error that is planted in them is told; whatever happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.simulation.conservation import check_conservation
from scheduler.simulation.measures import measure
from scheduler.simulation.model import Outcome
from tests.outcome_builders import Ran, outcome, ran
from tests.unit.test_simulation_measures import THREE


def test_the_books_of_three_jobs_balance() -> None:
    assert check_conservation(outcome(*THREE, limit_w=950.0)) == ()


def jobs_with(**columns: np.ndarray) -> Callable[[Outcome], Outcome]:
    return lambda right: replace(right, jobs=replace(right.jobs, **columns))


def scaled(part: str, column: str, factor: float) -> Callable[[Outcome], Outcome]:
    def plant(right: Outcome) -> Outcome:
        table = getattr(right, part)
        return replace(right, **{part: replace(table, **{column: getattr(table, column) * factor})})

    return plant


PLANTED = {
    "joules of a job": (scaled("jobs", "energy_j", 1.00001), "energy (kWh) of all jobs"),
    "money of a job": (scaled("jobs", "cost", 0.9999), "cost of all jobs"),
    "CO2 of a job": (scaled("jobs", "co2_kg", 2.0), "CO2 (kg) of all jobs"),
    "watts of busy GPUs": (scaled("power", "busy_draw_w", 1.5), "energy (kWh) of all jobs"),
    "busy above all": (scaled("power", "busy_draw_w", 2.0), "all GPUs 450.000 W"),
    "watts at the meter": (scaled("power", "meter_w", 1.0001), "the meter shows"),
    "work too much": (scaled("jobs", "done_s", 1.001), "job a finished with 3603.600 s"),
    "work too little": (scaled("jobs", "done_s", 0.999), "job a finished with 3596.400 s"),
    "seconds worked": (scaled("jobs", "running_s", 1.7), "jobs worked"),
    "worked while away": (scaled("jobs", "running_s", 1.1), "worked longer than it was there"),
    "more GPUs than there are": (scaled("power", "busy_gpus", 3), "9 GPUs are busy at 3600 s, of 4"),
    "end before its time": (jobs_with(ended_s=np.array([3600, 1e6, np.nan])), "job b ended after"),
    "start before it was there": (
        jobs_with(first_start_s=np.array([0, 3600, 1700.0])),
        "job c started before it was submitted",
    ),
    "no start": (jobs_with(first_start_s=np.array([np.nan, 3600, 3600])), "job a ended without a start"),
    "other prices": (scaled("power", "price_per_mwh", 1.1), "the price is 110 at 0.000 s, recorded is 100"),
    "other carbon": (scaled("power", "carbon_g_per_kwh", 0.5), "the carbon figure is 200"),
    "rows over a border": (
        lambda right: replace(right, power=replace(right.power, at_s=right.power.at_s - 600)),
        "lies across two prices",
    ),
    "time going back": (
        lambda right: replace(right, power=replace(right.power, until_s=8000.0)),
        "the row of watts at 8100.000 s lasts -100.000 s",
    ),
}


@pytest.mark.parametrize(("plant", "told"), PLANTED.values(), ids=PLANTED)
def test_a_planted_error_is_told(plant: Callable[[Outcome], Outcome], told: str) -> None:
    wrong = plant(outcome(*THREE))
    assert any(told in sentence for sentence in check_conservation(wrong)), check_conservation(wrong)


# --- whatever happened ------------------------------------------------------------------------------------

quarters = st.integers(0, 8).map(lambda count: count / 4)


def anything() -> st.SearchStrategy[tuple[Ran, ...]]:
    """Up to two jobs of up to two GPUs each, at any time and speed."""
    paces, watts = st.floats(0.5, 1.0), st.floats(50, 600)
    ids = (st.just("a"), st.just("b"))
    a, b = (
        st.builds(some_job, id, quarters, quarters, quarters, st.integers(1, 2), paces, watts) for id in ids
    )
    return st.one_of(st.just(()), st.tuples(a), st.tuples(a, b))


def some_job(id: str, submit_h: float, wait_h: float, run_h: float, gpus: int, pace: float, w: float) -> Ran:
    from_h = submit_h + wait_h
    if from_h >= 4.0:
        return ran(id, submitted_h=submit_h, from_h=None, gpus=gpus)
    over = from_h + run_h >= 4.0
    run_h = max(run_h, 0.25)
    return ran(
        id,
        submitted_h=submit_h,
        from_h=from_h,
        to_h=None if over else from_h + run_h,
        work_h=9.0 if over else run_h * pace,
        done_h=min(run_h, 4.0 - from_h) * pace,
        gpus=gpus,
        draw_w=w * gpus,
        flex="high",
    )


price_rows = st.lists(st.integers(-300, 900).map(str) | st.just("-"), min_size=4, max_size=4).map(" ".join)
LONG_H = 4.0


@given(anything(), price_rows, price_rows)
def test_the_books_of_anything_balance(jobs: tuple[Ran, ...], price: str, carbon: str) -> None:
    assert check_conservation(outcome(*jobs, until_h=LONG_H, price=price, carbon=carbon)) == ()


@given(anything(), st.integers(1, 50))
def test_prices_k_times_as_high_cost_k_times_as_much(jobs: tuple[Ran, ...], k: int) -> None:
    words = [20, -60, 100, 5]
    once = measure(outcome(*jobs, until_h=LONG_H, price=" ".join(map(str, words))))
    often = measure(outcome(*jobs, until_h=LONG_H, price=" ".join(str(k * word) for word in words)))
    assert often.cost == pytest.approx(k * once.cost)
    assert often.gpu_cost == pytest.approx(k * once.gpu_cost)
    assert often.energy_kwh == once.energy_kwh


@given(anything(), st.floats(0.05, 0.95))
def test_where_rows_are_cut_does_not_matter(jobs: tuple[Ran, ...], at: float) -> None:
    whole = outcome(*jobs, until_h=LONG_H, price="20 -60 100 5", limit_w=800.0, excess_caps_w=1.0)
    cut, whole_measures = measure(cut_rows(whole, at)), measure(whole)
    for figure in ("cost", "gpu_cost", "energy_kwh", "gpu_utilization", "budget_excess_caps_ws", "co2_kg"):
        assert getattr(cut, figure) == pytest.approx(getattr(whole_measures, figure), nan_ok=True), figure


def cut_rows(whole: Outcome, at: float) -> Outcome:
    """Every row of the trace as two."""
    trace = whole.power
    twice = {
        name: np.repeat(column, 2) for name, column in vars(trace).items() if isinstance(column, np.ndarray)
    }
    twice["at_s"] = np.column_stack([trace.at_s, trace.at_s + at * whole.spans_s]).ravel()
    return replace(whole, power=replace(trace, **twice))


@given(anything())
def test_no_figure_contradicts_another(jobs: tuple[Ran, ...]) -> None:
    found = measure(outcome(*jobs, until_h=LONG_H, price="20 60 100 5", carbon="1 2 3 4"))
    assert found.gpu_cost <= found.cost
    assert found.gpu_energy_kwh <= found.energy_kwh
    assert found.jobs == sum(found.groups[tier].jobs for tier in ("none", "low", "mid", "high"))
    assert found.jobs == found.groups["cannot_wait"].jobs + found.groups["can_wait"].jobs
    if found.jobs:
        assert found.p50_jct_s <= found.p95_jct_s <= found.p99_jct_s <= found.makespan_s
        assert 0.0 <= found.gpu_utilization <= 1.0

"""Every figure of a small simulation, worked out by hand; and what holds for any."""

from __future__ import annotations

import math

import pytest

from scheduler.simulation.measures import measure
from tests.outcome_builders import GPUS, outcome, ran

# hour      0      1      2  2:15      3       price 100, 200, 50 per MWh; carbon 400, 300 g/kWh, unknown
# a  1 GPU  ######                             300 W
# b  2 GPUs .......############                400 W, due at 2:00, a quarter slower than it could be
# c  1 GPU     ....##################...       250 W, a tenth slower than it could be, and must not be
# meter W   687.5  1000  1000  625             (GPUs + 50 W per idle one + 100 W host) x 1.25
THREE = (
    ran("a", draw_w=300),
    ran(
        "b",
        gpus=2,
        flex="mid",
        pausable=True,
        deadline_h=2,
        estimate_s=3600.0,
        from_h=1,
        to_h=2.25,
        draw_w=400,
    ),
    ran("c", submitted_h=0.5, from_h=1, to_h=None, work_h=4, done_h=1.8, draw_w=250, deadline_h=5, stops=1),
)
BY_HAND = {
    "cost": (0.6875 * 100 + 1.0 * 200 + (0.25 + 0.46875) * 50) / 1e3,
    "gpu_cost": (0.3 * 100 + (0.4 + 0.25) * 200 + (0.1 + 0.25) * 50) / 1e3,
    "energy_kwh": 0.6875 + 1.0 + 0.25 + 0.46875,
    "gpu_energy_kwh": 0.3 + 0.5 + 0.5,
    "co2_kg": (0.6875 * 400 + 1.0 * 300) / 1e3,
    "gpu_co2_kg": (0.3 * 400 + 0.65 * 300) / 1e3,
    "unpriced_kwh": 0.0,
    "unknown_carbon_kwh": 0.71875,
    "work_gpu_h": 1 + 2 + 1.8,
    "cost_per_gpu_hour_of_work": 0.3046875 / 4.8,
    "gpu_cost_per_gpu_hour_of_work": 0.1775 / 4.8,
    "useful_work_per_kwh": 4.8 / 2.40625,
    "useful_work_per_gpu_kwh": 4.8 / 1.3,
    "gpu_utilization": (1 * 1 + 3 * 1.25 + 1 * 0.75) / (3 * GPUS),
    "work_per_h": 4.8 / 3,
    "simulated_h": 3.0,
    "limited_h": 2.0,
    "makespan_s": 3 * 3600,
    "jobs": 3,
    "unfinished": 1,
    "mean_jct_s": (3600 + 8100 + 9000) / 3,
    "p50_jct_s": 8100,
    "p95_jct_s": 8100 + 0.9 * 900,
    "p99_jct_s": 8100 + 0.98 * 900,
    "mean_slowdown": (1 + 2.25 + 1) / 3,
    "p95_slowdown": 1 + 0.9 * 1.25,
    "p99_slowdown": 1 + 0.98 * 1.25,
    "deadlines": 2,
    "deadlines_missed": 1,
    "deadlines_open": 1,
    "contracts_broken": 1,
    "contracts_broken_beyond_tolerance": 1,
    "max_excess_throughput_loss": 0.1,
    "budget_excess_caps_ws": 5 * 7200,
    "budget_excess_draw_1s_ws": 50 * 4500,
    "preemptions": 1,
}


@pytest.mark.parametrize(("figure", "expected"), BY_HAND.items())
def test_figures_of_three_jobs(figure: str, expected: float) -> None:
    found = measure(outcome(*THREE, limit_w=950.0, limit_from_h=1.0, excess_caps_w=5.0))
    assert getattr(found, figure) == pytest.approx(expected)


def test_what_did_not_end_is_named() -> None:
    assert measure(outcome(*THREE)).unfinished_jobs == ("c",)


@pytest.mark.parametrize(
    ("group", "jobs", "mean_jct_s", "mean_slowdown", "mean_loss", "max_loss"),
    [
        ("none", 2, 6300, 1.0, 0.05, 0.1),
        ("mid", 1, 8100, 2.25, 0.2, 0.2),
        ("cannot_wait", 2, 6300, 1.0, 0.05, 0.1),
        ("can_wait", 1, 8100, 2.25, 0.2, 0.2),
    ],
)
def test_groups_of_jobs(
    group: str, jobs: int, mean_jct_s: float, mean_slowdown: float, mean_loss: float, max_loss: float
) -> None:
    found = measure(outcome(*THREE)).groups[group]
    assert found.jobs == jobs
    assert found.mean_jct_s == pytest.approx(mean_jct_s)
    assert found.mean_slowdown == pytest.approx(mean_slowdown)
    assert found.mean_throughput_loss == pytest.approx(mean_loss)
    assert found.max_throughput_loss == pytest.approx(max_loss)


def test_a_group_without_jobs_has_no_mean() -> None:
    empty = measure(outcome(*THREE)).groups["high"]
    assert empty.jobs == 0
    assert math.isnan(empty.mean_jct_s)


def test_a_scenario_without_jobs_has_a_bill_and_no_completion_time() -> None:
    found = measure(outcome())
    assert found.cost == pytest.approx(0.375 * (100 + 200 + 50) / 1e3)
    assert found.gpu_cost == 0.0
    assert math.isnan(found.mean_jct_s)
    assert math.isnan(found.gpu_utilization)


@pytest.mark.parametrize(
    ("work_s", "took_s", "expected"),
    [(2, 2, 1.0), (2, 8, 1.0), (2, 20, 2.0), (100, 250, 2.5)],
)
def test_short_jobs_count_as_ten_seconds_long(work_s: float, took_s: float, expected: float) -> None:
    short = ran("short", work_h=work_s / 3600, to_h=took_s / 3600)
    assert measure(outcome(short)).mean_slowdown == pytest.approx(expected)


@pytest.mark.parametrize(
    ("flex", "done_h", "broken", "beyond_tolerance"),
    [
        ("none", 1.0, 0, 0),
        ("none", 0.995, 1, 0),
        ("none", 0.97, 1, 1),
        ("low", 0.9, 0, 0),
        ("low", 0.89, 1, 0),
        ("low", 0.87, 1, 1),
        ("high", 0.5, 0, 0),
        ("high", 1.2, 0, 0),
    ],
)
def test_a_contract_is_kept_within_its_tier(
    flex: str, done_h: float, broken: int, beyond_tolerance: int
) -> None:
    found = measure(outcome(ran("a", flex=flex, work_h=done_h, to_h=1.0)))
    assert found.contracts_broken == broken
    assert found.contracts_broken_beyond_tolerance == beyond_tolerance


@pytest.mark.parametrize(
    ("due_h", "to_h", "missed", "still_open"),
    [(1.0, 1.0, 0, 0), (0.99, 1.0, 1, 0), (3.0, None, 1, 0), (3.1, None, 0, 1)],
)
def test_deadlines(due_h: float, to_h: float | None, missed: int, still_open: int) -> None:
    found = measure(outcome(ran("a", deadline_h=due_h, to_h=to_h, work_h=4, done_h=2)))
    assert (found.deadlines, found.deadlines_missed, found.deadlines_open) == (1, missed, still_open)


def test_a_job_that_never_started_counts_to_the_end() -> None:
    found = measure(outcome(ran("a"), ran("never", submitted_h=1.0, from_h=None)))
    assert found.unfinished_jobs == ("never",)
    assert found.mean_jct_s == pytest.approx((3600 + 7200) / 2)
    assert found.contracts_broken == 0


def test_hours_without_a_price_are_told_and_cost_nothing() -> None:
    found = measure(outcome(ran("a"), price="- 200 50"))
    assert found.unpriced_kwh == pytest.approx(0.6875)
    assert found.gpu_cost == 0.0


def test_can_wait_needs_all_that_the_contract_says() -> None:
    waiting = {"pausable": True, "estimate_s": 60.0, "deadline_h": 9.0}
    rows = [ran(f"without-{left}", **{k: v for k, v in waiting.items() if k != left}) for left in waiting]
    found = measure(outcome(ran("all", **waiting), *rows, ran("ceiling", ceiling=9.0, **waiting)))
    assert found.groups["can_wait"].jobs == 2

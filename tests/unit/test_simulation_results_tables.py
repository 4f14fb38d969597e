"""Outcomes as tables: a row per job, per quarter hour, per policy; and values as JSON can have them."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.decision import Certificate
from scheduler.simulation.compare import compare
from scheduler.simulation.measures import measure
from scheduler.simulation.quarter_hours import quarter_hours
from scheduler.simulation.tables import jobs_csv, plain, policies_csv, power_csv, timing
from tests.builders import NOW
from tests.outcome_builders import figures, least, outcome, ran


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_per_job() -> None:
    job_b = ran("b", gpus=2, flex="low", submitted_h=0.5, from_h=1, to_h=2, draw_w=500, deadline_h=1.5)
    row = read(jobs_csv(outcome(ran("a"), job_b)))[1]
    assert row == {
        "job_id": "b",
        "workload": "",
        "gpus": "2",
        "flex": "low",
        "pausable": "no",
        "can_wait": "no",
        "submitted_utc": "2026-01-15T12:30:00.000Z",
        "first_start_utc": "2026-01-15T13:00:00.000Z",
        "ended_utc": "2026-01-15T14:00:00.000Z",
        "deadline_utc": "2026-01-15T13:30:00.000Z",
        "finished": "yes",
        "completion_time_s": "5400",
        "waited_s": "1800",
        "running_s": "3600",
        "not_working_s": "0",
        "work_s": "3600",
        "work_done_s": "3600",
        "slowdown_ratio": "1.5",
        "throughput_loss_share": "0",
        "throughput_loss_allowed_share": "0.1",
        "contract_broken": "no",
        "contract_broken_beyond_tolerance": "no",
        "deadline_missed": "yes",
        "stops": "0",
        "energy_kwh": "0.5",
        "cost": "0.1",
        "co2_kg": "0.15",
    }


def test_a_job_that_never_started_has_empty_cells() -> None:
    row = read(jobs_csv(outcome(ran("never", submitted_h=1, from_h=None))))[0]
    assert (row["first_start_utc"], row["ended_utc"], row["finished"]) == ("", "", "no")
    assert row["waited_s"] == row["completion_time_s"] == "7200"


def test_without_carbon_figures_no_job_emits_zero() -> None:
    assert read(jobs_csv(outcome(ran("a"), carbon="-")))[0]["co2_kg"] == ""


@given(st.floats(0, 2), st.floats(0, 1), st.floats(0.01, 1), st.just(0.0) | st.floats(0.01, 1))
def test_the_seconds_of_a_row_add_up(submitted_h: float, wait_h: float, run_h: float, share: float) -> None:
    start_h = submitted_h + wait_h
    whole = outcome(ran(submitted_h=submitted_h, from_h=start_h, to_h=start_h + run_h), until_h=6.0)
    stopped = replace(whole, jobs=replace(whole.jobs, running_s=whole.jobs.running_s * share))
    row = {name: cell for name, cell in read(jobs_csv(stopped))[0].items() if name.endswith("_s")}
    parts = float(row["waited_s"]) + float(row["running_s"]) + float(row["not_working_s"])
    assert parts == pytest.approx(float(row["completion_time_s"]), abs=1e-5)
    assert float(row["not_working_s"]) == pytest.approx((1 - share) * run_h * 3600, abs=1e-5)


def test_the_rows_of_jobs_sum_to_the_figures() -> None:
    three = outcome(ran("a"), ran("b", from_h=1, to_h=2.5, draw_w=111.0), ran("c", from_h=2, to_h=3))
    rows, found = read(jobs_csv(three)), measure(three)
    assert sum(float(row["energy_kwh"]) for row in rows) == pytest.approx(found.gpu_energy_kwh)
    assert sum(float(row["cost"]) for row in rows) == pytest.approx(found.gpu_cost)


def test_means_per_quarter_hour() -> None:
    """From 12:05, a third of the first quarter, 300 W go; the budget begins at 12:15."""
    drawn = outcome(
        ran("a", from_h=0, to_h=5 / 60, work_h=5 / 60), until_h=0.5, limit_w=900, limit_from_h=0.25
    )
    first, second = read(power_csv(quarter_hours(drawn)))
    assert (first["start_utc"], first["end_utc"]) == ("2026-01-15T12:00:00.000Z", "2026-01-15T12:15:00.000Z")
    assert float(first["busy_gpu_draw_w"]) == pytest.approx(100.0)
    assert float(first["busy_gpus"]) == pytest.approx(1 / 3)
    assert float(first["meter_w"]) == pytest.approx(1.25 * (100 + 100 + 50 * (4 - 1 / 3)))
    assert (first["limit_w"], second["limit_w"]) == ("", "900")
    assert (second["price_per_mwh"], second["carbon_g_per_kwh"]) == ("100", "400")


def test_quarter_hours_are_those_of_the_clock() -> None:
    late = outcome(ran("a"), until_h=1.0)
    moved = replace(late, scenario=replace(late.scenario, start=datetime(2026, 1, 15, 12, 10, tzinfo=UTC)))
    rows = read(power_csv(quarter_hours(moved)))
    assert [row["start_utc"][11:16] for row in rows] == ["12:00", "12:15", "12:30", "12:45", "13:00"]


@given(st.lists(st.floats(0.0, 2.9), max_size=3), st.floats(1, 500))
def test_quarter_hours_hold_all_the_energy(starts_h: list[float], draw_w: float) -> None:
    jobs = [ran(f"j{i}", from_h=at, to_h=at + 0.1, draw_w=draw_w) for i, at in enumerate(starts_h)]
    whole = outcome(*jobs)
    means = quarter_hours(whole)
    assert means.meter_w.sum() * 900 == pytest.approx(float(whole.power.meter_w @ whole.spans_s))


def test_a_row_per_policy() -> None:
    measures = {"backfill": figures(gpu_cost=100.0), "wattmill": figures(unfinished_jobs=("x", "y"))}
    rows = read(policies_csv(measures, compare(measures, least())))
    assert [row["policy"] for row in rows] == ["backfill", "wattmill"]
    assert (rows[1]["saving_captured"], rows[1]["unfinished_jobs"]) == ("0.5", "x y")
    assert (rows[0]["mean_jct_s_high"], rows[0]["jobs_high"]) == ("", "0")


def test_plain_values() -> None:
    odd = {"nan": np.float64("nan"), "inf": float("inf"), "at": NOW, "path": Path("a/b"), "n": np.int64(3)}
    assert plain(odd) == {
        "nan": None,
        "inf": None,
        "at": "2026-01-15T12:00:00+00:00",
        "path": "a/b",
        "n": 3,
    }
    assert plain([-1e-9, 1 / 3, True, None, "x", np.array([1.0])]) == [0.0, 0.333333, True, None, "x", [1.0]]
    with pytest.raises(TypeError, match="complex"):
        plain(1j)


def test_timing_tells_of_answers() -> None:
    answers = tuple(
        Certificate(step="place", value=value, bound=10.0, solve_s=0.5, fallback=why)
        for value, why in ((10.0, None), (5.0, "greedy"))
    )
    (told,) = timing([outcome(ran("a"), wall_s=2.0, certificates=answers)])["policies"].values()
    assert told["wall_s"] == 2.0
    assert told["steps"]["place"] == {
        "answers": 2,
        "mean_solve_s": 0.5,
        "max_solve_s": 0.5,
        "mean_gap": 0.25,
        "max_gap": 0.5,
        "fallbacks": 1,
    }

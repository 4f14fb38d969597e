"""The results page of the simulator: what it is made from, what it claims, when it is not written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.simulation import DoesNotAddUp, check, report
from benchmarks.simulation_cases import (
    LEVERS,
    ONE_CAP,
    OURS,
    TUNING,
    WINDOWS,
    Case,
    cases,
    without,
)
from benchmarks.simulation_findings import Finding, findings
from benchmarks.simulation_page import page
from benchmarks.simulation_plot import plot
from scheduler.policy.named import open_policy
from scheduler.simulation.clusters import uniform_cluster
from scheduler.simulation.run import simulate
from scheduler.simulation.scenarios import ScenarioOptions, scenario_of

START = datetime(2023, 3, 6, tzinfo=UTC)
JOBS = 10


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Case]:
    """Ten jobs on eight GPUs, without a budget and under one."""
    folder = tmp_path_factory.mktemp("made")
    rows = [f"job{n},{n * 1500},{1 + n % 4},{1200 + 700 * n},vc" for n in range(JOBS)]
    (folder / "trace.csv").write_text("\n".join(["job_id,submit_s,gpus,duration_s,vc", *rows]))
    hours = [START + timedelta(hours=hour) for hour in range(-24 * 7, 24 * 21)]
    prices = [f"{hour:%Y-%m-%dT%H:%M:%SZ},{30 + 12 * (hour.hour % 8)}" for hour in hours]
    (folder / "prices.csv").write_text("\n".join(["time_utc,value", *prices]))
    options = ScenarioOptions(
        trace=folder / "trace.csv",
        prices=folder / "prices.csv",
        carbon=folder / "prices.csv",
        cluster=uniform_cluster(gpus=8, model="NVIDIA H100", base_load_w=400.0),
        start=START,
        days=(0, 0.2),
        patience_s=86_400.0,
        value_per_gpu_h={"low": 0.02, "standard": 0.05, "high": 0.1},
    )
    policies = ("backfill", ONE_CAP, OURS, without("caps"))
    cost = Case(part="tuning", value_per_gpu_h=0.05, policies=policies, options=options)
    under = replace(cost, part="held out", budget_share=0.8, policies=("backfill", "uniform_cap", OURS))
    return cost, under


@pytest.fixture(scope="module")
def found(asked: tuple[Case, Case]) -> dict[str, Any]:
    return report(asked, processes=1, name="python -m benchmarks.simulation")


def test_the_figures_are_the_same_every_time(asked: tuple[Case, Case], found: dict[str, Any]) -> None:
    again = report(asked[:1], processes=1, name="python -m benchmarks.simulation")
    assert json.dumps(again["cases"]) == json.dumps(found["cases"][:1])


def test_every_policy_has_its_figures_and_the_bound_is_below_all_that_keep_their_contracts(
    found: dict[str, Any],
) -> None:
    cost, under = found["cases"]
    assert set(cost["policies"]) == {"backfill", ONE_CAP, OURS, without("caps")}
    kept = [figures for figures in cost["policies"].values() if figures["at_equal_contracts"]]
    assert kept
    assert all(figures["gpu_cost"] >= cost["bound"]["cost"] > 0 for figures in kept)
    assert under["peak_w"] * under["budget_share"] > 0
    assert all(figures["budget_excess_caps_ws"] == 0 for figures in under["policies"].values())


def test_work_in_the_window_is_a_part_of_all_work(found: dict[str, Any]) -> None:
    cost, under = found["cases"]
    assert cost["work_in_window_gpu_h"] is None
    assert set(under["work_in_window_gpu_h"]) == set(under["policies"])
    for done_gpu_h in under["work_in_window_gpu_h"].values():
        assert 0 < done_gpu_h < under["work_gpu_h"]


def test_the_page_tells_command_inputs_policies_and_remarks(
    asked: tuple[Case, Case], found: dict[str, Any]
) -> None:
    text = page(found)
    assert "`python -m benchmarks.simulation`" in text
    assert hashlib.sha256(asked[0].options.trace.read_bytes()).hexdigest() in text
    assert f"| {JOBS} | 100.0% | 100.0% |" in text
    for name in ("backfill", ONE_CAP, OURS, without("caps")):
        assert f"| `{name}` |" in text
    assert "quick version" not in text
    assert "Not the whole" not in text
    assert "Not the whole: 2 of 9 cases" in page({**found, "asked": 9})
    assert "quick version" in page({**found, "command": "python -m benchmarks.simulation --quick"})
    lines = [line for line in text.splitlines() if line.startswith(("| `", "| bound"))]
    assert all("None" not in line and "nan" not in line for line in lines)


def test_remarks_tell_what_was_not_kept(found: dict[str, Any]) -> None:
    broken = json.loads(json.dumps(found))
    broken["cases"][0]["policies"][OURS] |= {"deadlines": 7, "deadlines_missed": 3, "unfinished": 2}
    assert "3 of 7 deadlines missed, 2 unfinished" in page(broken)


def test_the_plot_has_a_point_per_policy_and_a_line_per_policy_under_budgets(found: dict[str, Any]) -> None:
    left, right = plot(found).axes
    names = left.get_legend_handles_labels()[1]
    assert {ONE_CAP, OURS} <= set(names)
    assert right.get_legend_handles_labels()[1] == ["backfill", "uniform_cap", OURS]


def test_joules_that_do_not_add_up_are_refused(asked: tuple[Case, Case]) -> None:
    outcome = simulate(scenario_of(asked[0].options), open_policy("backfill"))
    check([outcome])
    more = replace(outcome, jobs=replace(outcome.jobs, energy_j=outcome.jobs.energy_j * 1.01))
    with pytest.raises(DoesNotAddUp, match="backfill: energy"):
        check([outcome, more])


# --- what is asked ------------------------------------------------------------------------------------------


def test_no_held_out_week_was_looked_at() -> None:
    """Neither the week of the trace nor the week of prices is one of the tuning window's."""

    def weeks(start: datetime, days: tuple[float, float]) -> set[tuple[str, int]]:
        of_trace = {("trace", int(day // 7)) for day in range(int(days[0]), int(days[1]))}
        moments = [start + timedelta(days=day) for day in range(int(days[0]), int(days[1]))]
        return of_trace | {("prices", moment.isocalendar().week) for moment in moments}

    looked_at = weeks(TUNING.start, TUNING.days)
    held_out = [window for window in WINDOWS if window.part == "held out"]
    assert TUNING.part == "tuning"
    assert len(held_out) >= 2
    for window in held_out:
        assert not weeks(window.start, window.days) & looked_at


def test_all_policies_are_asked_for_in_every_window_and_levers_in_every_part(tmp_path: Path) -> None:
    wanted = {"fifo", "backfill", ONE_CAP, "price_threshold", "wait_awhile", OURS}
    asked = [case for case in cases(tmp_path) if case.budget_share is None]
    for window in WINDOWS:
        of_it = [
            case for case in asked if (case.options.start, case.options.days) == (window.start, window.days)
        ]
        assert len({case.value_per_gpu_h for case in of_it}) == 3
        assert any(wanted <= set(case.policies) for case in of_it)
        assert all({"backfill", OURS} <= set(case.policies) for case in of_it)
    with_levers = [case for case in asked if set(map(without, LEVERS)) <= set(case.policies)]
    assert {case.part for case in with_levers} == {"tuning", "held out"}


def test_the_quick_version_has_jobs_in_every_window(data_dir: Path) -> None:
    quick = cases(data_dir, quick=True)
    assert {case.part for case in quick} == {"tuning", "held out"}
    assert all(len(scenario_of(case.options).jobs) > 10 for case in quick)


# --- what is claimed ----------------------------------------------------------------------------------------


def case_of(**policies: dict[str, Any]) -> dict[str, Any]:
    """A case in which each policy kept everything and captured a half, but for what is said."""
    usual = {
        "gpu_cost": 100.0,
        "saving_captured": 0.5,
        "saving_captured_site": 0.5,
        "unfinished": 0,
        "mean_jct_cannot_wait_change": 0.0,
        "deadlines": 9,
        "deadlines_missed": 0,
        "contracts_broken_beyond_tolerance": 0,
        "at_equal_contracts": True,
        "mean_jct_s_ended_by_all": 3600.0,
        "budget_excess_caps_ws": 0.0,
    }
    return {
        "budget_share": None,
        "value_per_gpu_h": 0.1,
        "inputs": {"start": START.isoformat()},
        "policies": {name: usual | told for name, told in {"backfill": {}, OURS: {}, **policies}.items()},
    }


def those(made: dict[str, Any], words: str) -> list[Finding]:
    return [finding for finding in findings([made]) if words in finding.told]


@pytest.mark.parametrize(("captured", "good"), [(0.9, True), (0.8, True), (0.79, False), (None, False)])
def test_eighty_per_cent_is_the_line(captured: float | None, good: bool) -> None:
    (finding,) = those(case_of(wattmill={"saving_captured": captured}), "saving in GPU energy is captured")
    assert finding.good is good


def test_a_cheaper_policy_is_named_only_if_it_kept_as_many_promises() -> None:
    (named,) = those(case_of(fifo={"gpu_cost": 90.0}), "dearer in GPU energy")
    assert not named.good
    assert "`fifo` (90.00, all kept)" in named.told
    for left in ("unfinished", "deadlines_missed", "contracts_broken_beyond_tolerance"):
        assert not those(case_of(fifo={"gpu_cost": 90.0, left: 1}), "dearer in GPU energy")


def test_a_deadline_that_backfill_met_is_told() -> None:
    (told,) = those(case_of(wattmill={"deadlines_missed": 2}), "0 under backfill")
    assert told == Finding(False, "06 Mar at 0.1: 2 of 9 deadlines are missed, 0 under backfill.")


def test_a_lever_that_costs_more_than_it_gives_is_told() -> None:
    made = case_of(**{without("pack"): {"gpu_cost": 95.0}, without("caps"): {"gpu_cost": 120.0}})
    (told,) = those(made, "is cheaper")
    assert "`pack`" in told.told
    assert not told.good


@pytest.mark.parametrize(("ours_gpu_h", "good"), [(60.0, True), (40.0, False)])
def test_under_a_budget_more_work_is_good_and_less_is_not(ours_gpu_h: float, good: bool) -> None:
    made = case_of() | {
        "budget_share": 0.65,
        "work_in_window_gpu_h": {"backfill": 50.0, OURS: ours_gpu_h},
    }
    (told,) = those(made, "work done in the window")
    assert told.good is good


def test_watts_over_the_budget_are_never_good() -> None:
    under = {"budget_share": 0.65, "work_in_window_gpu_h": {"backfill": 50.0, OURS: 50.0}}
    (kept,) = those(case_of() | under, "excess of counted caps")
    (over,) = those(case_of(wattmill={"budget_excess_caps_ws": 3.0}) | under, "excess of counted caps")
    assert kept.good
    assert not over.good

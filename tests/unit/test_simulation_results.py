"""The folder of results: which files, what the summary promises, and what the plots show."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.simulation.measures import measure
from scheduler.simulation.model import BadInput, Outcome
from scheduler.simulation.plots import plot_frontier, plot_power, plot_tiers, svg
from scheduler.simulation.quarter_hours import quarter_hours
from scheduler.simulation.results import write_results
from tests.outcome_builders import figures, least, outcome, ran

KEYS_PROMISED = {
    "cost",
    "energy_kwh",
    "co2_kg",
    "mean_jct_s",
    "p99_jct_s",
    "mean_slowdown",
    "deadlines_missed",
    "contracts_broken",
    "budget_excess_caps_ws",
    "budget_excess_draw_1s_ws",
    "preemptions",
    "saving_captured",
    "regret_cost",
}


# --- files ------------------------------------------------------------------------------------------------


def both(wall_s: float = 1.0) -> list[Outcome]:
    """The same three jobs at once, and one after another for less."""
    jobs = [ran(name, flex=flex, draw_w=300) for name, flex in (("a", "none"), ("b", "low"), ("c", "high"))]
    later = [replace(it, from_h=2.0, to_h=3.0, draw_w=250.0) if it.id == "c" else it for it in jobs]
    drawn = {"backfill": jobs, "wattmill": later}
    return [
        outcome(*rows, policy=name, price="100 200 50", limit_w=1200.0, wall_s=wall_s)
        for name, rows in drawn.items()
    ]


INPUTS = {"trace": {"name": "jobs.csv", "sha256": "00ff"}, "jobs": 3, "dropped": 0}


def test_a_folder_of_results(tmp_path: Path) -> None:
    written = write_results(tmp_path / "new" / "folder", both(), least(), INPUTS)
    assert [path.name for path in written] == [
        "power.svg",
        "frontier.svg",
        "tiers.svg",
        "jobs_backfill.csv",
        "power_backfill.csv",
        "jobs_wattmill.csv",
        "power_wattmill.csv",
        "policies.csv",
        "timing.json",
        "summary.json",
    ]
    assert {path.name for path in written} == {path.name for path in (tmp_path / "new/folder").iterdir()}


def test_the_summary_has_what_it_promises(tmp_path: Path) -> None:
    summary = json.loads(write_results(tmp_path, both(), least(), INPUTS, with_plots=False)[-1].read_text())
    assert list(summary) == ["policies", "bound", "seed", "inputs"]
    assert list(summary["policies"]) == ["backfill", "wattmill"]
    for policy in summary["policies"].values():
        assert set(policy) >= KEYS_PROMISED
        assert not any(isinstance(value, dict) for value in policy.values())
    assert summary["policies"]["wattmill"]["cost"] == pytest.approx(measure(both()[1]).cost, abs=1e-6)
    assert summary["bound"]["cost"] == 60.0
    assert "solve_s" not in summary["bound"]
    assert summary["bound"]["notes"] == ["perfect foresight"]
    assert (summary["seed"], summary["inputs"]) == (7, INPUTS)


def test_without_a_bound_the_summary_says_so(tmp_path: Path) -> None:
    summary = json.loads(write_results(tmp_path, both(), None, INPUTS, with_plots=False)[-1].read_text())
    assert summary["bound"] is None
    assert summary["policies"]["wattmill"]["saving_captured"] is None


def test_only_the_timing_knows_how_long_it_took(tmp_path: Path) -> None:
    for folder, wall_s in (("one", 1.0), ("two", 2.0)):
        write_results(tmp_path / folder, both(wall_s), least(solve_s=wall_s), INPUTS)
    differing = [
        path.name
        for path in sorted((tmp_path / "one").iterdir())
        if path.read_bytes() != (tmp_path / "two" / path.name).read_bytes()
    ]
    assert differing == ["timing.json"]


def test_results_replace_their_own_names_and_leave_others(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "summary.json").write_text("old")
    write_results(tmp_path, both(), None, INPUTS, with_plots=False)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert json.loads((tmp_path / "summary.json").read_text())["seed"] == 7


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        ([], "no policy was simulated"),
        ([both()[0], both()[0]], "share a policy's name"),
        ([replace(both()[0], policy="../evil")], "part of file names"),
        ([both()[0], outcome(ran("z"))], "ran different scenarios"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is(
    tmp_path: Path, outcomes: list[Outcome], told: str
) -> None:
    with pytest.raises(BadInput, match=told):
        write_results(tmp_path / "none", outcomes, None, INPUTS)
    assert not (tmp_path / "none").exists()


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BadInput, match=r"wattmill\[results\]"):
        write_results(tmp_path / "none", both(), None, INPUTS)
    assert not (tmp_path / "none").exists()
    assert write_results(tmp_path, both(), None, INPUTS, with_plots=False)


def test_results_are_counted_to_the_common_end(tmp_path: Path) -> None:
    soon = outcome(ran("a"), until_h=1.0, policy="backfill")
    late = replace(outcome(ran("a", from_h=2, to_h=3), until_h=3.0), scenario=soon.scenario)
    policies = json.loads(write_results(tmp_path, [soon, late], None, {}, with_plots=False)[-1].read_text())
    assert [policy["simulated_h"] for policy in policies["policies"].values()] == [3.0, 3.0]


# --- plots ------------------------------------------------------------------------------------------------


def test_a_panel_per_policy_and_one_of_prices() -> None:
    figure = plot_power({it.policy: quarter_hours(it) for it in both()})
    assert [axes.get_title(loc="right") for axes in figure.axes] == ["backfill", "wattmill", ""]
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[1].lines}
    assert drawn["budget"].tolist() == [1.2] * 12
    assert drawn["draw at the meter"][-1] == pytest.approx((250 + 3 * 50 + 100) * 1.25 / 1e3)
    assert figure.axes[-1].lines[0].get_ydata()[0] == 100.0


def test_of_many_policies_the_plot_shows_the_baseline_and_ours() -> None:
    means = quarter_hours(both()[0])
    names = ("fifo", "backfill", "uniform_cap", "price_threshold", "wattmill")
    figure = plot_power(dict.fromkeys(names, means))
    assert [axes.get_title(loc="right") for axes in figure.axes] == ["backfill", "wattmill", ""]


def test_the_frontier_leads_through_whom_nobody_beats() -> None:
    points = {"cheap": (2, 10.0), "beaten": (3, 30.0), "fast": (1, 20.0)}
    measures = {name: figures(gpu_cost=cost, mean_jct_s=h * 3600) for name, (h, cost) in points.items()}
    axes = plot_frontier(measures, least()).axes[0]
    frontier = next(line for line in axes.lines if line.get_label() == "no policy below and left")
    assert frontier.get_xydata().tolist() == [[1.0, 20.0], [2.0, 10.0]]
    assert {text.get_text() for text in axes.get_legend().get_texts()} >= {*points, "bound of cost"}


def test_bars_stand_for_the_means_of_tiers() -> None:
    upper, lower = plot_tiers({it.policy: measure(it) for it in both()}).axes
    heights = [[bar.get_height() for bar in bars] for bars in upper.containers]
    assert heights[1][0] == pytest.approx(1.0)
    assert heights[1][3] == pytest.approx(3.0)
    assert [text.get_text() for text in lower.get_legend().get_texts()] == ["worst job", "allowed"]


def test_equal_figures_give_equal_files() -> None:
    drawn = [svg(plot_tiers({it.policy: measure(it) for it in both()})) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert "<dc:date>" not in drawn[0]


def test_a_policy_with_options_has_files_of_its_own(tmp_path: Path) -> None:
    named = [replace(both()[0], policy=name) for name in ("uniform_cap", "uniform_cap:share=0.7")]
    paths = {path.name for path in write_results(tmp_path, named, None, {}, with_plots=False)}
    assert {"jobs_uniform_cap.csv", "jobs_uniform_cap+share-0.7.csv"} < paths
    assert set(json.loads((tmp_path / "summary.json").read_text())["policies"]) == {o.policy for o in named}

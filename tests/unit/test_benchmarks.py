"""The benchmark runs, says what it promises to say, and what it says is possible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cluster import synthetic_site
from benchmarks.decide import measure
from benchmarks.scale import growth, plot, table
from benchmarks.trace_sizes import load_trace, running_sizes

STEPS = ("cap", "place", "place_one_change", "plan")


@pytest.fixture(scope="module")
def report(data_dir: Path) -> dict[str, Any]:
    return measure(gpus=32, running=12, pending=16, seed=3, rounds=2, time_limit_s=1.0, plan_limit_s=1.0)


@pytest.mark.parametrize("step", STEPS)
def test_every_step_has_times_and_a_gap(report: dict[str, Any], step: str) -> None:
    figures = report[step]
    assert 0 < figures["median_s"] <= figures["p99_s"]
    assert 0 <= figures["gap"] <= figures["gap_max"] <= 1
    assert figures["rounds"] == 2


def test_nobody_beats_a_proven_answer(report: dict[str, Any]) -> None:
    for name, figures in report["baselines"].items():
        assert figures["value_ratio"] is not None, name
        assert figures["value_ratio"] <= 1.0 + 2e-3, name


def test_memory_is_told(report: dict[str, Any]) -> None:
    assert 50 * 2**20 < report["peak_rss_bytes"] < 1.5 * 2**30


def test_the_table_has_a_row_per_size_and_the_plot_a_line_per_step(report: dict[str, Any]) -> None:
    larger = {**report, "asked": {**report["asked"], "gpus": 131_072}}
    text = table([report, larger])
    assert "| 32 | 12 | 16 |" in text
    assert "| 131,072 |" in text
    labels = plot([report, larger]).axes[0].get_legend_handles_labels()[1]
    assert labels == ["cap", "place", "place one change", "plan"]


def test_growth_is_set_against_n_log_n(report: dict[str, Any]) -> None:
    small = {**report, "asked": {**report["asked"], "gpus": 1024}}
    large = {**report, "asked": {**report["asked"], "gpus": 131_072}}
    assert "From 1,024 to 131,072 GPUs n log n grows 218 times; time grew: cap 1," in growth([small, large])


def test_running_jobs_fill_the_cluster_as_far_as_asked(data_dir: Path) -> None:
    sizes, run_s, left_s = running_sizes(load_trace(), 2000, gpus=12_000, chance=np.random.default_rng(0))
    assert sizes.sum() == pytest.approx(12_000, rel=0.1)
    assert (run_s > 0).all()
    assert (left_s > 0).all()


def test_a_synthetic_site_can_carry_what_runs_at_its_floors(data_dir: Path) -> None:
    site = synthetic_site(gpus=256, running=60, pending=10, seed=1)
    index = site.tree.index
    cap_of = {view.job.run.id: view for view in site.jobs if view.job.run is not None}
    row_of = {uuid: row for row, uuid in enumerate(index.gpu_uuids)}
    floor_w = np.zeros(len(site.gpus))
    for gpu in site.gpus:
        view = None if gpu.run_id is None else cap_of[gpu.run_id]
        floor_w[row_of[gpu.uuid]] = (
            gpu.idle_w if view is None else view.curve.cap_for(min(view.floor_share, 0.999))
        )
    used_w = index.metered_w(index.under(index.leaf, floor_w))
    for name, limit_w in site.limits_w.items():
        assert used_w[index.column[name]] <= limit_w, name

"""The results of the simulator as one figure: how much of the possible saving each policy captured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.simulation_cases import BASELINE, OURS
from benchmarks.simulation_findings import CAPTURED_SHARE, label, others
from scheduler.simulation.plots import COLOURS, MARKERS


def plot(found: Mapping[str, Any]) -> Figure:
    """Left: saving against completion time of jobs that cannot wait. Right: work done under budgets."""
    cost = [case for case in found["cases"] if case["budget_share"] is None]
    power = [case for case in found["cases"] if case["budget_share"] is not None]
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _saving(left, cost)
    _under_budgets(right, power)
    return figure


def _saving(axes: Axes, cases: list[Mapping[str, Any]]) -> None:
    colour_of: dict[str, str] = {}
    for case, marker in zip(cases, MARKERS, strict=False):
        shown = {name: figures for name, figures in others(case).items() if name != BASELINE}
        for name, figures in {**shown, OURS: case["policies"][OURS]}.items():
            captured, later = figures["saving_captured"], figures["mean_jct_cannot_wait_change"]
            if captured is None or later is None:
                continue
            new = name not in colour_of
            colour = colour_of.setdefault(name, COLOURS[len(colour_of) % len(COLOURS)])
            axes.scatter(
                100 * later, 100 * captured, marker=marker, color=colour, label=name if new else None
            )
        axes.scatter([], [], marker=marker, color="0.6", label=label(case))
    axes.axhline(100 * CAPTURED_SHARE, color="0.3", linestyle="--", linewidth=1)
    axes.axhline(0.0, color="0.6", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=10)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("jobs that cannot wait end so much later than under backfill (%, mean)")
    axes.set_ylabel("captured of the possible saving in GPU energy (%)")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _under_budgets(axes: Axes, cases: list[Mapping[str, Any]]) -> None:
    names = list(dict.fromkeys(name for case in cases for name in case["work_in_window_gpu_h"]))
    for index, name in enumerate(names):
        axes.plot(
            [100 * case["budget_share"] for case in cases],
            [case["work_in_window_gpu_h"][name] for case in cases],
            marker=MARKERS[index % len(MARKERS)],
            color=COLOURS[index % len(COLOURS)],
            label=name,
        )
    axes.set_xlabel("budget (% of the uncapped peak at the meter)")
    axes.set_ylabel("work done when the window ends (GPU-hours)")
    axes.grid(visible=True, alpha=0.3)
    if names:
        axes.legend(frameon=False)

"""Outcomes as plots: power over time, cost against completion time, slowdown by flex tier.

matplotlib comes with the extra `results` and is imported only where a plot is made. Equal figures give equal
files.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from power.arrays import Floats
from scheduler.model import Flex
from scheduler.simulation.bound import Bound
from scheduler.simulation.compare import BASELINE
from scheduler.simulation.measures import CANNOT_WAIT, S_PER_H, Measures
from scheduler.simulation.model import BadInput
from scheduler.simulation.quarter_hours import QuarterHours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS: Final = "wattmill"
MOST_PANELS: Final = 4
MOST_POINTS: Final = 1500  # along the time axis; a month of quarter hours has twice as many
LOG_RATIO: Final = 20.0  # bars further apart than this are drawn on a logarithmic axis
MARKERS: Final = "osD^vP*X<>"
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b4a8a", "#7f7f7f")


def need_matplotlib() -> None:
    """Raises BadInput with what to install where plots cannot be made."""
    if find_spec("matplotlib") is None:
        raise BadInput("plots need matplotlib: install the extra with `pip install 'wattmill[results]'`")


def svg(figure: Figure) -> str:
    """The figure as SVG text, without date and chance: equal figures give equal texts."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "wattmill", "svg.fonttype": "path"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def plot_power(means: Mapping[str, QuarterHours]) -> Figure:
    """Power at the meter, counted caps and limit over time, a panel per policy; below them the price.

    With many policies the baseline and ours alone. Raises BadInput where there is none.
    """
    shown = _shown(means)
    figure = _figure(10, 2.2 * len(shown) + 2.2)
    panels = figure.subplots(len(shown) + 1, 1, sharex=True, squeeze=False)[:, 0]
    most_kw = max(_most_kw(means[name]) for name in shown)
    for axes, name in zip(panels[:-1], shown, strict=True):
        _power_panel(axes, name, means[name])
        axes.set_ylim(0.0, 1.08 * most_kw)
    panels[0].legend(*_legend(panels[:-1]), loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False)
    _price_panel(panels[-1], means[shown[0]])
    figure.align_ylabels(panels)
    return figure


def plot_frontier(measures: Mapping[str, Measures], bound: Bound | None) -> Figure:
    """Electricity cost of busy GPUs against mean completion time; dashed: what no policy can beat."""
    figure = _figure(8, 5)
    axes = figure.subplots()
    points = {name: (ours.mean_jct_s / S_PER_H, ours.gpu_cost) for name, ours in measures.items()}
    steps = _pareto(points.values())
    axes.step(
        [x for x, _ in steps],
        [y for _, y in steps],
        where="post",
        color="0.6",
        zorder=1,
        label="no policy below and left",
    )
    for index, (name, (jct_h, cost)) in enumerate(points.items()):
        axes.scatter(
            jct_h, cost, s=70, marker=MARKERS[index % len(MARKERS)], color=_colour(index), label=name
        )
    if bound is not None:
        axes.axhline(bound.cost, color="0.2", linestyle="--", linewidth=1, label="bound of cost")
        axes.axvline(
            bound.mean_jct_s / S_PER_H,
            color="0.2",
            linestyle=":",
            linewidth=1,
            label="bound of completion time",
        )
    axes.set_xlabel("mean completion time (h)")
    axes.set_ylabel("electricity cost of busy GPUs (currency of the prices)")
    axes.grid(visible=True, alpha=0.3)
    axes.margins(0.12)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def plot_tiers(measures: Mapping[str, Measures]) -> Figure:
    """By flex tier: mean slowdown from submission to end, and throughput lost while running.

    Bars of lost throughput show the mean, the mark over them the worst job, the line what the tier allows.
    """
    tiers = [flex.value for flex in Flex]
    figure = _figure(10, 6.5)
    upper, lower = figure.subplots(2, 1)
    groups = [*tiers, CANNOT_WAIT]
    _bars(upper, measures, groups, "mean_slowdown")
    _logarithmic_if_wide(upper, [measures[n].groups[g].mean_slowdown for n in measures for g in groups])
    upper.set_ylabel("mean slowdown\n(completion time / work)")
    upper.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    _bars(lower, measures, tiers, "mean_throughput_loss", scale=100.0)
    _worst_marks(lower, measures, tiers)
    _tier_limits(lower)
    lower.set_ylabel("throughput lost\nwhile running (%)")
    lower.set_xlabel("flex tier of the jobs")
    told = [item for item in zip(*lower.get_legend_handles_labels(), strict=True) if item[1] not in measures]
    lower.legend(*zip(*told, strict=True), loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def _figure(width: float, height: float) -> Figure:
    need_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _shown(means: Mapping[str, QuarterHours]) -> list[str]:
    if not means:
        raise BadInput("nothing to plot: no policy was simulated")
    if len(means) <= MOST_PANELS:
        return list(means)
    both = [name for name in (BASELINE, OURS) if name in means]
    return both or list(means)[:MOST_PANELS]


def _most_kw(means: QuarterHours) -> float:
    rows = [means.meter_w, means.caps_w, means.limit_w]
    return max(float(np.nanmax(row, initial=0.0)) for row in rows) / 1e3


def _power_panel(axes: Axes, name: str, means: QuarterHours) -> None:
    hours = _hours(means)
    lines: tuple[tuple[Floats, str, dict[str, Any]], ...] = (
        (means.meter_w, "draw at the meter", {"color": COLOURS[0], "linewidth": 1.0}),
        (means.caps_w, "caps as counted", {"color": COLOURS[4], "linewidth": 0.8}),
        (means.limit_w, "budget", {"color": "#b00020", "linewidth": 1.2, "linestyle": "--"}),
    )
    for watts, label, look in lines:
        if np.isfinite(watts).any():
            axes.plot(*_thinned(hours, watts / 1e3), drawstyle="steps-post", label=label, **look)
    axes.set_title(name, loc="right", fontsize="medium")
    axes.set_ylabel("power (kW)")
    axes.grid(visible=True, alpha=0.3)


def _price_panel(axes: Axes, means: QuarterHours) -> None:
    axes.plot(
        *_thinned(_hours(means), means.price_per_mwh), drawstyle="steps-post", color="0.25", linewidth=1.0
    )
    axes.set_ylabel("price (per MWh)")
    axes.margins(x=0.01)
    axes.grid(visible=True, alpha=0.3)
    days = len(means.starts) / 96 > 3
    start = f"{means.starts[0]:%Y-%m-%d %H:%M} UTC"
    axes.set_xlabel(f"days since {start}" if days else f"hours since {start}")


def _hours(means: QuarterHours) -> Floats:
    """Along the time axis: hours, or days where there are more than three. One more than rows."""
    quarters = np.arange(len(means.starts), dtype=np.float64)
    return quarters / (96.0 if len(means.starts) / 96 > 3 else 4.0)


def _thinned(hours: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Means over as many neighbours as keep the line legible and the file small."""
    together = -(-len(values) // MOST_POINTS)
    if together <= 1:
        return hours, values
    whole = len(values) // together * together
    return hours[:whole:together], values[:whole].reshape(-1, together).mean(axis=1)


def _legend(panels: Iterable[Axes]) -> tuple[list[Any], list[str]]:
    """Every label once, of all panels: a budget may hold in one of them alone."""
    found: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    return list(found.values()), list(found)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _pareto(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that no other one beats in both, from left to right."""
    best: list[tuple[float, float]] = []
    for point in sorted(point for point in points if all(map(math.isfinite, point))):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return best


def _bars(
    axes: Axes, measures: Mapping[str, Measures], groups: Sequence[str], figure: str, *, scale: float = 1.0
) -> None:
    width = 0.8 / max(1, len(measures))
    for index, (name, ours) in enumerate(measures.items()):
        heights = np.array([getattr(ours.groups[group], figure) for group in groups])
        axes.bar(
            _places(index, len(measures), len(groups)),
            scale * heights,
            width,
            color=_colour(index),
            label=name,
        )
    counts = next(iter(measures.values())).groups
    names = [f"{group.replace('_', ' ')}\n{counts[group].jobs:,} jobs" for group in groups]
    axes.set_xticks(np.arange(len(groups)), names)
    axes.grid(visible=True, axis="y", alpha=0.3)
    axes.set_axisbelow(True)


def _places(index: int, policies: int, groups: int) -> Floats:
    """Where the bars of a policy stand: side by side around the middle of each group."""
    places: Floats = np.arange(groups, dtype=np.float64) + (index - (policies - 1) / 2) * 0.8 / policies
    return places


def _worst_marks(axes: Axes, measures: Mapping[str, Measures], tiers: Sequence[str]) -> None:
    for index, ours in enumerate(measures.values()):
        worst = [100 * ours.groups[tier].max_throughput_loss for tier in tiers]
        axes.plot(
            _places(index, len(measures), len(tiers)),
            worst,
            linestyle="",
            marker="_",
            markersize=9,
            markeredgewidth=2,
            color="0.35",
            label="worst job" if index == 0 else None,
        )


def _tier_limits(axes: Axes) -> None:
    shares = 100 * np.array([flex.share for flex in Flex])
    middles = np.arange(len(shares))
    axes.hlines(shares, middles - 0.45, middles + 0.45, color="black", linestyle="--", label="allowed")


def _logarithmic_if_wide(axes: Axes, heights: Sequence[float]) -> None:
    known = [height for height in heights if math.isfinite(height) and height > 0]
    if known and max(known) > LOG_RATIO * min(known):
        axes.set_yscale("log")
        axes.set_ylim(bottom=min(1.0, *known))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")

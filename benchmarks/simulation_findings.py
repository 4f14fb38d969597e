"""What is good and what is not in the results of the simulator, worked out from the figures. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from benchmarks.simulation_cases import BASELINE, LEVERS, OURS, without

CAPTURED_SHARE: Final = 0.80  # of the possible saving: to be reached
SLOWER_SHARE: Final = 0.05  # so much later jobs that cannot wait may end, in the mean
EQUAL_SHARE: Final = 1e-3  # figures closer than this are told as equal

Figures = Mapping[str, Any]  # of one policy in one case
Found = Mapping[str, Any]  # of one case


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence, and whether what it tells is as it should be."""

    good: bool
    told: str


def findings(cases: Sequence[Found]) -> tuple[Finding, ...]:
    """Every claim, over all cases that it is about, in the order of the page."""
    cost = [case for case in cases if case["budget_share"] is None]
    power = [case for case in cases if case["budget_share"] is not None]
    return (*_cost_findings(cost), *_power_findings(power))


def label(case: Found) -> str:
    """`13 Mar at 0.05`, `13 Mar under 65%`: short enough for a list."""
    day = f"{datetime.fromisoformat(case['inputs']['start']):%d %b}"
    if case["budget_share"] is not None:
        return f"{day} under {case['budget_share']:.0%}"
    return f"{day} at {case['value_per_gpu_h']:g}"


def others(case: Found) -> dict[str, Figures]:
    """The policies of the case that are not ours and no variant of it."""
    variants = {OURS, *map(without, LEVERS)}
    return {name: figures for name, figures in case["policies"].items() if name not in variants}


def kept_as_well(figures: Figures, reference: Figures) -> bool:
    """As many jobs ended, deadlines met and tiers kept as by the other one, or more."""
    promises = ("unfinished", "deadlines_missed", "contracts_broken_beyond_tolerance")
    return all(figures[promise] <= reference[promise] for promise in promises)


# --- cost ---------------------------------------------------------------------------------------------------


def _cost_findings(cases: Sequence[Found]) -> Iterator[Finding]:
    if not cases:
        return
    for figure, what in (
        ("saving_captured", "the possible saving in GPU energy"),
        ("saving_captured_site", "the possible saving of the site"),
    ):
        yield _counted(
            cases,
            f"at least {CAPTURED_SHARE:.0%} of {what} is captured",
            lambda ours, figure=figure: _at_least(ours[figure], CAPTURED_SHARE),
            lambda ours, figure=figure: percent(ours[figure]),
        )
    yield _counted(
        cases,
        f"jobs that cannot wait end at most {SLOWER_SHARE:.0%} later than under {BASELINE}, in the mean",
        lambda ours: _at_most(ours["mean_jct_cannot_wait_change"], SLOWER_SHARE),
        lambda ours: signed_percent(ours["mean_jct_cannot_wait_change"]),
    )
    yield _counted(
        cases,
        "every job ends, within its tier and by its deadline",
        lambda ours: bool(ours["at_equal_contracts"]),
        promises_told,
    )
    yield from (_against_baseline(case) for case in cases if _misses_more(case))
    yield from _dearer(cases)
    yield from _idle_levers(cases)


def _counted(
    cases: Sequence[Found],
    claim: str,
    holds: Callable[[Figures], bool],
    told: Callable[[Figures], str],
) -> Finding:
    """In how many cases a claim about ours holds, and the figure in each of them."""
    ours = [(label(case), case["policies"][OURS]) for case in cases]
    right = sum(holds(figures) for _, figures in ours)
    each = "; ".join(f"{name}: {told(figures)}" for name, figures in ours)
    return Finding(right == len(ours), f"In {right} of {len(ours)} cases {claim} ({each}).")


def _misses_more(case: Found) -> bool:
    missed: int = case["policies"][OURS]["deadlines_missed"]
    return missed > case["policies"][BASELINE]["deadlines_missed"]


def _against_baseline(case: Found) -> Finding:
    ours, baseline = case["policies"][OURS], case["policies"][BASELINE]
    return Finding(
        False,
        f"{label(case)}: {ours['deadlines_missed']} of {ours['deadlines']} deadlines are missed,"
        f" {baseline['deadlines_missed']} under {BASELINE}.",
    )


def _dearer(cases: Sequence[Found]) -> Iterator[Finding]:
    """Cases in which somebody who kept as many promises paid less for GPU energy than ours."""
    clean = 0
    for case in cases:
        ours = case["policies"][OURS]
        cheaper = [
            f"`{name}` ({figures['gpu_cost']:.2f}, {promises_told(figures)})"
            for name, figures in others(case).items()
            if figures["gpu_cost"] < ours["gpu_cost"] * (1 - EQUAL_SHARE) and kept_as_well(figures, ours)
        ]
        if cheaper:
            told = (
                f"{label(case)}: dearer in GPU energy ({ours['gpu_cost']:.2f}) than {' and '.join(cheaper)}."
            )
            yield Finding(False, told)
        clean += not cheaper
    if clean:
        yield Finding(
            True,
            f"In {clean} of {len(cases)} cases no other policy that keeps as many promises pays less for GPU"
            " energy.",
        )


def _idle_levers(cases: Sequence[Found]) -> Iterator[Finding]:
    """Levers without which ours is cheaper, or costs the same."""
    for case in cases:
        ours = case["policies"][OURS]["gpu_cost"]
        for lever in LEVERS:
            figures = case["policies"].get(without(lever))
            if figures is not None and figures["gpu_cost"] < ours * (1 - EQUAL_SHARE):
                yield Finding(
                    False,
                    f"{label(case)}: without `{lever}` GPU energy is cheaper ({figures['gpu_cost']:.2f},"
                    f" {promises_told(figures)}) than with it ({ours:.2f}).",
                )


# --- budgets ------------------------------------------------------------------------------------------------


def _power_findings(cases: Sequence[Found]) -> Iterator[Finding]:
    for case in cases:
        ours, done = case["policies"][OURS], case["work_in_window_gpu_h"]
        for name, figures in others(case).items():
            work_change = _change(done[OURS], done[name])
            jct_change = _change(ours["mean_jct_s_ended_by_all"], figures["mean_jct_s_ended_by_all"])
            yield Finding(
                _at_least(work_change, -EQUAL_SHARE) and _at_most(jct_change, EQUAL_SHARE),
                f"{label(case)}: against `{name}` {signed_percent(work_change)} work done in the window and"
                f" {signed_percent(jct_change)} mean completion time of the jobs that all ended"
                f" ({promises_told(ours)}; `{name}`: {promises_told(figures)}).",
            )
        over = {name: figures["budget_excess_caps_ws"] for name, figures in case["policies"].items()}
        worst = ", ".join(f"`{name}` {excess:.0f} Ws" for name, excess in over.items())
        yield Finding(over[OURS] == 0, f"{label(case)}: excess of counted caps over the budget: {worst}.")


# --- words --------------------------------------------------------------------------------------------------


def promises_told(figures: Figures) -> str:
    """`all kept`, or what was not."""
    late, due = figures["deadlines_missed"], figures["deadlines"]
    broken, unfinished = figures["contracts_broken_beyond_tolerance"], figures["unfinished"]
    told = [f"{late} of {due} deadlines missed"] if late else []
    told += [f"{broken} {'tier' if broken == 1 else 'tiers'} broken"] if broken else []
    told += [f"{unfinished} unfinished"] if unfinished else []
    return ", ".join(told) or "all kept"


def percent(share: float | None) -> str:
    """`81 %`; `-` where it cannot be said."""
    return "-" if share is None else f"{share:.0%}"


def signed_percent(share: float | None) -> str:
    return "-" if share is None else f"{share:+.1%}"


def _change(ours: float | None, other: float | None) -> float | None:
    """(ours - other) / other; None where that cannot be said."""
    return None if ours is None or not other else ours / other - 1


def _at_least(figure: float | None, least: float) -> bool:
    return figure is not None and figure >= least


def _at_most(figure: float | None, most: float) -> bool:
    return figure is not None and figure <= most

"""The results page of the simulator, from the figures that its command found. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from benchmarks.simulation_cases import BASELINE, LEVERS, ONE_CAP, OURS, without
from benchmarks.simulation_findings import (
    Figures,
    Found,
    findings,
    percent,
    promises_told,
    signed_percent,
)
from scheduler.simulation.measures import S_PER_H
from scheduler.simulation.run import PLACE_LIMIT_S

COST_COLUMNS: Final = (
    *("policy", "GPU energy, EUR", "captured", "regret", "site, EUR", "site captured", "site regret"),
    *("CO2, kg", "completion, h", "cannot wait", "can wait, h", "remarks"),
)
POWER_COLUMNS: Final = (
    *("policy", "work in the window, GPU-h", "completion, h", "GPU-h per GPU kWh"),
    *("site, kWh", "excess caps, Ws", "excess draw, Ws", "remarks"),
)


def page(found: Mapping[str, Any]) -> str:
    """Markdown. `found` is what `benchmarks.simulation.report` returns."""
    cost = [case for case in found["cases"] if case["budget_share"] is None]
    power = [case for case in found["cases"] if case["budget_share"] is not None]
    parts = (
        _opening(found),
        _inputs(found["cases"]),
        _verdicts(found["cases"]),
        _cost(cost),
        _levers(cost),
        _power(power),
        [LIMITS],
        _times(found["timing"]),
    )
    return "\n".join(line for part in parts for line in part)


def _opening(found: Mapping[str, Any]) -> Iterator[str]:
    yield "# What it saves: a real trace against real prices"
    yield ""
    yield f"Written by `{found['command']}`, with the data below `WATTMILL_DATA`. The raw figures are in"
    yield "`simulation.json`. Joules, money, work and seconds of every run were checked to add up. Figures do"
    yield "not depend on the machine, but for the last section."
    yield ""
    if len(found["cases"]) < found["asked"]:
        yield f"**Not the whole: {len(found['cases'])} of {found['asked']} cases were simulated.**"
        yield ""
    if "--quick" in found["command"]:
        yield "**The quick version: half a day of each window. Its figures say that the code runs, no more.**"
        yield ""
    yield "![saving against completion time, and work under budgets](simulation.svg)"
    yield ""


# --- inputs -------------------------------------------------------------------------------------------------


def _inputs(cases: Sequence[Found]) -> Iterator[str]:
    first = cases[0]
    asked = first["inputs"]
    yield "## What was simulated"
    yield ""
    yield from _table(
        ("input", "file", "sha256"),
        [(what, f"`{file['name']}`", f"`{file['sha256']}`") for what, file in asked["files"].items()],
    )
    clusters = dict.fromkeys(case["inputs"]["cluster"]["name"] for case in cases)
    yield f"- Jobs of virtual cluster `{asked['vc']}` on {' or '.join(clusters)}; seed {first['seed']}."
    yield f"- Contracts by share of GPU-hours: `{asked['contracts']}`. Jobs of tier `{asked['pausable']}`"
    yield f"  may be paused and are due `{asked['deadline']}` after their submission (x: their running time)."
    yield "- No policy knows how long a job takes. Owners guess, with a log-normal error of sigma"
    yield f"  {asked['estimate_error']:g}. Prices are known from their publication on."
    yield "- Windows, by whole weeks: what lies in a week that was looked at while the policy was made is"
    yield "  called `tuning`, all else `held out`."
    yield ""
    yield from _table(
        ("window", "part", "trace days", "jobs", "of the trace's jobs", "of its GPU-hours"), _windows(cases)
    )


def _windows(cases: Sequence[Found]) -> list[tuple[str, ...]]:
    rows = {}
    for case in cases:
        first, last = case["inputs"]["days"]
        rows[_dates(case)] = (
            _dates(case),
            case["part"],
            f"{first:g} to {last:g}",
            f"{case['inputs']['jobs']:,}",
            f"{case['inputs']['jobs'] / case['trace_jobs']:.1%}",
            f"{case['work_gpu_h'] / case['trace_gpu_h']:.1%}",
        )
    return list(rows.values())


def _dates(case: Found) -> str:
    start, end = (datetime.fromisoformat(case["inputs"][edge]) for edge in ("start", "end"))
    return f"{start:%Y-%m-%d %H:%M} to {end:%m-%d %H:%M}"


# --- verdicts -----------------------------------------------------------------------------------------------


def _verdicts(cases: Sequence[Found]) -> Iterator[str]:
    found = findings(cases)
    for title, good in (("What is good", True), ("What is not", False)):
        yield f"## {title}"
        yield ""
        yield from [f"- {finding.told}" for finding in found if finding.good is good] or ["- Nothing."]
        yield ""


# --- cost ---------------------------------------------------------------------------------------------------


def _cost(cases: Sequence[Found]) -> Iterator[str]:
    yield "## Cost without a budget"
    yield ""
    yield COST_WORDS
    yield ""
    for case in cases:
        yield f"### {_dates(case)} ({case['part']}), {case['value_per_gpu_h']:g} EUR per GPU-hour"
        yield ""
        rows = [_cost_row(name, figures) for name, figures in case["policies"].items()]
        yield from _table(COST_COLUMNS, [*rows, _bound_row(case["bound"])])


def _cost_row(name: str, figures: Figures) -> tuple[str, ...]:
    return (
        f"`{name}`",
        f"{figures['gpu_cost']:.2f}",
        percent(figures["saving_captured"]),
        percent(figures["regret_cost_share"]),
        f"{figures['cost']:.2f}",
        percent(figures["saving_captured_site"]),
        percent(figures["regret_site_cost_share"]),
        f"{figures['co2_kg']:.0f}",
        _hours(figures["mean_jct_s"]),
        signed_percent(figures["mean_jct_cannot_wait_change"]),
        _hours(figures["mean_jct_s_can_wait"]),
        _remarks(figures),
    )


def _bound_row(bound: Mapping[str, Any] | None) -> tuple[str, ...]:
    if bound is None:
        return ("bound", *("-" for _ in COST_COLUMNS[2:]), "there is none")
    gpu, site = f"{bound['cost']:.2f}", f"{bound['site_cost']:.2f}"
    mean_h = _hours(bound["mean_jct_s"])
    return ("bound", gpu, "-", "-", site, "-", "-", "-", mean_h, "-", "-", "each figure by itself")


def _remarks(figures: Figures) -> str:
    stops: int = figures["preemptions"]
    return promises_told(figures) + (f"; {stops} stops" if stops else "")


def _levers(cases: Sequence[Found]) -> Iterator[str]:
    """What each lever saves: the cost without it less the cost with all, as a share of the baseline's."""
    shown = [case for case in cases if any(without(lever) in case["policies"] for lever in LEVERS)]
    if not shown:
        return
    yield "## What each lever gave"
    yield ""
    yield LEVER_WORDS
    yield ""
    columns = ("window", "EUR per GPU-hour", "all levers", *(f"`{lever}`" for lever in LEVERS))
    yield from _table(columns, [_lever_row(case) for case in shown])


def _lever_row(case: Found) -> tuple[str, ...]:
    policies = case["policies"]
    baseline, ours = policies[BASELINE]["gpu_cost"], policies[OURS]["gpu_cost"]
    costs = [policies[name]["gpu_cost"] if name in policies else None for name in map(without, LEVERS)]
    gave = [None if cost is None else (cost - ours) / baseline for cost in costs]
    together = (baseline - ours) / baseline
    return (_dates(case), f"{case['value_per_gpu_h']:g}", *map(signed_percent, (together, *gave)))


# --- budgets ------------------------------------------------------------------------------------------------


def _power(cases: Sequence[Found]) -> Iterator[str]:
    if not cases:
        return
    yield "## Under a power budget"
    yield ""
    yield POWER_WORDS
    yield ""
    for case in cases:
        limit_kw = case["budget_share"] * case["peak_w"] / 1e3
        yield f"### {case['budget_share']:.0%} of the peak: {limit_kw:.1f} of {case['peak_w'] / 1e3:.1f} kW"
        yield ""
        done = case["work_in_window_gpu_h"]
        yield from _table(
            POWER_COLUMNS, [_power_row(name, f, done[name]) for name, f in case["policies"].items()]
        )


def _power_row(name: str, figures: Figures, done_gpu_h: float) -> tuple[str, ...]:
    return (
        f"`{name}`",
        f"{done_gpu_h:,.0f}",
        _hours(figures["mean_jct_s_ended_by_all"]),
        f"{figures['useful_work_per_gpu_kwh']:.3f}",
        f"{figures['energy_kwh']:,.0f}",
        f"{figures['budget_excess_caps_ws']:.0f}",
        f"{figures['budget_excess_draw_1s_ws']:.0f}",
        _remarks(figures),
    )


# --- times --------------------------------------------------------------------------------------------------


def _times(timing: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "## Times"
    yield ""
    yield "Of the machine that this page was made on, two policies side by side; another day has others."
    yield ""
    policies = list(dict.fromkeys(name for case in timing for name in case["policies"]))
    rows, slowest_s = [], 0.0
    for name in policies:
        runs = [case["policies"][name] for case in timing if name in case["policies"]]
        wall_s, turns = sum(run["wall_s"] for run in runs), sum(run["turns"] for run in runs)
        longest_s = [step["max_solve_s"] for run in runs for step in run["steps"].values()]
        slowest_s = max([slowest_s, *longest_s])
        slowest = f"{max(longest_s):.2f}" if longest_s else "-"
        rows.append((f"`{name}`", str(len(runs)), f"{turns:,}", f"{wall_s:.0f}", slowest))
    yield from _table(("policy", "runs", "turns", "seconds", "slowest answer, s"), rows)
    yield f"An answer that takes {PLACE_LIMIT_S:g} s is cut short, and then depends on the machine:"
    yield "none was." if slowest_s < PLACE_LIMIT_S else f"the slowest took {slowest_s:.1f} s."


# --- words --------------------------------------------------------------------------------------------------

COST_WORDS: Final = f"""`captured` is ({BASELINE} − policy) / ({BASELINE} − bound), and `regret`
how far a policy is above the bound. The bound knows every job and every price in advance. It holds for
policies that keep all contracts, and under which a job that cannot wait ends no later than 5 % of its
completion time after its end under `{BASELINE}`. GPU energy is of boards that hold a job; the site has all
boards, hosts and overhead, until the last policy is done. `completion` is the mean from submission to end;
`cannot wait` its change against `{BASELINE}` for the jobs that cannot wait.

What an hour of progress is worth decides how much speed is given up for energy; only `{OURS}` looks at it.
`{ONE_CAP}` holds all boards at that share of their maximum, as far as contracts allow: without a
budget the plain one caps nothing. A tier counts as broken where over 2 % of throughput is lost on top."""

LEVER_WORDS: Final = f"""The cost of GPU energy with one lever off, less that with all on, in per cent of
`{BASELINE}`'s: what the lever adds to the others. Below 0, the others do better without it."""

POWER_WORDS: Final = f"""The budget holds on the whole site, all the time. The peak is what `{BASELINE}`
reaches without one, base load included. All policies have the same load. `work in the window` is what is done
when the last submission is over; `completion` the mean of the jobs that ended under all policies. A gang
whose tier lets it lose little speed may need more watts than there are. Then it never starts, and stays
unfinished."""

LIMITS: Final = """## What this does not show

- A part of one cluster's trace. It has no contracts, workloads or power of its own: those are dealt by seed,
  from measured curves of training jobs on other boards.
- `wattmill` plans once an hour here, the daemon also at every arrival of a job that can wait.
- The bound leaves gangs, nodes and the breaking of work out. The very best policy lies somewhere above it.
"""


def _hours(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds / S_PER_H:.2f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Text at the left in the first column, figures at the right; a blank line behind."""
    yield _line(columns)
    yield _line(["---", *["---:"] * (len(columns) - 1)])
    yield from map(_line, rows)
    yield ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"

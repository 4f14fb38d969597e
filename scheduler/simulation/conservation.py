"""Whether the books of a simulation balance: joules, money, work and time. Pure.

What is compared comes from two counts of the same thing: the accounts of the jobs, and the watts of the site.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from power.arrays import Bools, Floats
from power.series import Series
from power.tariff import JOULES_PER_KWH
from scheduler.simulation.measures import JobFigures, job_figures, known_sum
from scheduler.simulation.model import Outcome

BALANCE_SHARE: Final = 1e-6  # two counts of one thing may differ by this share of it
BALANCE_S: Final = 1e-3  # and moments by this


def check_conservation(outcome: Outcome) -> tuple[str, ...]:
    """What does not add up, one sentence with figures each; empty where everything does.

    Energy, cost and CO2 of the jobs are those of the busy GPUs; the meter shows GPUs, base loads and
    overhead, nothing else; a finished job did its work and no more; GPUs worked no longer than they were
    held; times are in order; no row of watts lies across two prices or carbon figures.
    """
    figures = job_figures(outcome)
    checks = (
        _totals(outcome),
        _meter(outcome),
        _work(outcome, figures),
        _seconds(outcome, figures),
        _order(outcome, figures),
        _rows(outcome),
    )
    return tuple(sentence for check in checks for sentence in check)


def _totals(outcome: Outcome) -> Iterator[str]:
    trace, jobs = outcome.power, outcome.jobs
    busy_kwh = trace.busy_draw_w * outcome.spans_s / JOULES_PER_KWH
    yield from _balance("energy (kWh)", float(jobs.energy_j.sum()) / JOULES_PER_KWH, float(busy_kwh.sum()))
    for what, of_jobs, factor in (
        ("cost", jobs.cost, trace.price_per_mwh),
        ("CO2 (kg)", jobs.co2_kg, trace.carbon_g_per_kwh),
    ):
        busy = np.nan_to_num(known_sum(busy_kwh / 1e3, factor))
        # Where prices are below 0 too, the net sum may be near 0: the rounding grows with the gross one.
        gross = np.nan_to_num(known_sum(busy_kwh / 1e3, np.abs(factor)))
        yield from _balance(what, float(np.nansum(of_jobs)), float(busy), scale=float(gross))


def _balance(what: str, of_jobs: float, of_gpus: float, *, scale: float | None = None) -> Iterator[str]:
    allowed = BALANCE_SHARE * max(abs(of_gpus) if scale is None else scale, BALANCE_SHARE)
    if not abs(of_jobs - of_gpus) <= allowed:
        yield f"{what} of all jobs is {of_jobs:.6f}, that of busy GPUs {of_gpus:.6f}"


def _meter(outcome: Outcome) -> Iterator[str]:
    trace, index = outcome.power, outcome.scenario.cluster.tree.index
    expected_w = (trace.gpu_draw_w + index.base_under_w[0]) * index.pue[0]
    allowed_w = BALANCE_SHARE * np.maximum(expected_w, 1.0)
    wrong = ~(np.abs(trace.meter_w - expected_w) <= allowed_w)
    for row in _first(wrong):
        yield (
            f"the meter shows {trace.meter_w[row]:.3f} W at {trace.at_s[row]:.0f} s, GPUs, base loads and"
            f" overhead take {expected_w[row]:.3f} W ({int(wrong.sum())} rows are so)"
        )
    over = ~(trace.busy_draw_w <= trace.gpu_draw_w + allowed_w)
    for row in _first(over):
        yield (
            f"busy GPUs draw {trace.busy_draw_w[row]:.3f} W at {trace.at_s[row]:.0f} s, all GPUs"
            f" {trace.gpu_draw_w[row]:.3f} W ({int(over.sum())} rows are so)"
        )


def _work(outcome: Outcome, figures: JobFigures) -> Iterator[str]:
    done_s, work_s = outcome.jobs.done_s, figures.work_s
    allowed_s = BALANCE_SHARE * np.maximum(work_s, 1.0) + BALANCE_S
    finished = figures.finished
    wrong = np.where(finished, ~(np.abs(done_s - work_s) <= allowed_s), ~(done_s <= work_s + allowed_s))
    for row in _first(wrong):
        ended = "finished" if finished[row] else "did not finish"
        yield (
            f"job {outcome.scenario.jobs[row].id} {ended} with {done_s[row]:.3f} s of its {work_s[row]:.3f} s"
            f" of work done ({int(wrong.sum())} jobs are so)"
        )


def _seconds(outcome: Outcome, figures: JobFigures) -> Iterator[str]:
    trace, boards = outcome.power, len(outcome.scenario.cluster.boards)
    worked_gpu_s = float(figures.gpus @ outcome.jobs.running_s)
    held_gpu_s = float(trace.busy_gpus @ outcome.spans_s)
    if not worked_gpu_s <= held_gpu_s * (1 + BALANCE_SHARE) + BALANCE_S:
        yield f"jobs worked {worked_gpu_s:.3f} GPU-seconds, GPUs were held for {held_gpu_s:.3f}"
    for row in _first(~((trace.busy_gpus >= 0) & (trace.busy_gpus <= boards))):
        yield f"{trace.busy_gpus[row]} GPUs are busy at {trace.at_s[row]:.0f} s, of {boards}"


def _order(outcome: Outcome, figures: JobFigures) -> Iterator[str]:
    jobs, until_s = outcome.jobs, outcome.power.until_s
    started = np.isfinite(jobs.first_start_s)
    end_s = np.where(figures.finished, jobs.ended_s, until_s)
    held_s = np.where(started, end_s - np.where(started, jobs.first_start_s, 0.0), 0.0)
    for told, wrong in (
        ("ended without a start", figures.finished & ~started),
        ("started before it was submitted", jobs.first_start_s < figures.submitted_s - BALANCE_S),
        ("worked longer than it was there after its start", jobs.running_s > held_s + BALANCE_S),
        ("ended after the simulation", jobs.ended_s > until_s + BALANCE_S),
    ):
        for row in _first(wrong):
            yield f"job {outcome.scenario.jobs[row].id} {told} ({int(wrong.sum())} jobs are so)"


def _rows(outcome: Outcome) -> Iterator[str]:
    trace, scenario = outcome.power, outcome.scenario
    for row in _first(~(outcome.spans_s >= 0)):
        yield f"the row of watts at {trace.at_s[row]:.3f} s lasts {outcome.spans_s[row]:.3f} s"
    start_s = scenario.start.timestamp()
    lasting = outcome.spans_s > 2 * BALANCE_S
    for what, series, told in (
        ("price", scenario.prices, trace.price_per_mwh),
        ("carbon figure", scenario.carbon, trace.carbon_g_per_kwh),
    ):
        edges_s, values = _steps(series, start_s)
        first = np.searchsorted(edges_s, trace.at_s + BALANCE_S, side="right")
        last = np.searchsorted(edges_s, trace.at_s + outcome.spans_s - BALANCE_S, side="right")
        changes = np.cumsum(values != np.append(values[:1], values[:-1]))
        wrong = lasting & (changes[first] != changes[last])
        for row in _first(wrong):
            yield f"the row of watts at {trace.at_s[row]:.3f} s lies across two {what}s"
        different = lasting & ~wrong & ~np.isclose(told, values[first], rtol=BALANCE_SHARE, equal_nan=True)
        for row in _first(different):
            yield (
                f"the {what} is {told[row]:g} at {trace.at_s[row]:.3f} s, recorded is {values[first[row]]:g}"
            )


def _steps(series: Series, start_s: float) -> tuple[Floats, Floats]:
    """Edges in seconds from the start, and the value before each and behind the last; NaN in a gap."""
    edges_s: list[float] = []
    values = [np.nan]
    for slot in series:
        begins_s, ends_s = slot.start.timestamp() - start_s, slot.end.timestamp() - start_s
        if edges_s and edges_s[-1] == begins_s:
            values[-1] = slot.value
        else:
            edges_s.append(begins_s)
            values.append(slot.value)
        edges_s.append(ends_s)
        values.append(np.nan)
    return np.array(edges_s, dtype=np.float64), np.array(values, dtype=np.float64)


def _first(rows: Bools) -> list[int]:
    """The first row that is true, if any: one sentence tells of all that are alike."""
    return [int(row) for row in np.nonzero(rows)[0][:1]]

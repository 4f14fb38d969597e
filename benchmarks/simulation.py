"""Ours beside the policies of today and the bound, on a real trace and real prices: docs/results/simulation.*

python -m benchmarks.simulation             everything; about ten minutes on two free cores
python -m benchmarks.simulation --quick     a part; about a minute
python -m benchmarks.simulation --redraw    page and plot anew from the figures that are there

Reads the data below `WATTMILL_DATA`. Figures do not depend on the machine; times do, and stand apart. The
files are written after each case. One whose joules, money, work or seconds do not add up ends the run with an
error, and is not written.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.simulation_cases import Case, cases
from benchmarks.simulation_page import page
from benchmarks.simulation_plot import plot
from benchmarks.trace_sizes import data_folder
from scheduler.simulation.common_end import to_common_end
from scheduler.simulation.compare import compare
from scheduler.simulation.conservation import check_conservation
from scheduler.simulation.measures import CAN_WAIT, S_PER_H, job_figures, measure
from scheduler.simulation.model import Outcome
from scheduler.simulation.plots import svg
from scheduler.simulation.scenarios import ScenarioOptions
from scheduler.simulation.study import Study, run_study, uncapped_peak_w
from scheduler.simulation.tables import summary, timing
from scheduler.simulation.trace import read_trace

RESULTS: Final = Path(__file__).resolve().parents[1] / "docs" / "results"
NAME: Final = "simulation"
FIGURES: Final = (  # of `summary.json`, those that the page is made of
    *("gpu_cost", "cost", "gpu_energy_kwh", "energy_kwh", "co2_kg", "work_gpu_h", "useful_work_per_gpu_kwh"),
    *("saving_captured", "saving_captured_site", "regret_cost", "regret_cost_share"),
    *("regret_site_cost", "regret_site_cost_share", "gpu_cost_change", "cost_change"),
    *("jobs", "unfinished", "mean_jct_s", "p99_jct_s", "mean_slowdown", "mean_jct_change"),
    *("mean_jct_cannot_wait_change", f"mean_jct_s_{CAN_WAIT}", "deadlines", "deadlines_missed"),
    *("contracts_broken_beyond_tolerance", "max_excess_throughput_loss", "at_equal_contracts"),
    *("preemptions", "budget_excess_caps_ws", "budget_excess_draw_1s_ws", "limited_h"),
)


class DoesNotAddUp(RuntimeError):
    """Joules, money, work or seconds of an outcome do not balance; the message says which and by how much."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small part, in under a minute")
    parser.add_argument("--redraw", action="store_true", help="simulate nothing; read simulation.json")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the three files")
    parser.add_argument("--processes", type=int, default=2, help="policies simulated side by side")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    figures = asked.out / f"{NAME}.json"
    if asked.redraw:
        _write(asked.out, json.loads(figures.read_text()))
        return
    name = f"python -m benchmarks.{NAME}" + (" --quick" if asked.quick else "")
    for found in reports(cases(data_folder(), quick=asked.quick), processes=asked.processes, name=name):
        figures.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
        _write(asked.out, found)


def _write(folder: Path, found: Mapping[str, Any]) -> None:
    (folder / f"{NAME}.md").write_text(page(found))
    (folder / f"{NAME}.svg").write_text(svg(plot(found)))


def report(asked: Sequence[Case], *, processes: int, name: str) -> dict[str, Any]:
    """All cases, as the last of `reports` has them."""
    *_, found = reports(asked, processes=processes, name=name)
    return found


def reports(asked: Sequence[Case], *, processes: int, name: str) -> Iterator[dict[str, Any]]:
    """After each case, all cases until then as plain values: the same every time, but for `timing`.

    Args:
        name: the command, as the page shall tell it.

    Raises:
        DoesNotAddUp: see there.
        BadInput: data that cannot be read.
    """
    rows: list[dict[str, Any]] = []
    times: list[dict[str, Any]] = []
    peaks_w: dict[tuple[object, ...], float] = {}
    for number, case in enumerate(asked, start=1):
        sys.stderr.write(f"{number} of {len(asked)}: {_told(case)} ...\n")
        options = _with_budget(case, peaks_w)
        study = run_study(options, case.policies, processes=processes)
        outcomes = to_common_end(study.outcomes)
        check(outcomes)
        rows.append(_row(case, options, study, outcomes, processes=processes))
        times.append(timing(study.outcomes, study.bound))
        yield {"command": name, "asked": len(asked), "cases": rows, "timing": times}


def _told(case: Case) -> str:
    first, last = case.options.days or (0.0, 0.0)
    limit = "" if case.budget_share is None else f", budget {case.budget_share:.0%}"
    return f"{case.part}, days {first:g} to {last:g}, {case.value_per_gpu_h:g} per GPU-hour{limit}"


def _with_budget(case: Case, peaks_w: dict[tuple[object, ...], float]) -> ScenarioOptions:
    """The options, with the budget in watts; the peak is sought once per week."""
    if case.budget_share is None:
        return case.options
    week = (case.options.start, case.options.days)
    if week not in peaks_w:
        peaks_w[week] = uncapped_peak_w(case.options)
    return replace(case.options, budget=f"{case.budget_share:.0%}", peak_w=peaks_w[week])


def check(outcomes: Iterable[Outcome]) -> None:
    """Raises DoesNotAddUp with everything that does not balance."""
    wrong = [f"{outcome.policy}: {told}" for outcome in outcomes for told in check_conservation(outcome)]
    if wrong:
        raise DoesNotAddUp("this case was not written, because these do not add up:\n  " + "\n  ".join(wrong))


def _row(
    case: Case,
    options: ScenarioOptions,
    study: Study,
    outcomes: Sequence[Outcome],
    *,
    processes: int,
) -> dict[str, Any]:
    """One case: what was asked, the bound, and the figures of each policy."""
    measures = {outcome.policy: measure(outcome) for outcome in outcomes}
    told = summary(
        measures,
        compare(measures, study.bound),
        study.bound,
        seed=options.seed,
        inputs=study.inputs,
    )
    scenario, whole, jct_s = study.scenario, _whole(options.trace), _jct_s_of_jobs_that_all_ended(outcomes)
    return {
        "part": case.part,
        "value_per_gpu_h": case.value_per_gpu_h,
        "budget_share": case.budget_share,
        "peak_w": options.peak_w,
        "work_gpu_h": sum(job.spec.gpus * job.work_s for job in scenario.jobs) / S_PER_H,
        "trace_jobs": whole.jobs,
        "trace_gpu_h": whole.gpu_h,
        "work_in_window_gpu_h": _work_in_window(case, options, processes),
        "seed": told["seed"],
        "inputs": told["inputs"],
        "bound": told["bound"],
        "policies": {
            name: {
                **{figure: found[figure] for figure in FIGURES},
                "mean_jct_s_ended_by_all": jct_s[name],
            }
            for name, found in told["policies"].items()
        },
    }


def _jct_s_of_jobs_that_all_ended(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    """Mean completion time by policy of the jobs that ended under all of them: one that never ends under some
    policy would count there with the length of the simulation. None where there is no such job."""
    figures = {outcome.policy: job_figures(outcome) for outcome in outcomes}
    ended = np.logical_and.reduce([of_policy.finished for of_policy in figures.values()])
    if not ended.any():
        return dict.fromkeys(figures)
    return {name: float(of_policy.jct_s[ended].mean()) for name, of_policy in figures.items()}


class _Whole(NamedTuple):
    """All of a trace's file."""

    jobs: int
    gpu_h: float


@cache
def _whole(path: Path) -> _Whole:
    rows = read_trace(path, start=datetime(2000, 1, 1, tzinfo=UTC)).rows
    return _Whole(len(rows), math.fsum(row.gpu_h for row in rows))


def _work_in_window(case: Case, options: ScenarioOptions, processes: int) -> dict[str, float] | None:
    """Under a budget: the work that each policy has done when the last day is over, in GPU-hours.

    In the end every policy has done all of it, and a single long job says how late that is.
    """
    if case.budget_share is None:
        return None
    study = run_study(replace(options, patience_s=0.0), case.policies, processes=processes)
    check(study.outcomes)
    return {outcome.policy: measure(outcome).work_gpu_h for outcome in study.outcomes}


if __name__ == "__main__":
    main()

"""Outcomes as tables: CSV texts, and the plain values of `summary.json` and `timing.json`. Pure.

CSV: a header line with units in its names, times in UTC, an empty cell for what is not known or never was.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Any, Final

import numpy as np

from power.arrays import Floats
from power.tariff import JOULES_PER_KWH
from scheduler.decision import Certificate
from scheduler.simulation.bound import Bound
from scheduler.simulation.compare import Comparison
from scheduler.simulation.measures import BELIEF_TOLERANCE_SHARE, ROUNDING_SHARE, Measures, job_figures
from scheduler.simulation.model import Outcome
from scheduler.simulation.quarter_hours import QuarterHours
from scheduler.slotting import QUARTER

DECIMALS: Final = 6  # a micro-unit of money, a milliwatt of a kilowatt: far below what any figure is good for

Cell = str | float | int | bool | datetime | None


def jobs_csv(outcome: Outcome) -> str:
    """A row per job. Its seconds add up: waited_s + running_s + not_working_s = completion_time_s."""
    scenario, figures = outcome.scenario, job_figures(outcome)
    first_start_s = outcome.jobs.first_start_s
    started = np.isfinite(first_start_s)
    waited_s = np.where(started, first_start_s - figures.submitted_s, figures.jct_s)
    end_s = np.where(figures.finished, outcome.jobs.ended_s, np.nan)
    specs = [job.spec for job in scenario.jobs]
    columns: dict[str, Iterable[Cell]] = {
        "job_id": [job.id for job in scenario.jobs],
        "workload": [spec.workload for spec in specs],
        "gpus": [spec.gpus for spec in specs],
        "flex": [spec.contract.flex.value for spec in specs],
        "pausable": [spec.contract.pausable for spec in specs],
        "can_wait": figures.can_wait.tolist(),
        "submitted_utc": [job.submitted_at for job in scenario.jobs],
        "first_start_utc": _moments(scenario.start, first_start_s),
        "ended_utc": _moments(scenario.start, end_s),
        "deadline_utc": [spec.contract.deadline for spec in specs],
        "finished": figures.finished.tolist(),
        "completion_time_s": figures.jct_s.tolist(),
        "waited_s": waited_s.tolist(),
        "running_s": outcome.jobs.running_s.tolist(),
        "not_working_s": (figures.jct_s - waited_s - outcome.jobs.running_s).tolist(),
        "work_s": figures.work_s.tolist(),
        "work_done_s": outcome.jobs.done_s.tolist(),
        "slowdown_ratio": figures.slowdown.tolist(),
        "throughput_loss_share": figures.throughput_loss.tolist(),
        "throughput_loss_allowed_share": figures.tier_share.tolist(),
        "contract_broken": figures.broken(ROUNDING_SHARE).tolist(),
        "contract_broken_beyond_tolerance": figures.broken(BELIEF_TOLERANCE_SHARE + ROUNDING_SHARE).tolist(),
        "deadline_missed": figures.deadline_missed.tolist(),
        "stops": outcome.jobs.stops.tolist(),
        "energy_kwh": (outcome.jobs.energy_j / JOULES_PER_KWH).tolist(),
        "cost": outcome.jobs.cost.tolist(),
        "co2_kg": outcome.jobs.co2_kg.tolist() if scenario.carbon else [None] * len(specs),
    }
    return _csv(list(columns), zip(*columns.values(), strict=True))


def power_csv(means: QuarterHours) -> str:
    """A row per quarter hour; GPU watts at their boards, all others at the site's meter."""
    columns: dict[str, Iterable[Cell]] = {
        "start_utc": means.starts,
        "end_utc": [start + QUARTER for start in means.starts],
        "meter_w": means.meter_w.tolist(),
        "caps_w": means.caps_w.tolist(),
        "limit_w": means.limit_w.tolist(),
        "gpu_draw_w": means.gpu_draw_w.tolist(),
        "busy_gpu_draw_w": means.busy_draw_w.tolist(),
        "busy_gpus": means.busy_gpus.tolist(),
        "waiting_jobs": means.waiting_jobs.tolist(),
        "price_per_mwh": means.price_per_mwh.tolist(),
        "carbon_g_per_kwh": means.carbon_g_per_kwh.tolist(),
    }
    return _csv(list(columns), zip(*columns.values(), strict=True))


def policies_csv(measures: Mapping[str, Measures], comparisons: Mapping[str, Comparison]) -> str:
    """A row per policy with the fields of `summary.json`; ids of unfinished jobs stand apart by spaces."""
    rows = {name: policy_fields(measures[name], comparisons[name]) for name in measures}
    header = ["policy", *next(iter(rows.values()), {})]
    return _csv(header, ([name, *map(_in_a_cell, row.values())] for name, row in rows.items()))


def policy_fields(measures: Measures, comparison: Comparison) -> dict[str, object]:
    """All figures of a policy, flat; those of groups as `mean_jct_s_none`, `jobs_cannot_wait`, ..."""
    flat = {item.name: getattr(measures, item.name) for item in fields(measures) if item.name != "groups"}
    flat |= asdict(comparison)
    for name, group in measures.groups.items():
        flat |= {f"{figure}_{name}": value for figure, value in asdict(group).items()}
    return flat


def summary(
    measures: Mapping[str, Measures],
    comparisons: Mapping[str, Comparison],
    bound: Bound | None,
    *,
    seed: int,
    inputs: Mapping[str, object],
) -> dict[str, Any]:
    """What `summary.json` holds: the same for the same outcomes, whenever and wherever they were made."""
    return {
        "policies": {
            name: plain(policy_fields(figures, comparisons[name])) for name, figures in measures.items()
        },
        "bound": None if bound is None else _untimed(plain(bound)),
        "seed": seed,
        "inputs": plain(inputs),
    }


def timing(outcomes: Sequence[Outcome], bound: Bound | None = None) -> dict[str, Any]:
    """What `timing.json` holds: how long each policy took and how good its answers were proven to be."""
    return {
        "policies": {
            outcome.policy: plain(
                {
                    "wall_s": outcome.wall_s,
                    "turns": outcome.turns,
                    "steps": _steps(outcome.certificates),
                }
            )
            for outcome in outcomes
        },
        "bound_s": None if bound is None else plain(bound.solve_s),
    }


def _untimed(bound: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in bound.items() if name != "solve_s"}


def _steps(certificates: Iterable[Certificate]) -> dict[str, dict[str, object]]:
    by_step: dict[str, list[Certificate]] = {}
    for certificate in certificates:
        by_step.setdefault(certificate.step, []).append(certificate)
    return {step: _answers(by_step[step]) for step in sorted(by_step)}


def _answers(certificates: Sequence[Certificate]) -> dict[str, object]:
    solve_s = [certificate.solve_s for certificate in certificates]
    gaps = [certificate.gap for certificate in certificates]
    return {
        "answers": len(certificates),
        "mean_solve_s": float(np.mean(solve_s)),
        "max_solve_s": max(solve_s),
        "mean_gap": float(np.mean(gaps)),
        "max_gap": max(gaps),
        "fallbacks": sum(certificate.fallback is not None for certificate in certificates),
    }


def plain(value: object) -> Any:
    """As JSON can have it: no NaN and no infinity (null), times as text, floats to six decimals.

    Raises TypeError for what is none of that, with its type.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return round(value, DECIMALS) + 0.0 if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, PurePath):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (Sequence, np.ndarray)):
        return [plain(item) for item in value]
    raise TypeError(f"a result cannot be a {type(value).__name__}: {value!r}")


def _moments(start: datetime, seconds: Floats) -> list[Cell]:
    return [None if math.isnan(s) else start + timedelta(seconds=s) for s in seconds.tolist()]


def _in_a_cell(value: object) -> Cell:
    kept = plain(value)
    return " ".join(kept) if isinstance(kept, list) else kept


def _csv(header: Sequence[str], rows: Iterable[Iterable[Cell]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_text(cell) for cell in row] for row in rows)
    return text.getvalue()


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(cell, float):
        rounded = round(cell, DECIMALS) + 0.0
        return f"{rounded:.{DECIMALS}f}".rstrip("0").rstrip(".") if math.isfinite(cell) else ""
    return str(cell)

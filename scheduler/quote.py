"""A dry run for one job: when it would start and end, its watts, cost and CO₂, for every flex tier. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from power.curve_table import CurveTable
from scheduler.job_table import JobTable
from scheduler.model import Flex, WaitReason
from scheduler.placing.fallback import place_greedily
from scheduler.snapshot import GpuKind, JobView, Snapshot
from scheduler.worth import curve_on, floor_cap_w


@dataclass(frozen=True, slots=True, kw_only=True)
class TierQuote:
    """What one flex tier would mean, at the cap of least energy that it allows.

    `start` is None when nobody knows yet; `wait_reason` and `detail` say why it is not now. Without an
    estimate of the running time, `finish` is None and energy, cost and CO₂ are for one hour (`per_hour`).
    """

    flex: Flex
    start: datetime | None
    finish: datetime | None
    cap_w: float  # per GPU
    watts: float  # mean draw of all its GPUs
    throughput_share: float
    energy_kwh: float
    cost: float | None
    co2_kg: float | None
    per_hour: bool
    wait_reason: WaitReason | None = None
    detail: str = ""


def quote(view: JobView, snapshot: Snapshot) -> tuple[TierQuote, ...]:
    """One quote per flex tier, `none` first; the job need not be in the snapshot."""
    return tuple(_tier(view, snapshot, flex) for flex in Flex)


def energy_cost(snapshot: Snapshot, start: datetime, hours: float, watts: float) -> float | None:
    """Money for `watts` over `hours` from `start`, carbon included; hours without a known price cost the mean
    of the known ones. None when no price is known at all."""
    end = start + timedelta(hours=hours)
    carbon = snapshot.energy_price_per_mwh() - (snapshot.price_per_mwh or 0.0)
    known = [(slot.duration_s / 3600.0, slot.value) for slot in snapshot.prices.between(start, end)]
    known_h = sum(duration_h for duration_h, _ in known)
    mean = sum(h * price for h, price in known) / known_h if known_h > 0 else snapshot.price_per_mwh
    return None if mean is None else (mean + carbon) * watts * hours / 1e6


def _tier(view: JobView, snapshot: Snapshot, flex: Flex) -> TierQuote:
    contract = replace(view.job.spec.contract, flex=flex)
    job = view.job.but(spec=replace(view.job.spec, contract=contract))
    asked = replace(view, job=job, floor_share=1.0 - flex.share)
    start, reason, detail = _start(asked, snapshot)
    wanted = (job.spec.gpu_type or "").lower()
    gpu = next((g for g in snapshot.gpus if wanted in g.model.lower()), None)
    curve = view.curve if gpu is None else curve_on(asked, GpuKind.of(gpu))
    cap_w = max(floor_cap_w(asked, curve), curve.knee_cap_w())
    share, watts = curve.throughput(cap_w), job.spec.gpus * curve.power_w(cap_w)
    hours = 1.0 if view.remaining_s is None else view.remaining_s / share / 3600.0
    known = view.remaining_s is not None and start is not None
    return TierQuote(
        flex=flex,
        start=start,
        finish=start + timedelta(hours=hours) if known and start is not None else None,
        cap_w=cap_w,
        watts=watts,
        throughput_share=share,
        energy_kwh=watts * hours / 1e3,
        cost=energy_cost(snapshot, start or snapshot.now, hours, watts),
        co2_kg=_co2_kg(snapshot, watts * hours / 1e3),
        per_hour=view.remaining_s is None,
        wait_reason=reason,
        detail=detail,
    )


def _start(view: JobView, snapshot: Snapshot) -> tuple[datetime | None, WaitReason | None, str]:
    """(when, why not now, detail): now if it would be placed; else the first moment that we can foresee."""
    decision = place_greedily(_with(snapshot, view))
    if any(start.job_id == view.job.id for start in decision.starts):
        return snapshot.now, None, ""
    wait = next((w for w in decision.waits if w.job_id == view.job.id), None)
    if wait is None:
        return None, None, "is held back"
    if wait.reason is WaitReason.PRICE:
        return _first_cheap(view, snapshot), wait.reason, wait.detail
    if wait.reason is WaitReason.UNSATISFIABLE:
        return None, wait.reason, wait.detail
    return _first_free(view, snapshot), wait.reason, wait.detail


def _first_cheap(view: JobView, snapshot: Snapshot) -> datetime | None:
    ceiling = view.job.spec.contract.price_ceiling_per_mwh
    if ceiling is None:
        return None
    later = snapshot.prices.between(snapshot.now, snapshot.now + timedelta(days=7))
    return next((slot.start for slot in later if slot.value <= ceiling), None)


def _first_free(view: JobView, snapshot: Snapshot) -> datetime | None:
    """When enough running jobs of known length have ended."""
    jobs = snapshot.jobs
    missing = view.job.spec.gpus - int(snapshot.gpus.free.sum())
    remaining_s, held = jobs.floats("remaining_s"), jobs.ints("run_gpus")
    rows = np.nonzero((held > 0) & ~np.isnan(remaining_s))[0]
    rows = rows[np.argsort(remaining_s[rows], kind="stable")]
    enough = int(np.searchsorted(np.cumsum(held[rows]), missing))
    if enough >= len(rows):
        return None
    return snapshot.now + timedelta(seconds=float(remaining_s[rows[enough]]))


def _with(snapshot: Snapshot, view: JobView) -> Snapshot:
    """The snapshot with this job as asked for: in its row, or in a new one at the end."""
    jobs, one = snapshot.jobs, JobTable.of([view])
    row = jobs.row_of.get(view.job.id, len(jobs))
    curves, types = jobs.curves.curves, jobs.gpu_types
    curve = curves.index(view.curve) if view.curve in curves else len(curves)
    wanted = view.job.spec.gpu_type
    gpu_type = types.index(wanted) if wanted in types else len(types)
    pauses = {r: rule for r, rule in jobs.rule_pause.items() if r != row}
    ids = (*jobs.ids[:row], view.job.id, *jobs.ids[row + 1 :])
    table = JobTable(
        jobs=(*jobs.jobs[:row], view.job, *jobs.jobs[row + 1 :]),
        columns={
            name: np.concatenate([column[:row], one.columns[name], column[row + 1 :]])
            for name, column in jobs.columns.items()
        },
        curves=jobs.curves if curve < len(curves) else CurveTable((*curves, view.curve)),
        curve=np.concatenate([jobs.curve[:row], [curve], jobs.curve[row + 1 :]]),
        gpu_types=types if gpu_type < len(types) else (*types, wanted),
        gpu_type=np.concatenate([jobs.gpu_type[:row], [gpu_type], jobs.gpu_type[row + 1 :]]),
        rule_pause=pauses if view.rule_pause is None else pauses | {row: view.rule_pause},
        ids=ids,
        row_of={job_id: at for at, job_id in enumerate(ids)},
    )
    return replace(snapshot, jobs=table)


def _co2_kg(snapshot: Snapshot, energy_kwh: float) -> float | None:
    return None if snapshot.carbon_g_per_kwh is None else energy_kwh * snapshot.carbon_g_per_kwh / 1e3

"""A dry run for one job: when it would start and end, its watts, cost and CO₂, for every flex tier. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from scheduler.greedy import place_greedily
from scheduler.model import Flex, WaitReason
from scheduler.snapshot import JobView, Snapshot
from scheduler.worth import GpuKind, curve_on, floor_cap_w


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
    others = tuple(v for v in snapshot.jobs if v.job.id != view.job.id)
    decision = place_greedily(replace(snapshot, jobs=(*others, view)))
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
    free = sum(gpu.free for gpu in snapshot.gpus)
    running = [v for v in snapshot.jobs if v.job.run is not None and v.remaining_s is not None]
    for other in sorted(running, key=lambda v: v.remaining_s or 0.0):
        free += other.job.spec.gpus
        if free >= view.job.spec.gpus:
            return snapshot.now + timedelta(seconds=other.remaining_s or 0.0)
    return None


def _co2_kg(snapshot: Snapshot, energy_kwh: float) -> float | None:
    return None if snapshot.carbon_g_per_kwh is None else energy_kwh * snapshot.carbon_g_per_kwh / 1e3

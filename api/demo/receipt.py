"""What each job cost, and an estimate of what it would have cost at full speed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from api.demo.prices import CARBON_G_PER_KWH, FIRST_HOUR, PRICES_PER_MWH

J_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One job's bill. `estimated_*` is no measurement: the same work, uncapped and without pause."""

    role: str
    energy_kwh: float
    cost: float | None
    co2_kg: float | None
    gpu_hours: float
    average_cap_w: float | None
    slowdown_used: float | None
    paused_s: float
    estimated_kwh: float | None = None
    estimated_cost: float | None = None
    estimated_co2_kg: float | None = None


def receipt(
    role: str, job: Mapping[str, Any], bill: Mapping[str, Any], *, uncapped_w: float | None
) -> Receipt:
    """`bill` is the job's total; `uncapped_w` the mean draw seen of one GPU before any throttle."""
    grams = bill["co2_g"]
    made = Receipt(
        role=role,
        energy_kwh=bill["energy_kwh"],
        cost=bill["cost"],
        co2_kg=None if grams is None else grams / 1000,
        gpu_hours=bill["gpu_hours"],
        average_cap_w=bill["average_cap_w"],
        slowdown_used=bill["slowdown_used"],
        paused_s=job["paused_s"],
    )
    start = bill["start"] and first_start(job, bill)
    if uncapped_w is None or start is None or not made.gpu_hours:
        return made
    work_s = made.gpu_hours / job["gpus"] * 3600 * (1 - (made.slowdown_used or 0.0))
    return _with_estimate(made, start, timedelta(seconds=work_s), uncapped_w * job["gpus"])


def first_start(job: Mapping[str, Any], bill: Mapping[str, Any]) -> datetime:
    """When it began to draw: its run's start if that is its only run, else the first slot of its bill."""
    run = job.get("run") or {}
    if job.get("attempts", 1) == 1 and run.get("started_at"):
        return datetime.fromisoformat(run["started_at"])
    return datetime.fromisoformat(bill["start"])


def _with_estimate(made: Receipt, start: datetime, length: timedelta, draw_w: float) -> Receipt:
    energy_kwh = draw_w * length.total_seconds() / J_PER_KWH
    price = mean_over(PRICES_PER_MWH, start, start + length)
    grams = mean_over(CARBON_G_PER_KWH, start, start + length)
    values = {name: getattr(made, name) for name in made.__dataclass_fields__}
    return Receipt(
        **{
            **values,
            "estimated_kwh": energy_kwh,
            "estimated_cost": None if price is None else energy_kwh / 1000 * price,
            "estimated_co2_kg": None if grams is None else energy_kwh * grams / 1000,
        }
    )


def mean_over(hourly: tuple[float, ...], start: datetime, end: datetime) -> float | None:
    """The time-weighted mean of an hourly series over `start <= t < end`; None outside of it."""
    first_s, last_s = ((t - FIRST_HOUR).total_seconds() for t in (start, end))
    if first_s < 0 or last_s > len(hourly) * 3600 or last_s <= first_s:
        return None
    total = 0.0
    for hour, value in enumerate(hourly):
        overlap_s = min(last_s, (hour + 1) * 3600) - max(first_s, hour * 3600)
        total += max(0.0, overlap_s) * value
    return total / (last_s - first_s)

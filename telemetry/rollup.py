"""Samples of one GPU, gathered into spans: means, and the highest draw. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from telemetry.sample import GpuSample


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolled:
    """One GPU over `at <= t < at + span_s` of grid time. None = no sample said."""

    gpu_uuid: str
    at: datetime
    span_s: float
    power_w: float | None
    power_max_w: float | None
    cap_w: float | None
    energy_j: float
    utilization: float | None
    memory_used_bytes: float | None
    temperature_c: float | None
    sm_clock_hz: float | None


def roll_up(samples: list[GpuSample]) -> Rolled:
    """Samples of one GPU in order of time, at least one, into one row. Energy is the counter's step.

    Raises ValueError for an empty list.
    """
    if not samples:
        raise ValueError("nothing to roll up")
    first, last = samples[0], samples[-1]
    readings = [sample.reading for sample in samples if sample.reading is not None]
    powers = [r.power_w for r in readings if r.power_w is not None]
    return Rolled(
        gpu_uuid=first.info.uuid,
        at=first.at,
        span_s=(last.at - first.at).total_seconds(),
        power_w=_mean(powers),
        power_max_w=max(powers, default=None),
        cap_w=_mean(r.enforced_cap_w for r in readings),
        energy_j=max(0.0, last.energy_j - first.energy_j),
        utilization=_mean(r.utilization for r in readings),
        memory_used_bytes=_mean(r.memory_used_bytes for r in readings),
        temperature_c=_mean(r.temperature_c for r in readings),
        sm_clock_hz=_mean(r.sm_clock_hz for r in readings),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

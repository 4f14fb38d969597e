"""One GPU at one instant, as telemetry saw it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from power.device import GpuInfo, GpuReading


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSample:
    """A reading with its times. `reading` is None when the GPU could not be read; `error` then says why.

    `energy_j` is the GPU's counter since this daemon first saw it, in joules of grid time
    (multiplied by the clock's rate, so that joules and prices share one clock); it falls back on the
    integral of power where the GPU has no counter, and never decreases.
    """

    info: GpuInfo
    at: datetime
    monotonic_s: float
    reading: GpuReading | None
    energy_j: float
    error: str | None = None

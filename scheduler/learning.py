"""What telemetry teaches about a workload: its demanded watts, and from it the curve the decisions believe.

No profiling phase: it looks only at what running jobs show anyway. The shape of the curve stays the prior
of the GPU model; the demand, which matters most (`power/curve.py`), is learned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from power.curve import CapCurve, prior
from power.device import GpuInfo

SMOOTHING = 0.05  # weight of one new second; about 20 s of memory
# A draw below this share of what the cap lets through, less the curve's own error, shows the demand. A job
# that is held down must never count as one that wants no more: its floor would fall, and its draw with it.
SHOWN_SHARE = 0.92
BUSY_UTILIZATION = 0.5
KNOWN_AFTER_S = 30.0  # longer than the memory of the smoothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """Demanded watts of one workload on one GPU model. `seconds` is how long it was seen uncapped."""

    demand_w: float
    seconds: float


class CurveBook:
    """Curves by (GPU model, workload): the prior until something was learned."""

    def __init__(self, learned: dict[tuple[str, str], Learned] | None = None) -> None:
        self._learned = dict(learned or {})
        self.changed: set[tuple[str, str]] = set()

    def curve(self, gpu: GpuInfo, workload: str | None) -> CapCurve:
        believed = prior(gpu.model, min_cap_w=gpu.min_cap_w, max_cap_w=gpu.max_cap_w, workload=workload)
        seen = self._learned.get((gpu.model, workload or ""))
        return believed if seen is None else replace(believed, demand_w=seen.demand_w)

    def known(self, gpu: GpuInfo, workload: str | None) -> bool:
        """Whether this workload was seen uncapped for long enough to believe its demand."""
        seen = self._learned.get((gpu.model, workload or ""))
        return seen is not None and seen.seconds >= KNOWN_AFTER_S

    def learned(self, key: tuple[str, str]) -> Learned:
        return self._learned[key]

    def observe(
        self, gpu: GpuInfo, workload: str | None, *, draw_w: float, cap_w: float, utilization: float
    ) -> None:
        """One second of one busy GPU.

        A draw well below what the cap lets through tells the demand; one near it, that it is no less.
        """
        if utilization < BUSY_UTILIZATION or draw_w <= 0:
            return
        key = (gpu.model, workload or "")
        seen, curve = self._learned.get(key), self.curve(gpu, workload)
        believed_w = curve.demand_w
        if draw_w < (SHOWN_SHARE - curve.power_error) * curve.limited_w(cap_w):
            shown_w = min(curve.demand_of(draw_w, cap_w), curve.tdp_w)
            demand_w = believed_w + SMOOTHING * (shown_w - believed_w)
            self._learned[key] = Learned(demand_w=demand_w, seconds=(seen.seconds if seen else 0.0) + 1.0)
        elif draw_w > believed_w:
            self._learned[key] = Learned(demand_w=draw_w, seconds=seen.seconds if seen else 0.0)
        else:
            return
        self.changed.add(key)

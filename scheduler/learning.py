"""What telemetry teaches about a workload: its demanded watts, and from it the curve the decisions believe.

No profiling phase: it looks only at what running jobs show anyway. The shape of the curve stays the prior
of the GPU model; the demand, which matters most (`power/curve.py`), is learned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from power.curve import CapCurve, prior
from power.device import GpuInfo

SMOOTHING = 0.05  # weight of one new second; about 20 s of memory
UNCAPPED_MARGIN = 0.92  # a draw below this share of the cap was not held down by it
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
        """One second of one busy GPU. Uncapped draw is demand; a draw at the cap is a lower bound."""
        if utilization < BUSY_UTILIZATION or draw_w <= 0:
            return
        key = (gpu.model, workload or "")
        seen = self._learned.get(key)
        believed_w = self.curve(gpu, workload).demand_w
        if draw_w < UNCAPPED_MARGIN * cap_w:
            demand_w = believed_w + SMOOTHING * (draw_w - believed_w)
            self._learned[key] = Learned(demand_w=demand_w, seconds=(seen.seconds if seen else 0.0) + 1.0)
        elif draw_w > believed_w:
            self._learned[key] = Learned(demand_w=draw_w, seconds=seen.seconds if seen else 0.0)
        else:
            return
        self.changed.add(key)

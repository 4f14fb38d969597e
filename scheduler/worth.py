"""One job on one board: its curve there, and the least cap that its contract allows.

The same for thousands of jobs at once, and what a cap is worth in money: `scheduler/placing/levels.py`.
"""

from __future__ import annotations

import math
from dataclasses import replace

from power.curve import CapCurve
from scheduler.snapshot import GpuKind, JobView

FULL_SHARE = 0.999  # a job that promised nothing away keeps at least this share of its speed


def curve_on(view: JobView, kind: GpuKind) -> CapCurve:
    """The job's curve on this kind of GPU."""
    return scaled_to(view.curve, kind)


def scaled_to(curve: CapCurve, kind: GpuKind) -> CapCurve:
    """The curve on this kind of GPU: where it was made for another board, scaled by the top cap."""
    if curve.tdp_w == kind.max_cap_w and curve.min_cap_w == kind.min_cap_w:
        return curve
    scale = kind.max_cap_w / curve.tdp_w
    return replace(
        curve,
        tdp_w=kind.max_cap_w,
        min_cap_w=kind.min_cap_w,
        idle_w=min(curve.idle_w * scale, kind.min_cap_w),
        demand_w=curve.demand_w * scale,
    )


def floor_cap_w(view: JobView, curve: CapCurve) -> float:
    """The least cap that the job's contract allows now, in whole watts where the board has them."""
    cap_w = curve.cap_for(min(view.floor_share, FULL_SHARE))
    return min(float(math.ceil(cap_w - 1e-6)), curve.tdp_w)

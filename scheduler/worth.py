"""What a job is worth at a cap, in money per hour, and what stopping it loses. Pure arithmetic.

One sentence for all of it: value of work done, minus electricity and carbon, minus disruption. Prices are
money per MWh; a positive worth means that running beats leaving the GPU idle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime

from power.curve import CapCurve
from scheduler.model import Intent, JobState
from scheduler.snapshot import GpuView, JobView, Snapshot

FULL_SHARE = 0.999  # a job that promised nothing away keeps at least this share of its speed
PAUSE_COST_S = 30.0  # seconds of work that a freeze and its thaw are taken to lose
LEVEL_SHARES = (0.75, 0.9, 0.97, FULL_SHARE)
ECONOMIC_STEPS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuKind:
    """GPUs on which a job behaves the same: one board model with one range of caps."""

    model: str
    min_cap_w: float
    max_cap_w: float

    @classmethod
    def of(cls, gpu: GpuView) -> GpuKind:
        return cls(model=gpu.model, min_cap_w=gpu.min_cap_w, max_cap_w=gpu.max_cap_w)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One cap a job may run at. `worth_per_h` is for one GPU, against the same GPU left idle."""

    cap_w: float
    share: float  # throughput, 0..1 of uncapped
    worth_per_h: float


def curve_on(view: JobView, kind: GpuKind) -> CapCurve:
    """The job's curve on this kind of GPU: where it was made for another board, scaled by the top cap."""
    curve = view.curve
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


def worth_per_h(view: JobView, curve: CapCurve, cap_w: float, price_per_mwh: float) -> float:
    """Money per hour that one GPU of the job earns at `cap_w`, against the same GPU left idle."""
    extra_w = curve.power_w(cap_w) - curve.idle_w
    return view.value_per_gpu_h * curve.throughput(cap_w) - price_per_mwh * extra_w / 1e6


def floor_cap_w(view: JobView, curve: CapCurve) -> float:
    """The least cap that the job's contract allows now, in whole watts where the board has them."""
    return _whole_w(curve.cap_for(min(view.floor_share, FULL_SHARE)), curve)


def rule_cap_w(view: JobView, curve: CapCurve) -> float:
    """The highest cap that a price rule leaves the job; never below its contract. No rule: the board's."""
    if view.rule_cap_share is None:
        return curve.tdp_w
    return max(floor_cap_w(view, curve), _whole_w(curve.cap_for(view.rule_cap_share), curve))


def economic_cap_w(view: JobView, curve: CapCurve, price_per_mwh: float) -> float:
    """The cap within contract and rule at which the job earns most; the higher of two equals."""
    low, high = floor_cap_w(view, curve), rule_cap_w(view, curve)
    steps = (low + (high - low) * step / ECONOMIC_STEPS for step in range(ECONOMIC_STEPS + 1))
    caps = sorted({low, high, *(math.floor(cap) for cap in steps if cap >= low + 1.0)})
    return max(caps, key=lambda cap: (worth_per_h(view, curve, cap, price_per_mwh), cap))


def levels(view: JobView, kind: GpuKind, price_per_mwh: float, *, settable: bool = True) -> tuple[Level, ...]:
    """The handful of caps to choose from, lowest first: contract floor, knee, some shares, the top.

    A GPU whose limit cannot be set offers only its maximum.
    """
    curve = curve_on(view, kind)
    low, high = floor_cap_w(view, curve), rule_cap_w(view, curve)
    if not settable:
        caps = [kind.max_cap_w]
    else:
        between = (curve.knee_cap_w(), *(curve.cap_for(share) for share in LEVEL_SHARES))
        caps = sorted({low, high, *(_whole_w(cap, curve) for cap in between if low < cap < high)})
    return tuple(_level(view, curve, cap, price_per_mwh) for cap in caps)


def best(offers: tuple[Level, ...]) -> Level:
    """The level that earns most; the higher cap of two equals."""
    return max(offers, key=lambda level: (level.worth_per_h, level.cap_w))


def stop_cost(view: JobView, now: datetime) -> float:
    """Money that stopping the job and starting it again loses.

    Without a checkpoint that we know of, all the work of this run counts as lost.
    """
    lost_s = view.restart_cost_s
    if view.job.checkpoint_path is None and view.job.state is JobState.RUNNING:
        lost_s += max(0.0, (now - view.job.state_since).total_seconds())
    return lost_s / 3600.0 * view.job.spec.gpus * view.value_per_gpu_h


def pause_cost(view: JobView) -> float:
    """Money that freezing and thawing the job loses."""
    return PAUSE_COST_S / 3600.0 * view.job.spec.gpus * view.value_per_gpu_h


def pause_left(view: JobView, now: datetime) -> bool:
    """Whether the contract still lets us pause the job (pausable, and pause time not used up)."""
    contract = view.job.spec.contract
    if not contract.pausable:
        return False
    used_s = view.job.paused_s
    if view.job.state is JobState.PAUSED:
        used_s += (now - view.job.state_since).total_seconds()
    return contract.max_pause_s is None or used_s < contract.max_pause_s


def price_block(view: JobView, snapshot: Snapshot) -> str | None:
    """Why the price keeps the job from running now, as a sentence with figures; None = it does not.

    A job that started once is kept off only while its contract lets us pause it.
    """
    contract, price = view.job.spec.contract, snapshot.price_per_mwh
    started = view.job.attempts > 0 or view.job.state is not JobState.QUEUED
    if started and not pause_left(view, snapshot.now):
        return None
    if view.rule_pause is not None and contract.pausable:
        at = "" if price is None else f" at {price:.2f}/MWh"
        return f"price rule {view.rule_pause} pauses it{at}"
    ceiling = contract.price_ceiling_per_mwh
    if ceiling is not None and price is not None and price > ceiling:
        return f"the price is {price:.2f}/MWh, above its ceiling of {ceiling:.2f}/MWh"
    return None


def wanted_running(view: JobView) -> bool:
    """Nobody asked for it to be held, paused or stopped."""
    return view.job.intent in (Intent.RUN, Intent.CHECKPOINT) and not view.job.held_by_operator


def _level(view: JobView, curve: CapCurve, cap_w: float, price_per_mwh: float) -> Level:
    return Level(
        cap_w=cap_w,
        share=curve.throughput(cap_w),
        worth_per_h=worth_per_h(view, curve, cap_w, price_per_mwh),
    )


def _whole_w(cap_w: float, curve: CapCurve) -> float:
    return min(float(math.ceil(cap_w - 1e-6)), curve.tdp_w)

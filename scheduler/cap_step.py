"""Every second: split the watts that are there now over what runs. Pure, and without a solver.

The split itself is `power.capping.water_fill`; here are the demands, what stays reserved for everything
that cannot be steered, and the sentence that tells each job why its cap is not higher.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from power.capping import CapDemand, CapSplit, water_fill
from scheduler.decision import Certificate, Decision, JobCap, Pause, Preempt
from scheduler.model import Condition, JobState, WaitReason
from scheduler.shortage import Shortage, shortage
from scheduler.snapshot import GpuView, JobView, Snapshot
from scheduler.worth import FULL_SHARE, GpuKind, curve_on, floor_cap_w, rule_cap_w


@dataclass(frozen=True, slots=True)
class _Steered:
    """A job and those of its GPUs whose limit can be set now."""

    view: JobView
    gpus: tuple[GpuView, ...]
    demand: CapDemand


def cap_step(snapshot: Snapshot) -> Decision:
    """One cap for every job on GPUs, within every domain, contracts kept where that is possible.

    Everything else counts as it is accounted. Where a limit cannot be met, contracts break in reverse order
    of priority (EMERGENCY); where not even the boards' least caps fit, jobs pause or stop.
    """
    began_s = time.perf_counter()
    steered = [s for v in sorted(snapshot.jobs, key=_age) if (s := _steered(v, snapshot)) is not None]
    available_w = _available_w(snapshot, {gpu.uuid for s in steered for gpu in s.gpus})
    split = water_fill([s.demand for s in steered], snapshot.tree, available_w)
    short = shortage([s.view for s in steered], snapshot)
    pauses, preempts = _stops(steered, short)
    certificate = Certificate(
        step="cap", value=split.value, bound=split.bound, solve_s=time.perf_counter() - began_s
    )
    return Decision(
        caps=tuple(_job_cap(s, split, snapshot) for s in steered),
        pauses=pauses,
        preempts=preempts,
        certificates=(certificate,),
        notes=_notes(split, short),
    )


def _age(view: JobView) -> tuple[object, ...]:
    return (view.job.submitted_at, view.job.id)


def _steered(view: JobView, snapshot: Snapshot) -> _Steered | None:
    """None for a job on no GPU, or on none whose limit can be set: those GPUs stay reserved as accounted."""
    job = view.job
    if job.run is None or not job.state.live:
        return None
    own = set(job.run.gpu_uuids)
    known = set(snapshot.tree.gpu_uuids())
    gpus = tuple(
        gpu
        for gpu in snapshot.gpus
        if gpu.uuid in own & known and gpu.run_id == job.run.id and gpu.settable and gpu.healthy
    )
    if not gpus:
        return None
    slowest = max(gpus, key=lambda gpu: gpu.max_cap_w)  # at one cap, the largest board is held down most
    least_w = max(gpu.min_cap_w for gpu in gpus)
    kind = GpuKind(model=slowest.model, min_cap_w=least_w, max_cap_w=slowest.max_cap_w)
    curve = curve_on(view, kind)
    floor_w, ceiling_w = _range_w(view, gpus, kind)
    demand = CapDemand(
        key=job.id,
        gpu_uuids=tuple(gpu.uuid for gpu in gpus),
        floor_w=floor_w,
        ceiling_w=min(ceiling_w, *(gpu.max_cap_w for gpu in gpus)),
        priority_rank=view.priority_rank,
        curve=curve,
        value_per_gpu_h=view.value_per_gpu_h,
        energy_price_per_mwh=snapshot.energy_price_per_mwh(),
    )
    return _Steered(view, gpus, demand)


def _range_w(view: JobView, gpus: tuple[GpuView, ...], kind: GpuKind) -> tuple[float, float]:
    """(floor, ceiling) per GPU: by contract and rule at work, the board's least at rest."""
    if view.frozen or view.job.state in (JobState.PAUSING, JobState.PAUSED):
        return kind.min_cap_w, kind.min_cap_w
    if view.job.state is JobState.STOPPING:
        return kind.min_cap_w, max(gpu.confirmed_cap_w or kind.min_cap_w for gpu in gpus)
    curve = curve_on(view, kind)
    return floor_cap_w(view, curve), rule_cap_w(view, curve)


def _available_w(snapshot: Snapshot, steered: set[str]) -> dict[str, float]:
    """Watts per limited domain for the steered GPUs: the limit less base loads and every other GPU."""
    limits = {name: snapshot.limits_w.get(name, math.inf) for name in snapshot.tree.domains}
    available = snapshot.tree.gpu_watts_available(limits)
    counted = {gpu.uuid: gpu.accounted_w for gpu in snapshot.gpus}
    for uuid in snapshot.tree.gpu_uuids():
        if uuid not in steered:
            for name in snapshot.tree.path(uuid):
                available[name] -= counted.get(uuid, 0.0)
    return {name: watts for name, watts in available.items() if not math.isinf(watts)}


def _job_cap(steered: _Steered, split: CapSplit, snapshot: Snapshot) -> JobCap:
    job_id = steered.view.job.id
    cap_w = split.caps_w[job_id]
    condition, cause = _condition(steered, cap_w, split, snapshot)
    return JobCap(job_id=job_id, cap_w=cap_w, condition=condition, cause=cause)


def _condition(steered: _Steered, cap_w: float, split: CapSplit, snapshot: Snapshot) -> tuple[Condition, str]:
    """What the job's owner is told: the strongest cause, with figures."""
    view, demand, key = steered.view, steered.demand, steered.view.job.id
    share = demand.curve.throughput(cap_w)
    speed = f"{cap_w:.0f} W per GPU, {share:.1%} of its speed"
    domain = split.binding.get(key)
    at = f"{domain}, limited to {snapshot.limits_w[domain]:.0f} W," if domain is not None else "the budget"
    if view.job.state not in (JobState.RUNNING, JobState.STARTING) or view.frozen:
        return Condition.NOMINAL, f"{view.job.state}: {cap_w:.0f} W per GPU"
    if key in split.must_pause or any(broken.key == key for broken in split.broken_floors):
        return (
            Condition.EMERGENCY,
            f"{at} leaves it {speed}; its contract needs {demand.floor_w:.0f} W",
        )
    if share >= FULL_SHARE:
        return Condition.NOMINAL, speed
    if split.limited_by[key] == "budget":
        return Condition.CAPPED_BUDGET, f"{at} leaves it {speed}"
    return Condition.CAPPED_PRICE, f"{_price_cause(view, demand, cap_w, snapshot)}: {speed}"


def _price_cause(view: JobView, demand: CapDemand, cap_w: float, snapshot: Snapshot) -> str:
    price = "" if snapshot.price_per_mwh is None else f" at {snapshot.price_per_mwh:.2f}/MWh"
    if view.rule_cap_share is not None and cap_w >= demand.ceiling_w - 1.0:
        return f"a price rule allows {view.rule_cap_share:.0%}{price}"
    return f"more watts would cost more than they bring{price}"


def _stops(steered: list[_Steered], short: Shortage) -> tuple[tuple[Pause, ...], tuple[Preempt, ...]]:
    """Who must give way: frozen at once where its contract allows; stopped elsewhere, or where freezing
    freed too little (a frozen job still holds its GPUs at their least cap)."""
    pauses, preempts = [], []
    by_id = {s.view.job.id: s.view for s in steered}
    for job_id, domain in short.leaving.items():
        view = by_id[job_id]
        cause = f"{domain} cannot carry what runs even at the boards' least caps"
        if view.job.state is JobState.RUNNING and view.job.spec.contract.pausable and not view.frozen:
            pauses.append(Pause(job_id=job_id, cause=cause, reason=WaitReason.POWER))
        elif view.job.state in (JobState.RUNNING, JobState.STARTING, JobState.PAUSED):
            preempts.append(Preempt(job_id=job_id, cause=cause))
    return tuple(pauses), tuple(preempts)


def _notes(split: CapSplit, short: Shortage) -> tuple[str, ...]:
    broken = [
        f"{b.domain}: contract of {b.key} broken, {b.given_w:.0f} W instead of {b.floor_w:.0f} W per GPU"
        for b in split.broken_floors
    ]
    lacking = [
        f"{domain} lacks {watts:.0f} W even at the boards' least caps;"
        f" must pause or stop: {', '.join(short.leaving) or 'nothing that could free them'}"
        for domain, watts in short.missing_w.items()
    ]
    return (*broken, *lacking)

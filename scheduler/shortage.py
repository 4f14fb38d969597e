"""Who must leave the GPUs because a domain cannot carry what runs, even at the boards' least caps. Pure.

Looks at where the watts will be, not where they are: what is being stopped counts as gone, and a GPU that was
left a moment ago as idle. Otherwise every stop would, until its watts have settled, call for the next one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scheduler.model import JobState, WaitReason
from scheduler.residents import empty_w
from scheduler.snapshot import GpuView, JobView, Snapshot

_FITS_W = 1e-6


@dataclass(frozen=True, slots=True)
class Shortage:
    """`missing_w` by domain, with everybody still there; `leaving` are job ids with the domain that each
    leaves for, least important first."""

    missing_w: Mapping[str, float]
    leaving: Mapping[str, str]


def shortage(steered: Sequence[JobView], snapshot: Snapshot) -> Shortage:
    """`steered` are the jobs whose caps can be lowered. Least important first; among equals the youngest."""
    held = {view.job.id: _gpus(view, snapshot) for view in steered if not _is_leaving(view)}
    missing_w = _missing_w({gpu.uuid for gpus in held.values() for gpu in gpus}, snapshot)
    short = {name: watts for name, watts in missing_w.items() if watts > _FITS_W}
    excess_w, leaving = dict(short), dict[str, str]()
    for view in sorted(steered, key=_importance):
        freed_w = _freed_w(held.get(view.job.id, ()), snapshot)
        domain = max(
            (n for n in freed_w if excess_w.get(n, 0.0) > _FITS_W), key=excess_w.__getitem__, default=None
        )
        if domain is not None:
            leaving[view.job.id] = domain
            excess_w = {name: watts - freed_w.get(name, 0.0) for name, watts in excess_w.items()}
    for job_id in reversed(list(leaving)):  # a later, larger one may have made an earlier one needless
        freed_w = _freed_w(held[job_id], snapshot)
        if all(excess_w[name] + freed_w.get(name, 0.0) <= _FITS_W for name in excess_w if name in freed_w):
            del leaving[job_id]
            excess_w = {name: watts + freed_w.get(name, 0.0) for name, watts in excess_w.items()}
    return Shortage(short, leaving)


def _importance(view: JobView) -> tuple[float, float, str]:
    return (view.priority_rank, -view.job.submitted_at.timestamp(), view.job.id)


def _is_leaving(view: JobView) -> bool:
    """Already on its way off its GPUs."""
    job = view.job
    for_power = job.wait_reason is WaitReason.POWER and job.state in (JobState.PAUSING, JobState.PAUSED)
    return for_power or job.state is JobState.STOPPING


def _gpus(view: JobView, snapshot: Snapshot) -> tuple[GpuView, ...]:
    run = view.job.run
    return () if run is None else tuple(g for g in snapshot.gpus if g.uuid in run.gpu_uuids)


def _missing_w(held: set[str], snapshot: Snapshot) -> dict[str, float]:
    """Watts over each limit once everything has settled, with these GPUs at their least caps."""
    leaving = {v.job.run.id for v in snapshot.jobs if v.job.run is not None and _is_leaving(v)}
    counted = {
        gpu.uuid: _least_w(gpu) if gpu.uuid in held else _settled_w(gpu, leaving) for gpu in snapshot.gpus
    }
    used = snapshot.tree.usage_w({u: counted.get(u, 0.0) for u in snapshot.tree.gpu_uuids()})
    return {name: watts - snapshot.limits_w.get(name, math.inf) for name, watts in used.items()}


def _settled_w(gpu: GpuView, leaving: set[str]) -> float:
    if gpu.healthy and (gpu.settling or gpu.run_id in leaving):
        return gpu.idle_w
    return empty_w(gpu) if gpu.run_id is None else gpu.accounted_w


def _least_w(gpu: GpuView) -> float:
    return gpu.min_cap_w if gpu.healthy and gpu.settable else gpu.accounted_w


def _freed_w(gpus: Iterable[GpuView], snapshot: Snapshot) -> dict[str, float]:
    """What each domain gains when these GPUs are left."""
    freed: dict[str, float] = {}
    in_tree = set(snapshot.tree.gpu_uuids())
    for gpu in gpus:
        if gpu.uuid in in_tree and gpu.healthy:
            for name in snapshot.tree.path(gpu.uuid):
                freed[name] = freed.get(name, 0.0) + max(0.0, _least_w(gpu) - gpu.idle_w)
    return {name: watts for name, watts in freed.items() if watts > 0}

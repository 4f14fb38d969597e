"""Jobs that hold GPUs, and what a placement may do with each: run at a cap, pause, stop, thaw.

Also what is left for them: the room of every power domain, and which domains are short even with all
residents at their contract floors. Only a short domain opens the options that break contracts.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from scheduler.model import JobState
from scheduler.snapshot import GpuView, JobView, Snapshot
from scheduler.worth import (
    GpuKind,
    curve_on,
    levels,
    pause_cost,
    pause_left,
    price_block,
    stop_cost,
    wanted_running,
    worth_per_h,
)

BREACH_FACTOR = 100.0  # breaking a contract costs this many times the job's full worth


class Act(StrEnum):
    """What becomes of a resident."""

    RUN = "run"
    EMERGENCY = "emergency"  # runs below its contract floor
    PAUSE = "pause"  # freezes, or stays frozen
    PREEMPT = "preempt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One thing that may become of a resident: watts in each domain over it, worth of all its GPUs."""

    act: Act
    cap_w: float
    worth_per_h: float
    watts: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A running or frozen job. `forced` is the sentence why it must pause; `held` counts by pool
    the GPUs that stopping it would make usable.

    `options` run from the fewest watts to the most.
    """

    view: JobView
    held: Mapping[tuple[str, GpuKind], int]
    options: tuple[Option, ...]
    forced: str | None = None

    @property
    def stoppable(self) -> bool:
        return any(option.act is Act.PREEMPT for option in self.options)

    @property
    def least(self) -> Option:
        """The fewest watts at which the job stays what it is: running at its floor, or frozen."""
        stays = Act.RUN if any(o.act is Act.RUN for o in self.options) and not self.view.frozen else Act.PAUSE
        return next(option for option in self.options if option.act is stays)

    @property
    def most(self) -> Option:
        return self.options[-1]


@dataclass(frozen=True, slots=True)
class Site:
    """A snapshot with its GPUs by name."""

    snapshot: Snapshot
    by_uuid: Mapping[str, GpuView]

    @classmethod
    def of(cls, snapshot: Snapshot) -> Site:
        in_tree = set(snapshot.tree.gpu_uuids())
        return cls(snapshot, {gpu.uuid: gpu for gpu in snapshot.gpus if gpu.uuid in in_tree})

    def gpus_of(self, view: JobView) -> tuple[GpuView, ...]:
        """The GPUs of its run; empty when it has none or one of them is not known."""
        uuids = view.job.run.gpu_uuids if view.job.run is not None else ()
        return tuple(self.by_uuid[u] for u in uuids) if all(u in self.by_uuid for u in uuids) else ()

    def watts(self, gpus: tuple[GpuView, ...], cap_w: float | None) -> dict[str, float]:
        """Watts per domain of these GPUs loaded at `cap_w` (None = proven empty)."""
        total: dict[str, float] = defaultdict(float)
        for gpu in gpus:
            for domain in self.snapshot.tree.path(gpu.uuid):
                total[domain] += counted_w(gpu, cap_w)
        return dict(total)


def counted_w(gpu: GpuView, cap_w: float | None) -> float:
    """What one GPU counts at under a load at `cap_w`, or proven empty (None)."""
    if not gpu.healthy:
        return gpu.accounted_w
    if cap_w is None:
        return gpu.idle_w
    return min(max(cap_w, gpu.min_cap_w), gpu.max_cap_w) if gpu.settable else gpu.max_cap_w


def empty_w(gpu: GpuView) -> float:
    """What a GPU without a run counts at while a placement is sought.

    One that draws no more than idle may count higher only because its watts are promised to a start; the
    placement decides about those anew.
    """
    idle = gpu.healthy and not gpu.foreign and gpu.draw_w is not None and gpu.draw_w <= gpu.idle_w
    return min(gpu.idle_w, gpu.accounted_w) if idle else gpu.accounted_w


def residents_of(
    snapshot: Snapshot, *, top_rank: int | None
) -> tuple[tuple[Resident, ...], dict[str, float], frozenset[str]]:
    """(residents, room per domain in watts, short domains).

    `top_rank` is the highest priority that waits (None = nobody): only for a higher one is a job disturbed.
    Where even every lowest option exceeds a domain, its room is raised to that: nothing more can be done.
    """
    site = Site.of(snapshot)
    residents = [_resident(v, site, top_rank) for v in snapshot.jobs if _movable(v, site)]
    room_w = _room_w(site, {uuid for r in residents for uuid in _uuids(r.view)})
    need = _total_w([r.least for r in residents])
    short = frozenset(d for d, room in room_w.items() if need[d] > room + 1e-6)
    if short:
        residents = [r if short.isdisjoint(r.most.watts) else _in_need(r, site) for r in residents]
        floor_w = _total_w([r.options[0] for r in residents])
        room_w |= {domain: max(room_w[domain], floor_w[domain]) for domain in short}
    return tuple(residents), room_w, short


def _movable(view: JobView, site: Site) -> bool:
    if not site.gpus_of(view):
        return False
    if view.frozen:
        return view.job.state is JobState.PAUSED
    return view.job.state is JobState.RUNNING and wanted_running(view)


def _uuids(view: JobView) -> tuple[str, ...]:
    return () if view.job.run is None else view.job.run.gpu_uuids


def _total_w(options: list[Option]) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for option in options:
        for domain, watts in option.watts.items():
            total[domain] += watts
    return total


def _room_w(site: Site, inside: set[str]) -> dict[str, float]:
    """Limit less base loads less GPUs that stay as they are; those being stopped count as already idle."""
    snapshot = site.snapshot
    stopping = {_run_id(v) for v in snapshot.jobs if v.job.state is JobState.STOPPING}
    limits = {name: snapshot.limits_w.get(name, math.inf) for name in snapshot.tree.domains}
    room = snapshot.tree.gpu_watts_available(limits)
    for uuid, gpu in site.by_uuid.items():
        if uuid not in inside:
            leaving = gpu.run_id is not None and gpu.run_id in stopping
            counts_w = gpu.accounted_w if gpu.run_id is not None else empty_w(gpu)
            for domain in snapshot.tree.path(uuid):
                room[domain] -= counted_w(gpu, None) if leaving else counts_w
    return room


def _run_id(view: JobView) -> str | None:
    return None if view.job.run is None else view.job.run.id


def _resident(view: JobView, site: Site, top_rank: int | None) -> Resident:
    gpus = site.gpus_of(view)
    blocked = price_block(view, site.snapshot)
    forced = None if view.frozen else blocked
    run = _run_options(view, site)
    options: list[Option] = []
    if forced is None and _may_preempt(view, site.snapshot, disturb=_above(top_rank, view)):
        options.append(_preempt(view, site))
    earns = max(option.worth_per_h for option in run) >= 0
    may_pause = pause_left(view, site.snapshot.now) and (_above(top_rank, view) or not earns)
    if view.frozen or forced is not None or may_pause:
        options.append(_pause(view, site))
    if forced is None and (not view.frozen or _may_thaw(view, gpus, blocked)):
        options.extend(run)
    reusable = [gpu for gpu in gpus if gpu.healthy and not gpu.cordoned and not gpu.foreign]
    held = Counter((site.snapshot.tree.path(gpu.uuid)[0], GpuKind.of(gpu)) for gpu in reusable)
    return Resident(view=view, held=held, options=tuple(options), forced=forced)


def _in_need(resident: Resident, site: Site) -> Resident:
    """With the options that only an unmeetable budget opens: a pause, the least cap. Who must stop because
    not even that fits is the cap step's to say."""
    view, acts = resident.view, {option.act for option in resident.options}
    extra: list[Option] = []
    if Act.PAUSE in acts or (Act.RUN in acts and pause_left(view, site.snapshot.now)):
        extra.append(_pause(view, site))
    if Act.RUN in acts and not view.frozen:
        extra.append(_emergency(view, site))
    run = [option for option in resident.options if option.act is Act.RUN]
    return replace(resident, options=(*extra, *run))


def _above(top_rank: int | None, view: JobView) -> bool:
    return top_rank is not None and top_rank > view.priority_rank


def _may_preempt(view: JobView, snapshot: Snapshot, *, disturb: bool) -> bool:
    old_enough = (snapshot.now - view.job.state_since).total_seconds() >= snapshot.min_run_s
    return disturb and old_enough and not view.frozen and view.job.spec.requeue


def _may_thaw(view: JobView, gpus: tuple[GpuView, ...], blocked: str | None) -> bool:
    sound = all(gpu.healthy for gpu in gpus)
    return view.eligible and blocked is None and wanted_running(view) and sound


def _run_options(view: JobView, site: Site) -> list[Option]:
    gpus = site.gpus_of(view)
    kind = min((GpuKind.of(gpu) for gpu in gpus), key=lambda k: k.max_cap_w)
    settable = all(gpu.settable for gpu in gpus)
    offered = levels(view, kind, site.snapshot.energy_price_per_mwh(), settable=settable)
    return [
        Option(
            act=Act.RUN,
            cap_w=level.cap_w,
            worth_per_h=level.worth_per_h * len(gpus),
            watts=site.watts(gpus, level.cap_w),
        )
        for level in offered
    ]


def _least_cap_w(gpus: tuple[GpuView, ...]) -> float:
    return max(gpu.min_cap_w for gpu in gpus)


def _emergency(view: JobView, site: Site) -> Option:
    gpus = site.gpus_of(view)
    cap_w = _least_cap_w(gpus)
    curve = curve_on(view, GpuKind.of(gpus[0]))
    price = site.snapshot.energy_price_per_mwh()
    breach = BREACH_FACTOR * view.value_per_gpu_h
    worth = len(gpus) * (worth_per_h(view, curve, cap_w, price) - breach)
    return Option(act=Act.EMERGENCY, cap_w=cap_w, worth_per_h=worth, watts=site.watts(gpus, cap_w))


def _pause(view: JobView, site: Site) -> Option:
    """Frozen on its GPUs, which still hold a load and so count at their least cap."""
    gpus = site.gpus_of(view)
    cap_w = _least_cap_w(gpus)
    loss = 0.0 if view.frozen else pause_cost(view)
    return Option(act=Act.PAUSE, cap_w=cap_w, worth_per_h=-loss, watts=site.watts(gpus, cap_w))


def _preempt(view: JobView, site: Site) -> Option:
    gpus = site.gpus_of(view)
    loss = stop_cost(view, site.snapshot.now)
    return Option(act=Act.PREEMPT, cap_w=0.0, worth_per_h=-loss, watts=site.watts(gpus, None))

"""Why each waiting job waits: one reason from the closed list and one sentence with figures."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from scheduler.decision import Start, Wait
from scheduler.instance import Choice, Instance, Pool, fits_type, parts_for, waiting
from scheduler.model import WaitReason
from scheduler.residents import Site, counted_w, empty_w
from scheduler.snapshot import JobView, Snapshot
from scheduler.worth import GpuKind, best, curve_on, floor_cap_w, levels

Reason: TypeAlias = tuple[WaitReason, str]


def waits_for(
    instance: Instance, choice: Choice, starts: Iterable[Start], late: Mapping[str, tuple[str, ...]]
) -> tuple[Wait, ...]:
    """A Wait for every eligible job that does not start; the others have their reason from the gate."""
    started = {start.job_id: start for start in starts}
    scene = _Scene.of(instance, choice, started.values())
    rows = [v for v in waiting(instance.snapshot) if v.eligible and v.job.id not in started]
    never: dict[object, Reason | None] = {}  # jobs that ask alike share their answer: queues are long
    short: dict[object, Reason] = {}
    waits = []
    for view in rows:
        key = _likeness(view)
        if key not in never:
            never[key] = _unsatisfiable(view, instance.pools, instance.snapshot)
        found = never[key] or _own_reason(view, instance, late.get(view.job.id))
        if found is None:
            if key not in short:
                short[key] = _resource_reason(view, scene)
            found = short[key]
        waits.append(Wait(job_id=view.job.id, reason=found[0], detail=found[1]))
    return tuple(waits)


@dataclass(frozen=True, slots=True)
class _Scene:
    """What is free, and the watts left with running jobs at their floors: before and after the starts."""

    instance: Instance
    free_before: tuple[int, ...]  # per pool
    free_after: tuple[int, ...]
    left_w: Mapping[str, float]  # per domain, without the starts
    left_after_w: Mapping[str, float]

    @classmethod
    def of(cls, instance: Instance, choice: Choice, starts: Iterable[Start]) -> _Scene:
        site = Site.of(instance.snapshot)
        taken = {uuid: start.cap_w for start in starts for uuid in start.gpu_uuids}
        left_w = dict(instance.room_w)
        for resident in instance.residents:
            option = choice.options[resident.view.job.id]
            least = (
                option if sum(option.watts.values()) < sum(resident.least.watts.values()) else resident.least
            )
            for domain, watts in least.watts.items():
                left_w[domain] -= watts
        after_w = dict(left_w)
        for uuid, cap_w in taken.items():
            gpu = site.by_uuid[uuid]
            for domain in instance.snapshot.tree.path(uuid):
                after_w[domain] -= max(0.0, counted_w(gpu, cap_w) - empty_w(gpu))
        before = tuple(len(pool.free) for pool in instance.pools)
        after = tuple(sum(uuid not in taken for uuid in pool.free) for pool in instance.pools)
        return cls(instance, before, after, left_w, after_w)


def _likeness(view: JobView) -> object:
    spec = view.job.spec
    worth = (view.curve, view.floor_share, view.rule_cap_share, view.value_per_gpu_h)
    return (spec.gpus, spec.nodes, spec.gpu_type, worth)


def _own_reason(view: JobView, instance: Instance, leaving: tuple[str, ...] | None) -> Reason | None:
    """What holds back this job and not its like: its price, or GPUs that are being emptied for it."""
    held = instance.price_held.get(view.job.id)
    if held is not None:
        return WaitReason.PRICE, held
    if leaving is None:
        return None
    names, gpus = ", ".join(leaving) or "others", view.job.spec.gpus
    come = "GPU comes" if gpus == 1 else f"{gpus} GPUs come"
    return WaitReason.GPUS, f"its {come} free when {names} has stopped"


def _unsatisfiable(view: JobView, pools: tuple[Pool, ...], snapshot: Snapshot) -> Reason | None:
    """What can never start here, or not before maintenance ends; names the nearest that fits."""
    spec = view.job.spec
    typed = [gpu for gpu in snapshot.gpus if fits_type(view, gpu.model)]
    if not typed:
        models = ", ".join(sorted({gpu.model for gpu in snapshot.gpus})) or "none"
        return WaitReason.UNSATISFIABLE, f"asks for a GPU of type {spec.gpu_type!r}; there is {models}"
    largest = largest_gang(view, snapshot)
    if spec.gpus > largest:
        of_type = f" of type {spec.gpu_type!r}" if spec.gpu_type else ""
        what = f"asks for {_gpus(spec.gpus)}{of_type}"
        return WaitReason.UNSATISFIABLE, f"{what}, the largest that can ever fit is {largest}"
    if spec.nodes > 1 and not _spreads(view, snapshot):
        share = spec.gpus // spec.nodes
        return (
            WaitReason.UNSATISFIABLE,
            f"asks for {spec.nodes} nodes with {_gpus(share)} each, which no set of nodes has;"
            f" the largest single node has {max(_node_sizes(view, snapshot).values())}",
        )
    watts = _never_enough_watts(view, snapshot, typed[0].uuid)
    if watts is not None:
        return WaitReason.UNSATISFIABLE, watts
    if parts_for(view, pools) is None:
        away = sum(not gpu.healthy or gpu.cordoned or gpu.foreign for gpu in typed)
        usable = len(typed) - away
        return (
            WaitReason.NODE_MAINTENANCE,
            f"needs {_gpus(spec.gpus)}; {away} of {len(typed)} are cordoned, unhealthy or used by others,"
            f" {usable} left",
        )
    return None


def largest_gang(view: JobView, snapshot: Snapshot) -> int:
    """The most GPUs of its type that one job could ever get: all of one kind, in service or not."""
    kinds: dict[GpuKind, int] = defaultdict(int)
    for gpu in snapshot.gpus:
        if fits_type(view, gpu.model):
            kinds[GpuKind.of(gpu)] += 1
    return max(kinds.values(), default=0)


def _node_sizes(view: JobView, snapshot: Snapshot) -> dict[str, int]:
    sizes: dict[str, int] = defaultdict(int)
    for gpu in snapshot.gpus:
        if fits_type(view, gpu.model):
            sizes[snapshot.tree.path(gpu.uuid)[0]] += 1
    return sizes


def _spreads(view: JobView, snapshot: Snapshot) -> bool:
    spec = view.job.spec
    wide = [n for n in _node_sizes(view, snapshot).values() if n >= spec.gpus // spec.nodes]
    return len(wide) >= spec.nodes


def _never_enough_watts(view: JobView, snapshot: Snapshot, uuid: str) -> str | None:
    """The root's configured limit against the job alone, everything else idle."""
    root, gpu = snapshot.tree.root, snapshot.gpu(uuid)
    limit_w = snapshot.tree.domains[root].limit_w
    cap_w = floor_cap_w(view, curve_on(view, GpuKind.of(gpu)))
    others_w = sum(sorted(g.idle_w for g in snapshot.gpus)[: len(snapshot.gpus) - view.job.spec.gpus])
    left_w = limit_w - snapshot.tree.base_load_under_w(root) - others_w
    need_w = cap_w * view.job.spec.gpus
    if need_w <= left_w + 1e-6:
        return None
    fits = max(0, math.floor(left_w / cap_w))
    return (
        f"needs {need_w:.0f} W at its contract floor; {root} is built for {left_w:.0f} W beside idle GPUs:"
        f" the largest that can ever fit is {_gpus(fits)}"
    )


def _resource_reason(view: JobView, scene: _Scene) -> Reason:
    own = [i for i, p in enumerate(scene.instance.pools) if fits_type(view, p.kind.model)]
    if not _gang_fits(view, scene, own, scene.free_before):
        return WaitReason.GPUS, _gpus_missing(view, [scene.free_before[i] for i in own])
    if not _gang_fits(view, scene, own, scene.free_after):
        missing = _gpus_missing(view, [scene.free_after[i] for i in own])
        return WaitReason.LOWER_PRIORITY, f"{missing} after jobs of higher worth or age"
    return _watts_reason(view, scene, own)


def _watts_reason(view: JobView, scene: _Scene, own: list[int]) -> Reason:
    wide = [i for i in own if scene.free_after[i] * view.job.spec.nodes >= view.job.spec.gpus] or own
    index = max(wide, key=lambda i: min(scene.left_after_w[d] for d in scene.instance.pools[i].domains))
    pool = scene.instance.pools[index]
    cap_w = floor_cap_w(view, curve_on(view, pool.kind))
    need_w = pool.loaded_w(cap_w) * view.job.spec.gpus
    tightest = min(pool.domains, key=lambda d: scene.left_after_w[d])
    left_w, before_w = scene.left_after_w[tightest], min(scene.left_w[d] for d in pool.domains)
    idle_w = pool.empty_w * view.job.spec.gpus
    has_w = max(0.0, left_w + idle_w)
    text = f"needs {need_w + idle_w:.0f} W at its contract floor, {tightest} has {has_w:.0f} W left"
    if not scene.instance.short.isdisjoint(pool.domains) or need_w > before_w + 0.05:
        return WaitReason.POWER, text
    if need_w > left_w + 0.05:
        return WaitReason.LOWER_PRIORITY, f"{text} after jobs of higher worth or age"
    return _not_worth_it(view, scene, pool)


def _not_worth_it(view: JobView, scene: _Scene, pool: Pool) -> Reason:
    price = scene.instance.snapshot.energy_price_per_mwh()
    offered = best(levels(view, pool.kind, price, settable=pool.settable))
    if offered.worth_per_h <= 0:
        return (
            WaitReason.PRICE,
            f"at {price:.2f}/MWh its power costs more than its work is worth"
            f" ({view.value_per_gpu_h:.2f} per GPU-hour)",
        )
    return WaitReason.LOWER_PRIORITY, "fits, but comes after jobs of higher worth; tried again next time"


def _gang_fits(view: JobView, scene: _Scene, own: list[int], free: tuple[int, ...]) -> bool:
    spec = view.job.spec
    nodes = parts_for(view, scene.instance.pools)
    if nodes == 0:
        kinds: dict[GpuKind, int] = defaultdict(int)
        for index in own:
            kinds[scene.instance.pools[index].kind] += free[index]
        return max(kinds.values(), default=0) >= spec.gpus
    return sum(free[index] >= spec.gpus // spec.nodes for index in own) >= spec.nodes


def _gpus_missing(view: JobView, free: list[int]) -> str:
    spec, total = view.job.spec, sum(free)
    where = f" on each of {spec.nodes} nodes" if spec.nodes > 1 else ""
    need = f"needs {_gpus(spec.gpus // spec.nodes)}{where}"
    if total >= spec.gpus:
        return f"{need}, the fullest node has {max(free)} free of {total} in all"
    return f"{need}, {total} {'is' if total == 1 else 'are'} free"


def _gpus(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count} GPUs"

"""What fits under a limit: the largest job there is room for, and what a budget would stop. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from power.budget import PowerTree
from power.curve import prior
from scheduler.model import Job, JobSpec
from scheduler.published import GpuState, PublishedState


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What a domain draws in the worst case, in watts.

    `base_w` the base loads under it; `idle_w` its GPUs with no load; `loaded_w` its GPUs as they are now with
    every cap at the board's minimum. `gpus` counts them. The totals are what the domain's meter shows, which
    is `pue` times as much.
    """

    base_w: float
    idle_w: float
    loaded_w: float
    gpus: int
    pue: float = 1.0

    @property
    def empty_total_w(self) -> float:
        return (self.base_w + self.idle_w) * self.pue

    @property
    def loaded_total_w(self) -> float:
        return (self.base_w + self.loaded_w) * self.pue


def floor_of(domain: str, tree: PowerTree, state: PublishedState | None, idle_margin_w: float) -> Floor:
    """The least that the domain can be brought to, with and without its present jobs."""
    under = set(tree.gpus_under(domain))
    gpus = [gpu for gpu in _gpus(state) if gpu["uuid"] in under]
    idle = {gpu["uuid"]: idle_w(gpu, gpus, idle_margin_w) for gpu in gpus}
    return Floor(
        base_w=tree.base_load_under_w(domain),
        idle_w=sum(idle.values()),
        loaded_w=sum(_least_w(gpu, idle[gpu["uuid"]]) for gpu in gpus),
        gpus=len(under),
        pue=tree.domains[domain].pue,
    )


def idle_w(gpu: GpuState, neighbours: Iterable[GpuState], margin_w: float) -> float:
    """What a GPU counts with no load: as accounted if it is empty, else as an empty one of its model does."""
    if _is_empty(gpu):
        return gpu["accounted_w"]
    alike = [
        other["accounted_w"] for other in neighbours if other["model"] == gpu["model"] and _is_empty(other)
    ]
    if alike:
        return max(alike)
    curve = prior(gpu["model"], min_cap_w=gpu["min_cap_w"], max_cap_w=gpu["max_cap_w"], workload=None)
    return min(curve.idle_w + margin_w, gpu["max_cap_w"])


def stopped_by(
    limit_w: float,
    domain: str,
    *,
    tree: PowerTree,
    state: PublishedState | None,
    jobs: Sequence[Job],
    value_of: Mapping[str, float],
    idle_margin_w: float,
) -> list[str]:
    """Ids of the jobs that a limit leaves no room for even at the lowest caps, in the order they would go.

    The least valuable class goes first, and in a class the job submitted last.
    """
    floor = floor_of(domain, tree, state, idle_margin_w)
    floor_w = floor.loaded_total_w
    under = set(tree.gpus_under(domain))
    gpus = [gpu for gpu in _gpus(state) if gpu["uuid"] in under]
    freed: dict[str, float] = {}
    for gpu in gpus:
        if gpu["job_id"] is not None:
            saved_w = max(0.0, gpu["min_cap_w"] - idle_w(gpu, gpus, idle_margin_w))
            freed[gpu["job_id"]] = freed.get(gpu["job_id"], 0.0) + saved_w
    running = [job for job in jobs if job.id in freed]
    running.sort(key=lambda job: job.submitted_at, reverse=True)
    running.sort(key=lambda job: value_of.get(job.spec.priority, 0.0))
    stopped = []
    for job in running:
        if floor_w <= limit_w:
            break
        floor_w -= freed[job.id] * floor.pue
        stopped.append(job.id)
    return stopped


def unsatisfiable(
    spec: JobSpec, tree: PowerTree, state: PublishedState | None, idle_margin_w: float
) -> tuple[str, str] | None:
    """(field, why) for a job that this site can never run; None when it can, or when that is not known yet.

    Only what does not change is counted: GPUs, their models, configured limits. Budgets come and go.
    """
    known = _gpus(state)
    if not known:
        count = len(tree.gpu_uuids())
        return ("gpus", _too_many(spec, count, "")) if spec.gpus > count else None
    matching = [gpu for gpu in known if matches(gpu["model"], spec.gpu_type)]
    if not matching:
        models = ", ".join(sorted({gpu["model"] for gpu in known}))
        return "gpu_type", f"no GPU here has that in its model name; there are: {models}"
    nodes = len({gpu["node"] for gpu in matching})
    if spec.nodes > nodes:
        return "nodes", f"asks for {spec.nodes} nodes; there are {nodes}"
    fits = _most_that_fit(matching, known, tree, idle_margin_w)
    if spec.gpus > fits:
        why = "" if fits == len(matching) else " under the configured power limits"
        return "gpus", _too_many(spec, fits, why)
    return None


def matches(model: str, gpu_type: str | None) -> bool:
    return gpu_type is None or gpu_type.lower() in model.lower()


def _too_many(spec: JobSpec, fits: int, why: str) -> str:
    return f"asks for {spec.gpus} GPUs; the largest job that fits{why} is {fits}"


def _most_that_fit(
    matching: Sequence[GpuState], known: Sequence[GpuState], tree: PowerTree, margin_w: float
) -> int:
    """GPUs that can be at their lowest cap together while all others idle; exact where steps are equal."""
    idle = {gpu["uuid"]: idle_w(gpu, known, margin_w) for gpu in known}
    used = tree.usage_w({uuid: idle.get(uuid, 0.0) for uuid in tree.gpu_uuids()})
    fits = 0
    for gpu in sorted(matching, key=lambda g: g["min_cap_w"] - idle[g["uuid"]]):
        step_w = max(0.0, gpu["min_cap_w"] - idle[gpu["uuid"]])
        path = tree.path(gpu["uuid"])
        metered_w = {name: step_w * tree.domains[name].pue for name in path}
        if all(used[name] + more_w <= tree.domains[name].limit_w for name, more_w in metered_w.items()):
            fits += 1
            for name, more_w in metered_w.items():
                used[name] += more_w
    return fits


def _gpus(state: PublishedState | None) -> list[GpuState]:
    return [] if state is None else state["gpus"]


def _is_empty(gpu: GpuState) -> bool:
    return (
        gpu["job_id"] is None
        and not gpu["foreign"]
        and gpu["healthy"]
        and gpu["accounted_w"] < gpu["min_cap_w"]
        and math.isfinite(gpu["accounted_w"])
    )


def _least_w(gpu: GpuState, empty_w: float) -> float:
    """What it counts at the lowest it can be brought to without stopping what runs on it."""
    if _is_empty(gpu):
        return empty_w
    if gpu["healthy"] and gpu["settable"]:
        return gpu["min_cap_w"]
    return gpu["accounted_w"]

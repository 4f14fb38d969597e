"""Small worlds that read like drawings: `snapshot(gpus(4), running(job("a"), 0, 1), job("b", gpus=2))`.

Everything has a default; a test states only what it is about. Times are grid time, `NOW` unless said.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from power.budget import Domain, PowerTree
from power.curve import CapCurve, prior
from power.series import Series
from scheduler.model import Contract, Flex, Job, JobSpec, JobState, Run
from scheduler.snapshot import GpuView, JobView, Snapshot

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
VALUES = {"low": 0.5, "standard": 1.5, "high": 4.0}
RANKS = {"low": 0, "standard": 1, "high": 2}


def hours(count: float) -> timedelta:
    return timedelta(hours=count)


def prices(row: str, *, start: datetime = NOW, step_h: float = 1.0) -> Series:
    """`prices("20 60 10 80")`: one slot each, from `start` on; `-` is a gap."""
    points = [(start + index * hours(step_h), word) for index, word in enumerate(row.split())]
    known = [(at, float(word)) for at, word in points if word != "-"]
    return Series.from_starts(known, end=known[-1][0] + hours(step_h) if known else None)


def job(
    id: str = "job_a",
    *,
    gpus: int = 1,
    flex: str = "none",
    priority: str = "standard",
    pausable: bool = False,
    max_pause_s: float | None = None,
    deadline_h: float | None = None,
    ceiling: float | None = None,
    state: JobState = JobState.QUEUED,
    minutes_ago: float = 0.0,
    nodes: int = 1,
    gpu_type: str | None = None,
    estimate_s: float | None = None,
    workload: str | None = None,
    argv: tuple[str, ...] = ("python", "train.py"),
    **more: Any,
) -> Job:
    """A job submitted `minutes_ago`, due `deadline_h` from NOW. `more` goes to Job or JobSpec by name."""
    contract = Contract(
        flex=Flex(flex),
        pausable=pausable,
        max_pause_s=max_pause_s,
        deadline=None if deadline_h is None else NOW + hours(deadline_h),
        price_ceiling_per_mwh=ceiling,
    )
    of_spec = {name: more.pop(name) for name in list(more) if name in JobSpec.__dataclass_fields__}
    spec = JobSpec(
        argv=argv,
        gpus=gpus,
        nodes=nodes,
        gpu_type=gpu_type,
        estimate_s=estimate_s,
        workload=workload,
        priority=priority,
        contract=contract,
        **of_spec,
    )
    at = NOW - timedelta(minutes=minutes_ago)
    fields: dict[str, Any] = {"owner": "ada", "submitted_at": at, "state_since": at, "state": state}
    return Job(id=id, spec=spec, **(fields | more))


def running(
    what: Job,
    *gpu_indices: int,
    cap_w: float = 300.0,
    state: JobState = JobState.RUNNING,
    minutes_ago: float = 60.0,
) -> Job:
    """The job on GPUs `gpu-0`, `gpu-1`, ... (default: the first ones), since an hour ago."""
    indices = gpu_indices or tuple(range(what.spec.gpus))
    since = NOW - timedelta(minutes=minutes_ago)
    run = Run(
        id=f"run_{what.id}",
        job_id=what.id,
        attempt=1,
        gpu_uuids=tuple(f"gpu-{index}" for index in indices),
        cap_w=cap_w,
        created_at=since,
        started_at=since,
    )
    return what.but(state=state, state_since=since, run=run, attempts=1, checkpoint_path="/checkpoints/1")


def frozen(what: Job, *gpu_indices: int, cap_w: float = 100.0, minutes_ago: float = 10.0) -> Job:
    """The job paused in place: still on its GPUs, at the least cap."""
    return running(what, *gpu_indices, cap_w=cap_w, state=JobState.PAUSED, minutes_ago=minutes_ago)


def gpus(
    count: int = 4,
    *,
    first: int = 0,
    model: str = "NVIDIA A40",
    min_cap_w: float = 100.0,
    max_cap_w: float = 300.0,
    idle_w: float = 45.0,
    **more: Any,
) -> tuple[GpuView, ...]:
    """Empty, healthy, settable GPUs `gpu-<first>` ...; `more` changes any field of all of them."""
    fields: dict[str, Any] = {
        "confirmed_cap_w": max_cap_w,
        "accounted_w": idle_w,
        "draw_w": idle_w,
        "settable": True,
        "healthy": True,
        "cordoned": False,
        "run_id": None,
    }
    return tuple(
        GpuView(
            uuid=f"gpu-{index}",
            model=model,
            min_cap_w=min_cap_w,
            max_cap_w=max_cap_w,
            idle_w=idle_w,
            **(fields | more),
        )
        for index in range(first, first + count)
    )


def tree(
    gpu_count: int = 4, *, nodes: int = 1, base_load_w: float = 0.0, limit_w: float | None = None
) -> PowerTree:
    """`site` over `node-0` ..., the GPUs dealt to the nodes in equal runs; the base load is per node."""
    per_node = -(-gpu_count // nodes)
    site = Domain(name="site") if limit_w is None else Domain(name="site", limit_w=limit_w)
    leaves = [
        Domain(
            name=f"node-{node}",
            parent="site",
            base_load_w=base_load_w,
            gpu_uuids=tuple(
                f"gpu-{index}" for index in range(node * per_node, min((node + 1) * per_node, gpu_count))
            ),
        )
        for node in range(nodes)
    ]
    return PowerTree.of([site, *leaves])


def view(what: Job, *, curve: CapCurve | None = None, **more: Any) -> JobView:
    """The job as the decision sees it: value by its priority class, the A40's prior curve, floor by flex."""
    spec = what.spec
    fields: dict[str, Any] = {
        "floor_share": 1.0 - spec.contract.flex.share,
        "value_per_gpu_h": VALUES[spec.priority],
        "priority_rank": RANKS[spec.priority],
        "restart_cost_s": 60.0,
        "frozen": what.state is JobState.PAUSED and what.run is not None,
        "remaining_s": spec.estimate_s,
    }
    default = prior("NVIDIA A40", min_cap_w=100.0, max_cap_w=300.0, workload=spec.workload)
    return JobView(job=what, curve=curve or default, **(fields | more))


def snapshot(
    hardware: tuple[GpuView, ...],
    *jobs: Job | JobView,
    limit_w: float | None = None,
    limits_w: dict[str, float] | None = None,
    nodes: int = 1,
    base_load_w: float = 0.0,
    price: float | None = 50.0,
    power_tree: PowerTree | None = None,
    **more: Any,
) -> Snapshot:
    """GPUs, jobs and a site limit. GPUs under a job are marked held and count at its run's cap."""
    views = tuple(item if isinstance(item, JobView) else view(item) for item in jobs)
    shape = power_tree or tree(len(hardware), nodes=nodes, base_load_w=base_load_w)
    limits = shape.limits_at(NOW)
    limits |= {shape.root: limit_w} if limit_w is not None else {}
    fields: dict[str, Any] = {
        "cycle": 1,
        "now": NOW,
        "carbon_g_per_kwh": None,
        "carbon_cost_per_tonne": 0.0,
        "prices": Series(),
    }
    return Snapshot.of(
        tree=shape,
        limits_w=limits | (limits_w or {}),
        gpus=tuple(_under(views, gpu) for gpu in hardware),
        jobs=views,
        price_per_mwh=price,
        **(fields | more),
    )


def _under(views: tuple[JobView, ...], gpu: GpuView) -> GpuView:
    for item in views:
        run = item.job.run
        if run is not None and gpu.uuid in run.gpu_uuids:
            cap_w = run.cap_w if gpu.settable else gpu.max_cap_w
            counted_w = cap_w if gpu.healthy else gpu.max_cap_w
            return replace(
                gpu, run_id=run.id, confirmed_cap_w=cap_w, accounted_w=counted_w, draw_w=min(cap_w, 200.0)
            )
    return gpu

"""Worlds of every kind for properties: odd GPUs, jobs in all states, deep trees, and decisions gone wild."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from power.budget import Domain, PowerTree
from scheduler.decision import Decision, JobCap, Pause, Preempt, Resume, Start
from scheduler.model import Condition, Job, JobState
from scheduler.snapshot import GpuView, JobView, Snapshot
from tests.builders import frozen, gpus, job, running, snapshot, view


@st.composite
def trees(draw: st.DrawFn, count: int) -> PowerTree:
    """Site over rooms over nodes, GPUs dealt at random; two or three levels deep."""
    rooms = draw(st.integers(1, 2))
    nodes = draw(st.integers(1, 3))
    homes = [draw(st.integers(0, nodes - 1)) for _ in range(count)]
    deep = draw(st.booleans())
    domains = [Domain(name="site", base_load_w=draw(st.sampled_from((0.0, 120.0))))]
    if deep:
        domains += [Domain(name=f"room-{r}", parent="site") for r in range(rooms)]
    for n in range(nodes):
        parent = f"room-{draw(st.integers(0, rooms - 1))}" if deep else "site"
        uuids = tuple(f"gpu-{i}" for i, home in enumerate(homes) if home == n)
        base_w = draw(st.sampled_from((0.0, 50.0)))
        domains.append(Domain(name=f"node-{n}", parent=parent, base_load_w=base_w, gpu_uuids=uuids))
    return PowerTree.of(domains)


@st.composite
def hardware(draw: st.DrawFn, count: int) -> tuple[GpuView, ...]:
    """Mostly sound GPUs; some unsettable, unhealthy, cordoned, foreign, or not proven empty."""
    found: list[GpuView] = []
    for index in range(count):
        odd: dict[str, Any] = draw(
            st.sampled_from(
                [{}] * 6
                + [
                    {"settable": False},
                    {"healthy": False, "accounted_w": 300.0, "confirmed_cap_w": None},
                    {"cordoned": True},
                    {"foreign": True, "accounted_w": 300.0},
                    {"accounted_w": 300.0, "draw_w": 150.0},
                    {"accounted_w": 230.0},  # promised to a start
                ]
            )
        )
        model = draw(st.sampled_from(["NVIDIA A40", "NVIDIA A40", "Tesla V100"]))
        top_w = 300.0 if "A40" in model else 250.0
        found += gpus(1, first=index, model=model, max_cap_w=top_w, **(odd | _within(odd, top_w)))
    return tuple(found)


def _within(odd: dict[str, Any], top_w: float) -> dict[str, Any]:
    return {"accounted_w": min(top_w, odd["accounted_w"])} if "accounted_w" in odd else {}


@st.composite
def jobs_on(draw: st.DrawFn, boards: tuple[GpuView, ...]) -> list[JobView]:
    """Running, frozen, stopping and starting jobs on some GPUs, and a queue."""
    found: list[JobView] = []
    left = [int(g.uuid.removeprefix("gpu-")) for g in boards if not g.foreign]
    for number in range(draw(st.integers(0, 3))):
        width = draw(st.integers(1, 2))
        if len(left) < width:
            break
        held, left = left[:width], left[width:]
        top_w = min(boards[i].max_cap_w for i in held)
        what = draw(plain_jobs(f"job_r{number}", width))
        cap_w = draw(st.sampled_from((100.0, 150.0, 230.0, top_w)))
        state = draw(st.sampled_from([JobState.RUNNING] * 4 + [JobState.STARTING, JobState.STOPPING]))
        if draw(st.booleans()) and state is JobState.RUNNING:
            found.append(_seen(draw, frozen(what, *held, cap_w=cap_w)))
        else:
            minutes = draw(st.sampled_from((0.1, 60.0)))
            found.append(_seen(draw, running(what, *held, cap_w=cap_w, state=state, minutes_ago=minutes)))
    for number in range(draw(st.integers(0, 4))):
        found.append(_seen(draw, draw(plain_jobs(f"job_q{number}", draw(st.sampled_from((1, 1, 2, 3, 4)))))))
    return found


def _seen(draw: st.DrawFn, what: Job) -> JobView:
    rule = draw(st.sampled_from([None, None, None, 0.6]))
    pause = "peak" if what.spec.contract.pausable and draw(st.integers(0, 5)) == 0 else None
    return view(what, rule_cap_share=rule, rule_pause=pause, eligible=draw(st.integers(0, 9)) > 0)


@st.composite
def plain_jobs(draw: st.DrawFn, name: str, width: int) -> Job:
    return job(
        name,
        gpus=width,
        flex=draw(st.sampled_from(("none", "low", "mid", "high"))),
        priority=draw(st.sampled_from(("low", "standard", "high"))),
        pausable=draw(st.booleans()),
        ceiling=draw(st.sampled_from((None, None, 80.0))),
        nodes=2 if width == 2 and draw(st.integers(0, 4)) == 0 else 1,
        gpu_type=draw(st.sampled_from((None, None, None, "a40", "v100"))),
        minutes_ago=draw(st.integers(0, 300)),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    count = draw(st.integers(1, 6))
    shape = draw(trees(count))
    boards = draw(hardware(count))
    limits = {
        name: draw(st.sampled_from((math.inf, 200.0, 450.0, 700.0, 1000.0, 1500.0))) for name in shape.domains
    }
    return snapshot(
        boards,
        *draw(jobs_on(boards)),
        power_tree=shape,
        limits_w=limits,
        price=draw(st.sampled_from((None, -200.0, 40.0, 120.0, 5000.0))),
    )


@st.composite
def wild_decisions(draw: st.DrawFn, world: Snapshot) -> Decision:
    """Any nonsense: unknown jobs and GPUs, GPUs twice, absurd caps."""
    names = [*(v.job.id for v in world.jobs), "job_unknown"]
    uuids = [*(g.uuid for g in world.gpus), "gpu-unknown"]
    caps = st.sampled_from((100.0, 180.0, 250.0, 300.0, 301.0, -5.0, math.nan, math.inf, 1e308))
    ids = st.sampled_from(names)
    placed = st.tuples(ids, st.lists(st.sampled_from(uuids), max_size=4), caps)
    capped = st.tuples(ids, caps, st.sampled_from(list(Condition)))

    def some(what: st.SearchStrategy[Any], most: int = 4) -> list[Any]:
        return draw(st.lists(what, max_size=most))

    return Decision(
        starts=tuple(Start(job_id=i, gpu_uuids=tuple(u), cap_w=c) for i, u, c in some(placed, 6)),
        pauses=tuple(Pause(job_id=i, cause="c") for i in some(ids)),
        preempts=tuple(Preempt(job_id=i, cause="c") for i in some(ids)),
        resumes=tuple(Resume(job_id=i, cap_w=c) for i, c in some(st.tuples(ids, caps))),
        caps=tuple(JobCap(job_id=i, cap_w=c, condition=k, cause="c") for i, c, k in some(capped, 6)),
    )

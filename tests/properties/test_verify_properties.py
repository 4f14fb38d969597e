"""Whoever decided what: nothing that passes can take a domain over its limit, in the worst case."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from power.budget import PowerTree
from scheduler.decision import Decision, JobCap, Resume, Start
from scheduler.decision_tables import CapTable
from scheduler.model import Condition
from scheduler.snapshot import GpuView, Snapshot
from scheduler.verify import verify
from tests.builders import gpus, job, running, snapshot
from tests.properties.worlds import snapshots, wild_decisions

COMMON = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
FITS_W = 1e-3


@st.composite
def blind_worlds(draw: st.DrawFn) -> Snapshot:
    """As any other, with overhead at the root, GPUs that are not in the picture, and some that are kept."""
    world = draw(snapshots())
    tree = _with_pue(world.tree, draw(st.sampled_from((1.0, 1.0, 1.3))))
    heirs = st.sampled_from([None, None, *world.jobs.ids])
    seen = [replace(gpu, reserved_for=draw(heirs)) for gpu in world.gpus if draw(st.integers(0, 9)) > 0]
    return replace(world, tree=tree).but(gpus=seen)


def _with_pue(tree: PowerTree, pue: float) -> PowerTree:
    root = replace(tree.domains[tree.root], pue=pue)
    return PowerTree(dict(tree.domains) | {tree.root: root})


def loads_w(world: Snapshot, kept: Decision | None = None) -> dict[str, float]:
    """Worst case per GPU, counted without the code under test; a GPU out of the picture may draw anything."""
    seen = {gpu.uuid: gpu for gpu in world.gpus}
    loads = {uuid: seen[uuid].accounted_w if uuid in seen else math.inf for uuid in world.tree.gpu_uuids()}
    parts: list[Start | Resume | JobCap] = [] if kept is None else [*kept.starts, *kept.resumes, *kept.caps]
    for part in parts:
        for gpu in _loaded_by(part, seen, world):
            most_w = part.cap_w if gpu.settable else gpu.max_cap_w
            loads[gpu.uuid] = max(loads[gpu.uuid], most_w)
    return loads


def _loaded_by(part: Start | Resume | JobCap, seen: dict[str, GpuView], world: Snapshot) -> list[GpuView]:
    if isinstance(part, Start):
        return [seen[uuid] for uuid in part.gpu_uuids]
    run = world.job(part.job_id).job.run
    assert run is not None
    own = [seen[uuid] for uuid in run.gpu_uuids if uuid in seen]
    return [gpu for gpu in own if gpu.settable] if isinstance(part, JobCap) else own


def check_limits(world: Snapshot, kept: Decision) -> None:
    before, after = world.tree.usage_w(loads_w(world)), world.tree.usage_w(loads_w(world, kept))
    for domain, limit_w in world.limits_w.items():
        assert after[domain] <= max(limit_w, before[domain]) + FITS_W, domain


@COMMON
@given(st.data())
def test_no_domain_is_exceeded_whoever_decided(data: st.DataObject) -> None:
    world = data.draw(blind_worlds())
    decision = data.draw(wild_decisions(world))
    kept, refused = verify(decision, world)
    check_limits(world, kept)
    parts = ("starts", "pauses", "resumes", "preempts", "caps")
    asked = sum(len(getattr(decision, name)) for name in parts)
    assert asked == sum(len(getattr(kept, name)) for name in parts) + len(refused)
    assert all(refusal.reason for refusal in refused)
    assert sum(refused.per_action().values()) == len(refused)
    for start in kept.starts:
        assert {world.gpu(uuid).reserved_for for uuid in start.gpu_uuids} <= {None, start.job_id}


@COMMON
@given(st.data())
def test_a_table_of_caps_is_judged_as_single_caps_are(data: st.DataObject) -> None:
    world = data.draw(blind_worlds())
    caps = [cap for cap in data.draw(wild_decisions(world)).caps if cap.job_id in world.jobs.row_of]
    table = CapTable.of(world.jobs.ids, caps)
    one_by_one, refused = verify(Decision(caps=tuple(caps)), world)
    at_once, refused_at_once = verify(Decision(caps=table), world)
    assert list(at_once.caps) == list(one_by_one.caps)
    assert [r.reason for r in refused_at_once] == [r.reason for r in refused]


@COMMON
@given(st.data())
def test_raises_are_dropped_for_watts_only_where_not_all_fit(data: st.DataObject) -> None:
    world = data.draw(blind_worlds())
    caps = data.draw(wild_decisions(world)).caps
    kept, refused = verify(Decision(caps=caps), world)
    short = [refusal.part for refusal in refused if "confirmed free" in refusal.reason]
    wanted = [part for part in short if isinstance(part, JobCap)]
    every = world.tree.usage_w(loads_w(world, replace(kept, caps=(*kept.caps, *wanted))))
    over = any(not watts <= world.limits_w[name] for name, watts in every.items())
    assert over or not wanted


@given(st.permutations(range(6)), st.integers(0, 6))
def test_the_most_important_and_the_oldest_are_raised_first(order: list[int], room: int) -> None:
    """Six jobs of one GPU at 200 W; there is room to raise `room` of them to 300 W."""
    ranks = ("high", "high", "standard", "standard", "low", "low")
    jobs = [job(f"job_{i}", priority=ranks[i], minutes_ago=60 - i, flex="high") for i in range(6)]
    on_boards = [running(jobs[i], place, cap_w=200.0) for place, i in enumerate(order)]
    world = snapshot(gpus(6), *on_boards, limit_w=6 * 200.0 + room * 100.0)
    table = CapTable.of(
        world.jobs.ids,
        [JobCap(job_id=f"job_{i}", cap_w=300.0, condition=Condition.NOMINAL, cause="c") for i in range(6)],
    )
    kept, _ = verify(Decision(caps=table), world)
    assert sorted(cap.job_id for cap in kept.caps) == [f"job_{i}" for i in range(room)]
    assert isinstance(kept.caps, CapTable)
    assert np.all(kept.caps.cap_w == 300.0)

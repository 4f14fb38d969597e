"""Whatever the snapshot and whoever decides: what `verify` passes never exceeds a power domain."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from power.budget import Domain, PowerTree
from scheduler.cap_step import cap_step
from scheduler.decision import Decision, JobCap, Pause, Preempt, Resume, Start
from scheduler.greedy import place_greedily
from scheduler.model import Condition, Job, JobState
from scheduler.place import place
from scheduler.residents import empty_w
from scheduler.snapshot import GpuView, JobView, Snapshot
from scheduler.verify import verify
from tests.builders import frozen, gpus, job, running, snapshot, view

COMMON = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
SLOW = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
FITS_W = 1e-3


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


def loads_after(world: Snapshot, kept: Decision) -> dict[str, float]:
    """Worst case per GPU once `kept` is done, counted without the code under test: nothing ever falls."""
    loads = {gpu.uuid: gpu.accounted_w for gpu in world.gpus}
    limited = {gpu.uuid: gpu for gpu in world.gpus}

    def put(uuids: tuple[str, ...], cap_w: float) -> None:
        for uuid in uuids:
            board = limited[uuid]
            loads[uuid] = max(loads[uuid], cap_w if board.settable else board.max_cap_w)

    for start in kept.starts:
        put(start.gpu_uuids, start.cap_w)
    parts: list[Resume | JobCap] = [*kept.resumes, *kept.caps]
    for part in parts:
        run = world.job(part.job_id).job.run
        assert run is not None
        settable = tuple(u for u in run.gpu_uuids if limited[u].settable or isinstance(part, Resume))
        put(settable, part.cap_w)
    return loads


def check_budget(world: Snapshot, kept: Decision) -> None:
    before = world.tree.usage_w({gpu.uuid: gpu.accounted_w for gpu in world.gpus})
    after = world.tree.usage_w(loads_after(world, kept))
    for domain, limit_w in world.limits_w.items():
        assert after[domain] <= max(limit_w, before[domain]) + FITS_W, domain
        if before[domain] > limit_w + FITS_W:
            under = set(world.tree.gpus_under(domain))
            assert not [s for s in kept.starts if under & set(s.gpu_uuids)], (
                "a start in a domain over its limit"
            )


def check_gangs(world: Snapshot, kept: Decision) -> None:
    taken = [uuid for start in kept.starts for uuid in start.gpu_uuids]
    assert len(taken) == len(set(taken))
    for start in kept.starts:
        asked = world.job(start.job_id)
        assert len(start.gpu_uuids) == asked.job.spec.gpus
        assert asked.eligible
        assert all(world.gpu(uuid).free for uuid in start.gpu_uuids)
        wanted = asked.job.spec.gpu_type or ""
        assert all(wanted in world.gpu(uuid).model.lower() for uuid in start.gpu_uuids)


@COMMON
@given(st.data())
def test_verify_passes_nothing_that_exceeds_a_domain_whoever_decided(data: st.DataObject) -> None:
    world = data.draw(snapshots())
    decision = data.draw(wild_decisions(world))
    kept, refused = verify(decision, world)
    check_budget(world, kept)
    check_gangs(world, kept)
    parts = ("starts", "pauses", "resumes", "preempts", "caps")
    asked = sum(len(getattr(decision, name)) for name in parts)
    assert asked == sum(len(getattr(kept, name)) for name in parts) + len(refused)
    assert all(refusal.reason for refusal in refused)


@SLOW
@given(snapshots())
def test_placement_then_verify_stays_under_every_limit_and_explains_every_wait(world: Snapshot) -> None:
    decision = place(world, time_limit_s=1.0)
    kept, _ = verify(decision, world)
    check_budget(world, kept)
    check_gangs(world, kept)
    queued = {v.job.id for v in world.jobs if v.job.state is JobState.QUEUED and v.eligible}
    told = {wait.job_id: wait for wait in decision.waits}
    assert queued == {s.job_id for s in decision.starts} | set(told)
    assert all(wait.detail for wait in told.values())
    assert decision.certificates[0].bound >= decision.certificates[0].value - 1e-6


@SLOW
@given(snapshots())
def test_what_is_placed_fits_once_the_others_have_made_room(world: Snapshot) -> None:
    """Only watts that are still being freed may hold a proposed start back."""
    decision = place(world, time_limit_s=1.0)
    _, refused = verify(decision, world)
    for refusal in refused:
        assert refusal.action in ("start", "resume"), refusal
        assert "confirmed free" in refusal.reason, refusal


@COMMON
@given(snapshots())
def test_caps_then_verify_stay_under_every_limit(world: Snapshot) -> None:
    decision = cap_step(world)
    kept, refused = verify(decision, world)
    check_budget(world, kept)
    for refusal in refused:
        assert "confirmed free" in refusal.reason, refusal


@COMMON
@given(snapshots())
def test_caps_settle_under_every_limit_that_least_caps_can_meet(world: Snapshot) -> None:
    """After the lowerings are confirmed, only a domain that is named as short is over its limit."""
    decision = cap_step(world)
    lowered = {part.job_id: part.cap_w for part in decision.caps}
    # Watts that are only promised to a start that waits for room are not a load.
    loads = {g.uuid: empty_w(g) if g.run_id is None else g.accounted_w for g in world.gpus}
    for item in world.jobs:
        if item.job.run is not None and item.job.id in lowered:
            steered = [u for u in item.job.run.gpu_uuids if world.gpu(u).settable and world.gpu(u).healthy]
            loads |= dict.fromkeys(steered, lowered[item.job.id])
    used = world.tree.usage_w(loads)
    for domain, limit_w in world.limits_w.items():
        if used[domain] > limit_w + FITS_W:
            short = any(note.startswith(f"{domain} lacks") for note in decision.notes)
            idle = all(world.gpu(u).run_id is None for u in world.tree.gpus_under(domain))
            # Jobs that leave already take their watts with them: stopping more would be too much.
            leaving = any(i.job.state in (JobState.STOPPING, JobState.PAUSING) for i in world.jobs)
            assert short or idle or leaving or decision.pauses or decision.preempts


@COMMON
@given(snapshots())
def test_greedy_never_claims_more_than_its_bound_and_keeps_every_limit(world: Snapshot) -> None:
    decision = place_greedily(world)
    certificate = decision.certificates[0]
    assert certificate.fallback == "greedy"
    assert certificate.bound >= certificate.value - 1e-9
    kept, _ = verify(decision, world)
    check_budget(world, kept)
    check_gangs(world, kept)


@SLOW
@given(snapshots())
def test_the_solver_is_never_worse_than_greedy(world: Snapshot) -> None:
    joint, greedy = place(world, time_limit_s=2.0), place_greedily(world)
    ties = 1e-2 * (1 + len(world.jobs))
    assert joint.certificates[0].value >= greedy.certificates[0].value - ties


@SLOW
@given(snapshots(), st.sampled_from((-500.0, 60.0)))
def test_a_price_never_makes_room_in_a_budget(world: Snapshot, price: float) -> None:
    priced = replace(world, price_per_mwh=price)
    for decision in (place(priced, time_limit_s=1.0), cap_step(priced)):
        kept, _ = verify(decision, priced)
        check_budget(priced, kept)

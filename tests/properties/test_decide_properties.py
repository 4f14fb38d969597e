"""Whatever the snapshot and whoever decides: what `verify` passes never exceeds a power domain."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.cap_step import cap_step
from scheduler.decision import Decision, JobCap, Resume
from scheduler.model import JobState
from scheduler.place import place
from scheduler.placing.fallback import place_greedily
from scheduler.snapshot import GpuView, Snapshot
from scheduler.verify import verify
from tests.properties.worlds import snapshots, wild_decisions

COMMON = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
SLOW = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
FITS_W = 1e-3


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


def at_rest_w(gpu: GpuView) -> float:
    """What a GPU without a run draws, whatever is promised to a start on it."""
    at_rest = gpu.healthy and not gpu.foreign and gpu.draw_w is not None and gpu.draw_w <= gpu.idle_w
    return min(gpu.idle_w, gpu.accounted_w) if at_rest else gpu.accounted_w


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
    """Only watts and GPUs that are still being freed may hold a proposed start back."""
    decision = place(world, time_limit_s=1.0)
    _, refused = verify(decision, world)
    for refusal in refused:
        assert refusal.action in ("start", "resume"), refusal
        assert "confirmed free" in refusal.reason or "comes free when" in refusal.reason, refusal


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
    loads = {g.uuid: at_rest_w(g) if g.run_id is None else g.accounted_w for g in world.gpus}
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

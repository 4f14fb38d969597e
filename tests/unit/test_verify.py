"""The second opinion, rule by rule."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from power.budget import Domain, PowerTree
from scheduler.decision import Decision, JobCap, Pause, Preempt, Resume, Start, Wait
from scheduler.model import Condition, WaitReason
from scheduler.snapshot import Snapshot
from scheduler.verify import verify
from tests.builders import frozen, gpus, job, running, snapshot, view


def start(job_id: str, *indices: int, cap_w: float = 300.0) -> Start:
    return Start(job_id=job_id, gpu_uuids=tuple(f"gpu-{i}" for i in indices), cap_w=cap_w)


def cap(job_id: str, cap_w: float, condition: Condition = Condition.CAPPED_BUDGET) -> JobCap:
    return JobCap(job_id=job_id, cap_w=cap_w, condition=condition, cause="test")


def reasons(world: Snapshot, **parts: Any) -> list[str]:
    return [r.reason for r in verify(Decision(**parts), world)[1]]


EMPTY = snapshot(gpus(2), job("a"), job("b", gpus=2))


@pytest.mark.parametrize(
    ("world", "proposed", "reason"),
    [
        (EMPTY, start("x", 0), "there is no such job any more"),
        (EMPTY, start("a", 0, 1), "it needs 1 GPUs, got 2"),
        (EMPTY, start("b", 0, 0), "the same GPU twice"),
        (EMPTY, start("a", 7), "GPU gpu-7 is not known"),
        (EMPTY, start("a", 0, cap_w=math.nan), "a cap of nan W is no cap"),
        (EMPTY, start("a", 0, cap_w=301.0), "301 W is outside 100..300 W of GPU gpu-0"),
        (EMPTY, start("a", 0, cap_w=150.0), "150 W leave it 88% of its speed, its contract 100%"),
        (snapshot(gpus(1), running(job("a"))), start("a", 0), "it is RUNNING and cannot start"),
        (snapshot(gpus(1), view(job("a"), eligible=False)), start("a", 0), "it is held back"),
        (snapshot(gpus(1, cordoned=True), job("a")), start("a", 0), "GPU gpu-0 is not free any more"),
        (snapshot(gpus(2), running(job("r")), job("a")), start("a", 0), "GPU gpu-0 is not free any more"),
        (snapshot(gpus(1), job("a", gpu_type="h100")), start("a", 0), "GPU gpu-0 is NVIDIA A40, not h100"),
        (
            snapshot(gpus(4), job("a", gpus=2, nodes=2), nodes=2),
            start("a", 0, 1),
            "its GPUs are not spread over 2 nodes",
        ),
        (
            snapshot(gpus(1), job("a", ceiling=80.0), price=81.0),
            start("a", 0),
            "the price is now 81.00/MWh, above 80.00/MWh",
        ),
        (
            snapshot(gpus(2), job("a"), limit_w=344.0),
            start("a", 0),
            "site has 254 W confirmed free, 1 W too few for it",
        ),
    ],
)
def test_a_start_is_refused(world: Snapshot, proposed: Start, reason: str) -> None:
    assert reasons(world, starts=(proposed,)) == [reason]


def test_a_start_that_fits_to_the_watt_passes() -> None:
    assert reasons(snapshot(gpus(2), job("a"), limit_w=345.0), starts=(start("a", 0),)) == []


def test_a_refused_start_leaves_a_reason_to_wait() -> None:
    world = snapshot(gpus(2), job("a"), limit_w=100.0)
    kept, refused = verify(Decision(starts=(start("a", 0),)), world)
    assert [(w.job_id, w.reason) for w in kept.waits] == [("a", WaitReason.POWER)]
    assert refused[0].part == start("a", 0)


def test_of_two_that_want_the_same_the_more_important_one_gets_it() -> None:
    world = snapshot(gpus(1), job("low", priority="low"), job("high", priority="high"))
    kept, refused = verify(Decision(starts=(start("low", 0), start("high", 0))), world)
    assert [s.job_id for s in kept.starts] == ["high"]
    assert refused[0].reason == "GPU gpu-0 went to a more important job"


def test_a_raise_cannot_use_watts_that_are_only_being_lowered() -> None:
    world = snapshot(
        gpus(2),
        running(job("a", flex="high"), 0),
        running(job("b", flex="high"), 1, cap_w=200.0),
        limit_w=500.0,
    )
    kept, refused = verify(Decision(caps=(cap("a", 200.0), cap("b", 300.0))), world)
    assert [c.job_id for c in kept.caps] == ["a"]
    assert refused[0].reason == "site has 0 W confirmed free, 100 W too few for it"


def test_a_lowering_passes_in_a_domain_over_its_limit_and_a_raise_does_not() -> None:
    world = snapshot(
        gpus(2),
        running(job("a", flex="high"), 0),
        running(job("b", flex="high"), 1, cap_w=200.0),
        limit_w=300.0,
    )
    kept, _ = verify(Decision(caps=(cap("a", 150.0), cap("b", 210.0))), world)
    assert [c.job_id for c in kept.caps] == ["a"]


def test_a_raise_back_to_a_cap_that_has_not_settled_is_refused_over_the_limit() -> None:
    """Confirmed at 200 W but still counted at 300 W: a raise would undo the cut."""
    world = snapshot(gpus(1), running(job("a", flex="high"), cap_w=200.0), limit_w=250.0)
    world = world.but(gpus=tuple(replace(gpu, accounted_w=300.0) for gpu in world.gpus))
    assert reasons(world, caps=(cap("a", 280.0),)) == ["site has 0 W confirmed free, 50 W too few for it"]


def test_a_contract_is_broken_only_in_an_emergency() -> None:
    world = snapshot(gpus(1), running(job("a")))
    assert reasons(world, caps=(cap("a", 120.0),)) == ["120 W leave it 61% of its speed, its contract 100%"]
    assert reasons(world, caps=(cap("a", 120.0, Condition.EMERGENCY),)) == []


@pytest.mark.parametrize(
    ("world", "part", "reason"),
    [
        (
            snapshot(gpus(1), running(job("a"))),
            Pause(job_id="a", cause="c"),
            "its contract does not allow pauses",
        ),
        (
            snapshot(gpus(1), job("a", pausable=True)),
            Pause(job_id="a", cause="c"),
            "it is QUEUED, not running",
        ),
        (snapshot(gpus(1), job("a")), Preempt(job_id="a", cause="c"), "it is QUEUED, on no GPU"),
        (snapshot(gpus(1), running(job("a"))), Resume(job_id="a", cap_w=300.0), "it is RUNNING, not frozen"),
        (
            snapshot(gpus(1), frozen(job("a", pausable=True)), limit_w=200.0),
            Resume(job_id="a", cap_w=300.0),
            "site has 100 W confirmed free, 100 W too few for it",
        ),
    ],
)
def test_other_parts_are_refused(world: Snapshot, part: Pause | Preempt | Resume, reason: str) -> None:
    field = {Pause: "pauses", Preempt: "preempts", Resume: "resumes"}[type(part)]
    assert reasons(world, **{field: (part,)}) == [reason]


def test_a_gpu_that_the_snapshot_does_not_show_could_draw_anything() -> None:
    world = snapshot(gpus(2), job("a"), power_tree=snapshot(gpus(3)).tree, limit_w=10_000.0)
    assert reasons(world, starts=(start("a", 0),)) == ["node-0 has 0 W confirmed free, inf W too few for it"]


def test_the_same_action_twice_is_done_once() -> None:
    world = snapshot(gpus(2), job("a"))
    kept, refused = verify(Decision(starts=(start("a", 0), start("a", 1))), world)
    assert len(kept.starts) == 1
    assert refused[0].reason == "the decision asks twice for a start of this job"


KEPT = snapshot(gpus(2, reserved_for="a"), view(job("a"), eligible=False), job("b"))


def test_a_gpu_that_is_kept_goes_to_nobody_else() -> None:
    assert reasons(KEPT, starts=(start("b", 0),)) == ["GPU gpu-0 is kept for job a"]


def test_who_has_its_gpus_kept_may_start_on_them_alone() -> None:
    assert reasons(KEPT, starts=(start("a", 1),)) == []
    free = KEPT.but(gpus=[replace(gpu, reserved_for=None) for gpu in KEPT.gpus])
    assert reasons(free, starts=(start("a", 1),)) == ["it is held back"]


def test_a_limit_is_the_meters_and_overhead_comes_off_it() -> None:
    world = snapshot(gpus(1), job("a"), limit_w=390.0, base_load_w=10.0)
    metered = replace(world, tree=PowerTree({n: _with_pue(d, 1.3) for n, d in world.tree.domains.items()}))
    assert reasons(world, starts=(start("a", 0),)) == []
    assert reasons(metered, starts=(start("a", 0),)) == ["site has 245 W confirmed free, 10 W too few for it"]


def _with_pue(domain: Domain, pue: float) -> Domain:
    return domain if domain.parent is not None else replace(domain, pue=pue)


def test_raises_are_cut_deepest_domain_first_and_what_that_frees_goes_to_others() -> None:
    """node-0 has watts for one raise of two, the site for two of three: the third GPU is on node-1."""
    jobs = [running(job(f"job_{i}", flex="high", minutes_ago=9 - i), i, cap_w=200.0) for i in range(3)]
    world = snapshot(gpus(4), *jobs, nodes=2, limits_w={"node-0": 500.0, "site": 3 * 200.0 + 45.0 + 200.0})
    kept, refused = verify(Decision(caps=tuple(cap(f"job_{i}", 300.0) for i in range(3))), world)
    assert [part.job_id for part in kept.caps] == ["job_0", "job_2"]
    assert [r.reason for r in refused] == ["node-0 has 0 W confirmed free, 100 W too few for it"]
    assert refused.per_action() == {"cap": 1}


def test_long_tables_of_waits_are_passed_on_as_they_are() -> None:
    waits = (Wait(job_id="a", reason=WaitReason.GPUS, detail="d"),)
    assert verify(Decision(waits=waits), EMPTY)[0].waits is waits


def test_a_gpu_that_is_being_left_is_named_with_who_leaves_it() -> None:
    world = snapshot(gpus(1), running(job("old", priority="low")), job("a"))
    decision = Decision(starts=(start("a", 0),), preempts=(Preempt(job_id="old", cause="c"),))
    kept, _ = verify(decision, world)
    assert [w.detail for w in kept.waits] == ["GPU gpu-0 comes free when job old has stopped"]
    assert [p.job_id for p in kept.preempts] == ["old"]


def test_of_many_starts_each_that_waits_for_gpus_is_told_for_which() -> None:
    old, young = running(job("old", gpus=2, priority="low"), 0, 1), running(job("young"), 2)
    waiting = (job("a", gpus=2), job("b", priority="high"), job("c"), job("d"))
    world = snapshot(gpus(6), old, young, *waiting)
    asked = (start("a", 5, 0), start("b", 1), start("c", 2), start("d", 4), start("x", 3))
    stop = Preempt(job_id="old", cause="c")
    kept, refused = verify(Decision(starts=asked, preempts=(stop,)), world)
    assert [s.job_id for s in kept.starts] == ["d"]
    assert [(r.job_id, r.reason, r.part) for r in refused] == [
        ("b", "GPU gpu-1 comes free when job old has stopped", asked[1]),
        ("a", "GPU gpu-0 comes free when job old has stopped", asked[0]),
        ("c", "GPU gpu-2 is not free any more", asked[2]),
        ("x", "there is no such job any more", asked[4]),
    ]
    assert [(w.job_id, w.reason) for w in kept.waits] == [(name, WaitReason.GPUS) for name in "bac"]
    assert (len(refused), refused.per_action()) == (4, {"start": 4})


def test_where_watts_are_short_the_most_important_starts_keep_their_place() -> None:
    names = ("old", "new", "low")
    waiting = (
        job("low", priority="low", minutes_ago=90),
        job("new", minutes_ago=1),
        job("old", minutes_ago=60),
    )
    world = snapshot(gpus(4), *waiting, limit_w=4 * 45.0 + 2 * 255.0)
    asked = Decision(
        starts=tuple(Start(job_id=n, gpu_uuids=(f"gpu-{i}",), cap_w=300.0) for i, n in enumerate(names))
    )
    kept, refused = verify(asked, world)
    assert [start.job_id for start in kept.starts] == ["old", "new"]
    assert [(r.job_id, r.waits_for) for r in refused] == [("low", WaitReason.POWER)]
    assert "site has 0 W confirmed free, 255 W too few" in refused[0].reason


def test_a_gang_on_several_nodes_must_be_spread_evenly() -> None:
    world = snapshot(gpus(8), job("even", gpus=4, nodes=2), job("uneven", gpus=4, nodes=2), nodes=2)
    even = Start(job_id="even", gpu_uuids=("gpu-0", "gpu-1", "gpu-4", "gpu-5"), cap_w=300.0)
    uneven = Start(job_id="uneven", gpu_uuids=("gpu-2", "gpu-3", "gpu-6"), cap_w=300.0)
    crooked = Start(job_id="uneven", gpu_uuids=("gpu-2", "gpu-3", "gpu-6", "gpu-0"), cap_w=300.0)
    assert [s.job_id for s in verify(Decision(starts=(even, uneven)), world)[0].starts] == ["even"]
    assert verify(Decision(starts=(crooked,)), world)[0].starts == ()

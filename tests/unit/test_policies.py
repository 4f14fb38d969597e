"""Who starts under the queueing policies: order, backfill, nodes, watts. Sites are drawn, starts expected."""

from __future__ import annotations

import math
from typing import Any

import pytest

from scheduler.decision import Decision
from scheduler.model import Condition, Job, JobState
from scheduler.policy.named import open_policy
from scheduler.snapshot import JobView, Snapshot
from scheduler.verify import verify
from tests.builders import frozen, gpus, job, running, snapshot, view

HOUR_S = 3600.0


def place(name: str, world: Snapshot) -> Decision:
    """What the policy proposes; none of its starts may be refused."""
    proposal = open_policy(name).place(world, time_limit_s=1.0)
    kept, _ = verify(proposal, world)
    assert kept.starts == proposal.starts
    return proposal


def started(name: str, world: Snapshot) -> list[str]:
    return [start.job_id for start in place(name, world).starts]


def runs(name: str, *indices: int, left_h: float | None = None, cap_w: float = 300.0, **more: Any) -> JobView:
    """Running on these GPUs; its owner's guess leaves it so many hours."""
    what = running(job(name, gpus=len(indices), **more), *indices, cap_w=cap_w)
    return view(what, remaining_s=None if left_h is None else left_h * HOUR_S)


def waits(name: str, wide: int, *, lasts_h: float | None = None, **more: Any) -> Job:
    return job(name, gpus=wide, estimate_s=None if lasts_h is None else lasts_h * HOUR_S, **more)


# --- order --------------------------------------------------------------------------------------------------

OLD, NEW = {"minutes_ago": 60.0}, {"minutes_ago": 5.0}
BUSY = runs("busy", 0, 1, left_h=2.0)  # two of four GPUs


@pytest.mark.parametrize(
    ("queue", "fifo", "backfill"),
    [
        # Everybody fits: everybody starts, the oldest first.
        ([waits("b", 1, **NEW), waits("a", 1, **OLD)], ["a", "b"], ["a", "b"]),
        # A higher class goes before an older job.
        ([waits("a", 2, **OLD), waits("b", 2, priority="high", **NEW)], ["b"], ["b"]),
        # The head needs all four GPUs: strict order waits; a job that ends before `busy` may pass.
        ([waits("head", 4, **OLD), waits("short", 2, lasts_h=2.0, **NEW)], [], ["short"]),
        # One that ends later would delay the head: all four GPUs are the head's.
        ([waits("head", 4, **OLD), waits("long", 1, lasts_h=2.1, **NEW)], [], []),
        # One GPU is more than the head needs in two hours: a long job may have that one, no second.
        (
            [waits("head", 3, **OLD), waits("long", 1, lasts_h=99.0, **NEW), waits("more", 1, lasts_h=99.0)],
            [],
            ["long"],
        ),
        # A job of unknown length counts as one that never ends.
        ([waits("head", 4, **OLD), waits("unknown", 1, **NEW)], [], []),
        ([waits("head", 3, **OLD), waits("unknown", 1, **NEW)], [], ["unknown"]),
        # Short ones do not use up what long ones may have: they are gone by then.
        (
            [
                waits("head", 3, **OLD),
                waits("short", 1, lasts_h=1.0, minutes_ago=10.0),
                waits("long", 1, lasts_h=9.0, **NEW),
            ],
            [],
            ["short", "long"],
        ),
        # What can never run here holds nobody up.
        ([waits("giant", 5, **OLD), waits("a", 2, **NEW)], ["a"], ["a"]),
        ([waits("stranger", 1, gpu_type="H100", **OLD), waits("a", 2, **NEW)], ["a"], ["a"]),
    ],
)
def test_who_starts_beside_a_job_with_two_hours_left(
    queue: list[Job], fifo: list[str], backfill: list[str]
) -> None:
    world = snapshot(gpus(4), BUSY, *queue)
    assert started("fifo", world) == fifo
    assert started("backfill", world) == backfill


def test_where_nobody_knows_when_the_head_may_start_only_jobs_of_known_length_pass() -> None:
    world = snapshot(
        gpus(4),
        runs("busy", 0, 1),
        waits("head", 4, **OLD),
        waits("known", 1, lasts_h=50.0),
        waits("unknown", 1),
    )
    assert started("backfill", world) == ["known"]


def test_a_frozen_job_never_ends_and_a_stopping_one_is_as_good_as_gone() -> None:
    head, long = waits("head", 3, **OLD), waits("long", 1, lasts_h=9.0, **NEW)
    still = view(frozen(job("still", gpus=2), 0, 1), remaining_s=60.0)
    assert started("backfill", snapshot(gpus(4), still, head, waits("unknown", 1))) == []
    leaving = view(running(job("leaving", gpus=2), 0, 1, state=JobState.STOPPING), remaining_s=9 * HOUR_S)
    assert started("backfill", snapshot(gpus(4), leaving, head, long)) == ["long"]


def test_jobs_that_are_held_back_or_too_dear_are_not_in_the_queue() -> None:
    held = view(waits("held", 4, **OLD), eligible=False)
    dear = waits("dear", 4, ceiling=40.0, pausable=True, **OLD)
    world = snapshot(gpus(4), held, dear, waits("a", 1, **NEW), price=50.0)
    assert started("fifo", world) == ["a"]


# --- where --------------------------------------------------------------------------------------------------


def where(name: str, world: Snapshot) -> dict[str, set[str]]:
    return {start.job_id: set(start.gpu_uuids) for start in place(name, world).starts}


def uuids(*indices: int) -> set[str]:
    return {f"gpu-{index}" for index in indices}


def test_a_start_takes_the_fullest_node_so_that_whole_ones_stay_free() -> None:
    world = snapshot(gpus(8), runs("a", 4, 5), waits("b", 2), nodes=2)
    assert where("backfill", world) == {"b": uuids(6, 7)}


def test_a_gang_over_two_nodes_has_equal_parts_on_both() -> None:
    world = snapshot(gpus(12), runs("a", 0, 1, 2), waits("b", 6, nodes=2), nodes=3)
    assert where("backfill", world) == {"b": uuids(4, 5, 6, 8, 9, 10)}


def test_a_gang_larger_than_a_node_takes_whole_nodes_first() -> None:
    world = snapshot(gpus(12), runs("a", 0, 1), waits("b", 6), nodes=3)
    assert where("backfill", world) == {"b": uuids(2, 3, 4, 5, 6, 7)}


def test_a_gang_that_asks_for_one_node_is_not_spread_where_a_node_is_large_enough() -> None:
    world = snapshot(gpus(8), runs("a", 0, left_h=1.0), runs("b", 4, left_h=1.0), waits("c", 4), nodes=2)
    assert where("backfill", world) == {}


def test_the_node_kept_for_the_head_is_left_alone_and_the_others_are_not() -> None:
    """Node 0 is free for the head in an hour, node 1 in five: a long job goes to node 1."""
    world = snapshot(
        gpus(8),
        runs("a", 0, left_h=1.0),
        runs("b", 4, left_h=5.0),
        waits("head", 4, **OLD),
        waits("long", 3, lasts_h=90.0, **NEW),
        nodes=2,
    )
    assert where("backfill", world) == {"long": uuids(5, 6, 7)}


def test_only_the_model_asked_for_and_only_sound_gpus() -> None:
    hardware = (
        *gpus(1, healthy=False),
        *gpus(1, first=1, cordoned=True),
        *gpus(1, first=2, foreign=True),
        *gpus(1, first=3, model="Tesla V100", max_cap_w=250.0),
        *gpus(1, first=4),
    )
    world = snapshot(hardware, waits("v", 1, gpu_type="v100", **OLD), waits("a", 2, **NEW), waits("b", 1))
    assert where("backfill", world) == {"v": uuids(3), "b": uuids(4)}


# --- watts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit_w", "starts"),
    [
        (1200.0, ["a", "b", "c", "d"]),
        (1199.0, ["a", "b", "c"]),  # three at 300 W, one idle at 45 W
        (3 * 300.0 + 45.0, ["a", "b", "c"]),
        (3 * 300.0 + 44.0, ["a", "b"]),
        (180.0, []),
    ],
)
def test_a_start_counts_at_the_boards_maximum_and_waits_for_its_watts(
    limit_w: float, starts: list[str]
) -> None:
    world = snapshot(gpus(4), *(waits(name, 1) for name in "abcd"), limit_w=limit_w)
    assert started("fifo", world) == starts
    assert all(start.cap_w == 300.0 for start in place("fifo", world).starts)


def test_the_head_waits_for_watts_and_nobody_takes_them_for_longer() -> None:
    """The head needs 2 x 300 W of 1000 W while `busy` has 300 W until in an hour; 45 W for each idle GPU."""
    busy = runs("busy", 0, left_h=1.0)
    head, brief, long = waits("head", 3, **OLD), waits("brief", 1, lasts_h=0.9), waits("long", 1, lasts_h=9.0)
    world = snapshot(gpus(4), busy, head, long, brief, limit_w=1000.0)
    assert started("backfill", world) == ["brief"]


def test_a_gang_that_no_budget_of_now_would_carry_holds_nobody_up() -> None:
    world = snapshot(gpus(4), waits("wide", 4, **OLD), waits("a", 1, **NEW), limit_w=800.0)
    assert started("fifo", world) == ["a"]


def test_a_limit_on_one_node_sends_the_start_to_the_other() -> None:
    world = snapshot(gpus(4), waits("a", 2), nodes=2, limits_w={"node-0": 500.0})
    assert where("fifo", world) == {"a": uuids(2, 3)}


# --- caps ---------------------------------------------------------------------------------------------------


def caps(name: str, world: Snapshot) -> dict[str, float]:
    return {cap.job_id: cap.cap_w for cap in open_policy(name).caps(world).caps}


def conditions(name: str, world: Snapshot) -> dict[str, Condition]:
    return {cap.job_id: cap.condition for cap in open_policy(name).caps(world).caps}


FREELY = {"flex": "high"}  # gives half of its speed away


def test_every_board_at_its_maximum() -> None:
    world = snapshot(gpus(4), runs("a", 0, 1, **FREELY), runs("b", 2, **FREELY))
    assert caps("backfill", world) == {"a": 300.0, "b": 300.0}


def test_a_budget_that_fell_lowers_all_under_it_by_one_share() -> None:
    world = snapshot(gpus(4), runs("a", 0, 1, **FREELY), runs("b", 2, **FREELY), limit_w=3 * 200.0 + 45.0)
    assert caps("backfill", world) == pytest.approx({"a": 200.0, "b": 200.0}, abs=0.01)


def test_a_short_node_lowers_its_own_jobs_alone() -> None:
    world = snapshot(
        gpus(4), runs("a", 0, 1, **FREELY), runs("b", 2, **FREELY), nodes=2, limits_w={"node-0": 400.0}
    )
    assert caps("backfill", world) == pytest.approx({"a": 200.0, "b": 300.0}, abs=0.01)


def test_contracts_hold_before_others_and_break_openly_where_all_is_short() -> None:
    strict, freely = runs("strict", 0), runs("freely", 1, **FREELY)
    world = snapshot(gpus(2), strict, freely, limit_w=400.0)
    found = caps("backfill", world)
    assert found["strict"] > found["freely"]
    assert math.isclose(sum(found.values()), 400.0, abs_tol=0.01)
    assert set(conditions("backfill", world).values()) == {Condition.CAPPED_BUDGET}
    short = snapshot(gpus(2), strict, freely, limit_w=250.0)
    assert caps("backfill", short) == pytest.approx({"strict": 125.0, "freely": 125.0}, abs=0.01)
    assert conditions("backfill", short)["strict"] is Condition.EMERGENCY


def test_where_not_even_the_least_caps_fit_somebody_stops_as_in_the_daemon() -> None:
    world = snapshot(gpus(2), runs("a", 0, **FREELY), runs("b", 1, priority="high", **FREELY), limit_w=150.0)
    decision = open_policy("fifo").caps(world)
    assert [preempt.job_id for preempt in decision.preempts] == ["a"]


def test_uniform_cap_is_one_share_for_all_and_for_starts() -> None:
    world = snapshot(gpus(4), runs("a", 0, 1, **FREELY), waits("b", 1, **FREELY))
    assert caps("uniform_cap:share=0.6", world) == {"a": 180.0}
    assert [start.cap_w for start in place("uniform_cap:share=0.6", world).starts] == [180.0]


def test_uniform_cap_without_a_share_is_the_best_for_a_full_site() -> None:
    """800 W over four GPUs are 200 W each, whether they run or not; without a budget there is no cap."""
    lowered = runs("a", 0, 1, cap_w=200.0, **FREELY)
    world = snapshot(gpus(4), lowered, waits("b", 2, **FREELY), limit_w=800.0)
    assert caps("uniform_cap", world) == pytest.approx({"a": 200.0}, abs=0.01)
    (start,) = place("uniform_cap", world).starts
    assert start.cap_w == pytest.approx(200.0, abs=1.0)
    not_yet = snapshot(gpus(4), runs("a", 0, 1, **FREELY), waits("b", 2, **FREELY), limit_w=800.0)
    assert started("uniform_cap", not_yet) == []  # `a` has yet to be lowered from 300 W
    assert caps("uniform_cap", snapshot(gpus(4), runs("a", 0, 1, **FREELY))) == {"a": 300.0}


def test_uniform_cap_gives_a_contract_what_it_needs() -> None:
    world = snapshot(gpus(4), runs("a", 0), waits("b", 1), waits("c", 1, **FREELY))
    found = caps("uniform_cap:share=0.4", world)
    starts = {start.job_id: start.cap_w for start in place("uniform_cap:share=0.4", world).starts}
    assert found["a"] == starts["b"] > starts["c"] == 120.0

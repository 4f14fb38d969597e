"""After few changes a placement looks at a part: jobs drawn on GPUs; `large=1` makes every site count."""

from __future__ import annotations

from dataclasses import replace

from scheduler.decision import Decision
from scheduler.model import Job
from scheduler.place import Placement
from scheduler.placing.focus import FEW_JOBS, IN_A_ROW
from scheduler.snapshot import Snapshot
from tests.builders import gpus, job, running, snapshot


def world(*jobs: Job, count: int = 4, limit_w: float | None = None) -> Snapshot:
    return snapshot(gpus(count), *jobs, limit_w=limit_w)


def scopes(decision: Decision) -> list[bool]:
    return [certificate.scope is not None for certificate in decision.certificates]


def starts(decision: Decision) -> dict[str, int]:
    return {start.job_id: len(start.gpu_uuids) for start in decision.starts}


def placement_after(*looks: Snapshot) -> Placement:
    placement = Placement(large=1)
    for look in looks:
        placement.decide(look, time_limit_s=1.0)
    return placement


def test_the_first_look_is_at_everything() -> None:
    decision = Placement(large=1).decide(world(job("a")), time_limit_s=1.0)
    assert scopes(decision) == [False]
    assert starts(decision) == {"a": 1}


def test_one_arrival_is_placed_among_those_that_stay() -> None:
    stays = running(job("stays", gpus=2), 0, 1)
    placement = placement_after(world(stays))
    decision = placement.decide(world(stays, job("new", gpus=2)), time_limit_s=1.0)
    assert scopes(decision) == [True]
    assert starts(decision) == {"new": 2}
    assert decision.certificates[0].value <= decision.certificates[0].bound


def test_an_arrival_of_higher_class_stops_a_lower_one() -> None:
    low = running(job("low", gpus=4, priority="low"), 0, 1, 2, 3)
    placement = placement_after(world(low))
    decision = placement.decide(world(low, job("new", gpus=4, priority="high")), time_limit_s=1.0)
    assert [(stop.job_id, stop.heir) for stop in decision.preempts] == [("low", "new")]


def test_a_job_that_ends_makes_room_for_one_that_waited() -> None:
    ended, waits = running(job("ended", gpus=4), 0, 1, 2, 3), job("waits", gpus=2, minutes_ago=5)
    placement = placement_after(world(ended, waits))
    decision = placement.decide(world(waits), time_limit_s=1.0)
    assert scopes(decision) == [True]
    assert starts(decision) == {"waits": 2}


def test_without_news_nobody_is_looked_at() -> None:
    look = world(running(job("a", gpus=4), 0, 1, 2, 3), job("b", gpus=4, minutes_ago=5))
    decision = placement_after(look).decide(look, time_limit_s=1.0)
    assert decision.starts == ()
    assert list(decision.waits) == []  # what b was told holds


def test_who_waited_in_another_row_is_no_news() -> None:
    """The row of a job that goes is taken by another."""
    stays, waits = running(job("a", gpus=4), 0, 1, 2, 3), job("b", gpus=4, minutes_ago=5)
    placement = placement_after(world(job("gone", gpus=4), stays, waits))
    decision = placement.decide(world(waits, stays), time_limit_s=1.0)
    assert scopes(decision) == [True]
    assert list(decision.waits) == []


def test_what_it_stopped_itself_is_no_news() -> None:
    low, high = running(job("low", gpus=4, priority="low"), 0, 1, 2, 3), job("high", gpus=4, priority="high")
    placement = placement_after(world(low, high))
    requeued = job("low", gpus=4, priority="low", minutes_ago=60)
    decision = placement.decide(world(requeued, running(high, 0, 1, 2, 3)), time_limit_s=1.0)
    assert list(decision.waits) == []


def test_nothing_starts_on_the_nodes_kept_for_the_head_of_the_queue() -> None:
    shape = {"count": 8}
    ends = running(job("ends", gpus=4, estimate_s=3600.0), 0, 1, 2, 3)
    wide = job("wide", gpus=8, priority="high", minutes_ago=120)
    placement = placement_after(world(ends, wide, **shape))
    long = job("long", gpus=4, estimate_s=86_400.0)
    decision = placement.decide(world(ends, wide, long, **shape), time_limit_s=1.0)
    assert scopes(decision) == [True]
    assert starts(decision) == {}


def test_many_changes_or_a_new_limit_ask_for_everything() -> None:
    before = world(count=64)
    many = world(*(job(f"j{n}") for n in range(FEW_JOBS + 1)), count=64)
    assert scopes(placement_after(before).decide(many, time_limit_s=1.0)) == [False]
    tighter = world(job("a"), count=64, limit_w=10_000.0)
    assert scopes(placement_after(before).decide(tighter, time_limit_s=1.0)) == [False]


def test_everything_is_looked_at_again_after_a_while() -> None:
    look = world(job("a", gpus=4, minutes_ago=5), running(job("b"), 0))
    placement = Placement(large=1)
    whole = [scopes(placement.decide(look, time_limit_s=1.0)) == [False] for _ in range(2 * IN_A_ROW + 3)]
    assert [number for number, is_whole in enumerate(whole) if is_whole] == [
        0,
        IN_A_ROW + 1,
        2 * IN_A_ROW + 2,
    ]


def test_a_small_site_is_always_looked_at_whole() -> None:
    look = world(job("a"))
    placement = Placement()
    placement.decide(look, time_limit_s=1.0)
    assert scopes(placement.decide(replace(look, cycle=2), time_limit_s=1.0)) == [False]

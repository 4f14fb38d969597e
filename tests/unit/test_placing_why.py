"""What a waiting job is told would help: and that it is true, by deciding again with just that changed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from scheduler.decision import Decision
from scheduler.place import place
from scheduler.snapshot import JobView, Snapshot
from tests.builders import RANKS, VALUES, gpus, job, running, snapshot, tree, view


def decide(world: Snapshot) -> Decision:
    return place(world, time_limit_s=5.0)


def detail(world: Snapshot, job_id: str = "a") -> str:
    return next(w.detail for w in decide(world).waits if w.job_id == job_id)


def raised(world: Snapshot, job_id: str, priority: str) -> Snapshot:
    """The same world with the job in another class."""

    def of(one: JobView) -> JobView:
        if one.job.id != job_id:
            return one
        asked = one.job.but(spec=replace(one.job.spec, priority=priority))
        return replace(one, job=asked, priority_rank=RANKS[priority], value_per_gpu_h=VALUES[priority])

    return world.but(jobs=[of(one) for one in world.jobs])


def with_more(world: Snapshot, domain: str, watts: float) -> Snapshot:
    return world.but(limits_w=dict(world.limits_w) | {domain: world.limits_w[domain] + watts})


def starts(world: Snapshot, job_id: str = "a") -> bool:
    return job_id in {s.job_id for s in decide(world).starts}


SHORT_OF_WATTS = {
    "site": snapshot(gpus(4), running(job("r"), 0), job("a"), limit_w=480.0),
    "node-0": snapshot(gpus(2), running(job("r"), 0), job("a"), limits_w={"node-0": 400.0}),
    "with overhead": snapshot(
        gpus(4), running(job("r"), 0), job("a", gpus=2), limits_w={"site": 700.0}, base_load_w=50.0
    ),
}


@pytest.mark.parametrize("case", SHORT_OF_WATTS)
def test_with_the_watts_that_it_lacks_it_starts_and_with_fewer_it_does_not(case: str) -> None:
    world = SHORT_OF_WATTS[case]
    said = re.search(r"would fit with (\d+) W more in ([\w-]+)", detail(world))
    assert said is not None
    watts, domain = float(said[1]), said[2]
    assert starts(with_more(world, domain, watts))
    assert not starts(with_more(world, domain, watts - 2.0))


def test_both_domains_are_named_where_both_lack_watts() -> None:
    world = snapshot(
        gpus(2), running(job("r"), 0), job("a"), limits_w={"node-0": 400.0, "site": 400.0}, base_load_w=0.0
    )
    text = detail(world)
    assert text.endswith("would fit with 60 W more in node-0 and 60 W more in site")


def test_large_figures_are_in_kilowatts_and_rounded_up() -> None:
    world = snapshot(gpus(16), running(job("r"), 0), job("a", gpus=8), limit_w=1200.0)
    assert "would fit with 1.2 kW more in site" in detail(world)


PRIORITIES = {
    "by stopping one that is worth less": (
        snapshot(gpus(1), running(job("r"), 0), job("a"), view(job("h", priority="high"), eligible=False)),
        "high",
    ),
    "not by stopping its equal": (
        snapshot(gpus(1), running(job("r", priority="high"), 0), job("a")),
        None,
    ),
    "the lowest class that is enough": (
        snapshot(
            gpus(2),
            running(job("r", priority="low"), 0),
            running(job("s"), 1),
            job("a", priority="low"),
            view(job("h", priority="high"), eligible=False),
        ),
        "standard",
    ),
    "not a run that is too young": (
        snapshot(
            gpus(1),
            running(job("r"), 0, minutes_ago=0.5),
            job("a"),
            view(job("h", priority="high"), eligible=False),
        ),
        None,
    ),
    "not one whose lost work is worth more": (
        snapshot(
            gpus(1),
            view(running(job("r"), 0, minutes_ago=600), lost_work_s=36_000.0),
            job("a"),
            view(job("h", priority="high"), eligible=False),
        ),
        None,
    ),
    "two of them where it needs two": (
        snapshot(
            gpus(2),
            running(job("r"), 0),
            running(job("s"), 1),
            job("a", gpus=2),
            view(job("h", priority="high"), eligible=False),
        ),
        "high",
    ),
    "not where the others hold another kind of board": (
        snapshot(
            gpus(1) + gpus(1, first=1, model="Tesla V100", max_cap_w=250.0),
            running(job("r", priority="high"), 0),
            running(job("s"), 1),
            job("a", gpu_type="a40"),
        ),
        None,
    ),
    "their watts, where GPUs are free": (
        snapshot(
            gpus(2),
            running(job("r"), 0),
            job("a"),
            view(job("h", priority="high"), eligible=False),
            limits_w={"node-0": 345.0},
        ),
        "high",
    ),
}


@pytest.mark.parametrize("case", PRIORITIES)
def test_a_higher_priority_is_named_where_it_would_start_it_at_once(case: str) -> None:
    world, expected = PRIORITIES[case]
    said = re.search(r"would start now with priority (\w+)", detail(world))
    assert (None if said is None else said[1]) == expected
    if expected is not None:
        decision = decide(raised(world, "a", expected))
        assert "a" in {s.job_id for s in decision.starts}
        assert decision.preempts


def test_no_class_is_named_that_nobody_in_the_picture_has() -> None:
    world = snapshot(gpus(1), running(job("r"), 0), job("a"))
    assert "priority" not in detail(world)


def test_the_fullest_node_is_named_where_gpus_are_scattered() -> None:
    world = snapshot(
        gpus(8),
        *(running(job(f"r{i}"), i) for i in (0, 4, 5)),
        job("a", gpus=4),
        power_tree=tree(8, nodes=2),
    )
    assert detail(world) == "needs 4 GPUs, the fullest node has 3 free of 5 in all"

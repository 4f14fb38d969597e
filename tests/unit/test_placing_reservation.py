"""The head of the queue: what is kept for it, who may use it meanwhile, and that wide gangs do not starve."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from scheduler.model import Job, JobState, Run
from scheduler.placing.build import build_problem
from scheduler.placing.fallback import place_greedily
from scheduler.snapshot import JobView, Snapshot
from tests.builders import NOW, gpus, hours, job, running, snapshot, view


def seat(world: Snapshot) -> tuple[str, list[int], float] | None:
    """(head, pools, hours from now) of the only seat."""
    posed = build_problem(world)
    if not posed.reservation.seats:
        return None
    (one,) = posed.reservation.seats
    head = world.jobs.ids[int(posed.queue.job[one.entry])]
    return head, one.pools.tolist(), (one.start_s - world.now.timestamp()) / 3600.0


def busy(name: str, *indices: int, h: float | None) -> JobView:
    """A running job that has this many hours left at full speed, at its full cap."""
    left_s = None if h is None else h * 3600.0
    return view(running(job(name, gpus=len(indices), estimate_s=left_s), *indices))


HEADS = {
    "the node that is free first": (
        (busy("x", 0, 1, h=5.0), busy("y", 2, 3, h=2.0), job("wide", gpus=2)),
        ("wide", [1], 2.0),
    ),
    "when the last of its jobs has ended": (
        (busy("x", 0, h=1.0), busy("z", 1, h=3.0), busy("y", 2, 3, h=4.0), job("wide", gpus=2)),
        ("wide", [0], 3.0),
    ),
    "both nodes for a gang of both": (
        (busy("x", 0, 1, h=5.0), busy("y", 2, 3, h=2.0), job("wide", gpus=4)),
        ("wide", [0, 1], 5.0),
    ),
    "one GPU on each": (
        (busy("x", 0, 1, h=5.0), busy("y", 2, h=2.0), busy("z", 3, h=9.0), job("wide", gpus=2, nodes=2)),
        ("wide", [0, 1], 5.0),
    ),
    "known ends before unknown ones": (
        (busy("x", 0, 1, h=None), busy("y", 2, 3, h=7.0), job("wide", gpus=2)),
        ("wide", [1], 7.0),
    ),
    "the highest rank, then the oldest": (
        (
            busy("x", 0, 1, 2, 3, h=1.0),
            job("old", gpus=2, minutes_ago=50),
            job("high", gpus=2, priority="high"),
        ),
        ("high", [0], 1.0),
    ),
    "nobody knows, and it has not waited long": ((busy("x", 0, 1, 2, 3, h=None), job("wide", gpus=2)), None),
    "nobody knows, but it has: the emptiest node is drained": (
        (busy("x", 0, h=None), busy("y", 2, 3, h=None), job("wide", gpus=2, minutes_ago=70)),
        ("wide", [0], math.inf),
    ),
    "it fits": ((job("wide", gpus=2, minutes_ago=300),), None),
    "it fits on one last node, and smaller ones would take that": (
        (busy("x", 2, 3, h=1.0), job("wide", gpus=2, minutes_ago=61)),
        ("wide", [0], 0.0),
    ),
    "it can never fit": ((busy("x", 0, h=1.0), job("wide", gpus=9)), None),
}


@pytest.mark.parametrize("case", HEADS)
def test_what_is_kept_for_whom(case: str) -> None:
    jobs, expected = HEADS[case]
    assert seat(snapshot(gpus(4), *jobs, nodes=2)) == expected


def test_only_who_is_gone_by_then_may_use_the_node_meanwhile() -> None:
    world = snapshot(
        gpus(4),
        *(busy("x", 0, 1, h=9.0), busy("y", 2, h=2.0)),
        job("wide", gpus=2, minutes_ago=9),
        job("short", estimate_s=1.9 * 3600.0),
        job("long", estimate_s=2.1 * 3600.0),
        job("unknown"),
        nodes=2,
    )
    decision = place_greedily(world)
    assert [(s.job_id, s.gpu_uuids) for s in decision.starts] == [("short", ("gpu-3",))]
    told = {w.job_id: w.detail for w in decision.waits}
    assert told["wide"] == "needs 2 GPUs, 1 is free; reserved to start about 14:00 UTC when y ends"
    assert told["long"] == "needs 1 GPU, 0 are free after jobs of higher worth or age"


def test_who_must_wait_for_the_head_is_told_for_whom() -> None:
    world = snapshot(
        gpus(2), busy("y", 1, h=2.0), job("wide", gpus=2, minutes_ago=9), job("unknown"), nodes=1
    )
    decision = place_greedily(world)
    assert decision.starts == ()
    told = {w.job_id: w.detail for w in decision.waits}
    assert told["unknown"] == "needs 1 GPU, 0 are free beside the nodes kept for wide"


def test_a_higher_priority_goes_before_the_head() -> None:
    world = snapshot(
        gpus(2), busy("y", 1, h=2.0), job("wide", gpus=2, minutes_ago=9), job("urgent", priority="high")
    )
    assert [s.job_id for s in place_greedily(world).starts] == ["urgent"]


def test_heads_of_different_types_have_their_own_nodes() -> None:
    boards = gpus(2) + gpus(2, first=2, model="Tesla V100", max_cap_w=250.0)
    world = snapshot(
        boards,
        *(busy("x", 0, h=1.0), busy("y", 2, h=3.0)),
        job("a", gpus=2, gpu_type="a40"),
        job("v", gpus=2, gpu_type="v100"),
        nodes=2,
    )
    posed = build_problem(world)
    assert [s.pools.tolist() for s in posed.reservation.seats] == [[0], [1]]


# --- a queue over time, on pure functions alone ---


class Clock:
    """Decides every half hour, greedily; a job runs for its `truth_h`, whatever it said."""

    def __init__(self, truth_h: dict[str, float], jobs: list[Job]) -> None:
        self.truth_h, self.jobs = truth_h, {one.id: one for one in jobs}
        self.started_h: dict[str, float] = {}

    def run(self, until_h: float, *, boards: int, nodes: int) -> dict[str, float]:
        for half in range(int(until_h * 2)):
            now_h = half / 2
            self._end(now_h)
            world = snapshot(
                gpus(boards),
                *(self._seen(one, now_h) for one in self.jobs.values()),
                nodes=nodes,
                now=NOW + hours(now_h),
            )
            for start in place_greedily(world).starts:
                self._start(start.job_id, start.gpu_uuids, now_h)
        return self.started_h

    def _end(self, now_h: float) -> None:
        for name, at_h in self.started_h.items():
            if name in self.jobs and now_h >= at_h + self.truth_h[name]:
                del self.jobs[name]

    def _seen(self, one: Job, now_h: float) -> JobView:
        if one.spec.estimate_s is None:
            return view(one)
        ran_h = now_h - self.started_h.get(one.id, now_h)
        return view(one, remaining_s=max(60.0, one.spec.estimate_s - ran_h * 3600.0))

    def _start(self, name: str, uuids: tuple[str, ...], now_h: float) -> None:
        at = NOW + timedelta(hours=now_h)
        run = Run(id=f"run_{name}", job_id=name, attempt=1, gpu_uuids=uuids, cap_w=300.0, created_at=at)
        self.jobs[name] = self.jobs[name].but(state=JobState.RUNNING, state_since=at, run=run, attempts=1)
        self.started_h[name] = now_h


def small(name: str, *, submitted_h: float, truth_h: float, known: bool) -> Job:
    asked = job(name, estimate_s=truth_h * 3600.0 if known else None)
    return asked.but(submitted_at=NOW + hours(submitted_h), state_since=NOW + hours(submitted_h))


@pytest.mark.parametrize("known", [True, False], ids=["known lengths", "unknown lengths"])
def test_a_wide_gang_does_not_starve_behind_a_stream_of_small_jobs(known: bool) -> None:
    """Without a reservation a GPU would always be taken again before eight are free together."""
    stream = [
        small(f"s{i:02}", submitted_h=-1.0 + i * 0.01, truth_h=1.0 + (i % 8) * 0.5, known=known)
        for i in range(80)
    ]
    wide = job("wide", gpus=8, estimate_s=3600.0)
    clock = Clock({"wide": 1.0} | {s.id: 1.0 + (i % 8) * 0.5 for i, s in enumerate(stream)}, [*stream, wide])
    started_h = clock.run(14.0, boards=8, nodes=1)
    assert started_h["wide"] <= 6.0
    assert len([h for h in started_h.values() if h > started_h["wide"]]) > 0  # the stream went on after it


def test_backfill_never_delays_the_reserved_start() -> None:
    held = [small(f"h{i}", submitted_h=-9.0, truth_h=1.0 + i * 0.5, known=True) for i in range(6)]
    fill = [small(f"f{i:02}", submitted_h=0.0, truth_h=0.5 + (i % 6) * 0.5, known=True) for i in range(30)]
    wide = job("wide", gpus=8, estimate_s=3600.0, minutes_ago=1.0)
    truth_h = {"wide": 1.0} | {s.id: (s.spec.estimate_s or 0.0) / 3600.0 for s in [*held, *fill]}
    clock = Clock(truth_h, [*held, *fill, wide])
    for index, one in enumerate(held):
        clock._start(one.id, (f"gpu-{index}",), 0.0)
    started_h = clock.run(8.0, boards=8, nodes=1)
    assert started_h["wide"] == 3.5  # when the last of the six ends
    assert any(started_h.get(s.id, 99.0) < 3.5 for s in fill)  # and the other two GPUs were not idle

"""Whose room is kept while it is being made, for how long, and who gets none."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.config import Control
from scheduler.decision import Decision, Pause, Preempt, Start
from scheduler.fleet import Kept
from scheduler.model import Job, JobState, WaitReason
from scheduler.pending import ROOM_PATIENCE_S, PendingStarts
from scheduler.snapshot import Snapshot
from scheduler.verify import verify
from tests.builders import gpus, job, running, snapshot

CONTROL = Control()
GONE_AFTER_S = CONTROL.settle_s + CONTROL.stale_s


def start(job_id: str, *indices: int) -> Start:
    return Start(job_id=job_id, gpu_uuids=tuple(f"gpu-{i}" for i in indices), cap_w=300.0)


def kept_after(world: Snapshot, decision: Decision, *, held_back: tuple[str, ...] = ()) -> PendingStarts:
    """What is pending after one turn at second 0."""
    pending = PendingStarts(CONTROL)
    turn(pending, world, decision, at_s=0.0, held_back=held_back)
    return pending


def turn(
    pending: PendingStarts,
    world: Snapshot,
    decision: Decision,
    *,
    at_s: float,
    held_back: tuple[str, ...] = (),
) -> None:
    kept, refused = verify(decision, world)
    pending.keep(kept, refused.moves, world, held_back=held_back, monotonic_s=at_s)


def held(state: JobState = JobState.RUNNING, **more: Any) -> Job:
    return running(job("old", priority="low", **more), 0, state=state)


def test_a_start_short_of_watts_keeps_its_gpus() -> None:
    pending = kept_after(snapshot(gpus(2), job("a"), limit_w=200.0), Decision(starts=(start("a", 0),)))
    assert pending.starts == (start("a", 0),)
    assert pending.kept == {"gpu-0": Kept("a", 300.0)}


@pytest.mark.parametrize(
    ("world", "others"),
    [
        (snapshot(gpus(2), held(JobState.STOPPING), job("a", gpus=2)), {}),
        (snapshot(gpus(2), held(), job("a", gpus=2)), {"preempts": (Preempt(job_id="old", cause="c"),)}),
        (
            snapshot(gpus(2), held(pausable=True), job("a", gpus=2)),
            {"pauses": (Pause(job_id="old", cause="c", reason=WaitReason.POWER),)},
        ),
        (snapshot((*gpus(1, settling=True, foreign=True), *gpus(1, first=1)), job("a", gpus=2)), {}),
    ],
    ids=["stopping", "preempted now", "paused off its GPUs", "its processes are on their way out"],
)
def test_gpus_that_are_coming_free_are_kept(world: Snapshot, others: dict[str, Any]) -> None:
    pending = kept_after(world, Decision(starts=(start("a", 0, 1),), **others))
    assert set(pending.kept) == {"gpu-0", "gpu-1"}


@pytest.mark.parametrize(
    "world",
    [
        snapshot(gpus(2), held(), job("a", gpus=2)),
        snapshot(gpus(2), held(JobState.STOPPING), running(job("b"), 1), job("a", gpus=2)),
        snapshot((*gpus(1), *gpus(1, first=1, cordoned=True)), held(JobState.STOPPING), job("a", gpus=2)),
        snapshot((*gpus(1), *gpus(1, first=1, foreign=True)), held(JobState.STOPPING), job("a", gpus=2)),
        snapshot(
            (*gpus(1), *gpus(1, first=1, reserved_for="b")),
            held(JobState.STOPPING),
            job("a", gpus=2),
            job("b"),
        ),
        snapshot(gpus(1), held(JobState.STOPPING), job("a", gpus=2)),
    ],
    ids=["not stopping", "another stays", "cordoned", "foreign", "kept for another", "unknown GPU"],
)
def test_gpus_that_nothing_frees_are_not_kept(world: Snapshot) -> None:
    assert not kept_after(world, Decision(starts=(start("a", 0, 1),))).kept


def test_a_free_gpu_that_went_to_another_is_not_kept() -> None:
    world = snapshot(gpus(1), job("a", priority="high"), job("b"))
    assert not kept_after(world, Decision(starts=(start("a", 0), start("b", 0)))).kept


@pytest.mark.parametrize(
    ("world", "patience_s"),
    [
        (snapshot(gpus(1), job("a"), limit_w=200.0), ROOM_PATIENCE_S),
        (
            snapshot(gpus(1), held(JobState.STOPPING, checkpoint_grace_s=120.0), job("a")),
            120.0 + GONE_AFTER_S + ROOM_PATIENCE_S,
        ),
    ],
    ids=["watts", "the grace of the job that leaves"],
)
def test_patience(world: Snapshot, patience_s: float) -> None:
    decision = Decision(starts=(start("a", 0),))
    pending = kept_after(world, decision)
    turn(pending, world, decision, at_s=patience_s - 0.1)
    assert pending.kept
    turn(pending, world, Decision(), at_s=patience_s)
    assert not pending.kept


def test_a_job_that_started_or_is_held_back_keeps_nothing() -> None:
    short, enough = (snapshot(gpus(1), job("a"), limit_w=watts) for watts in (200.0, 300.0))
    decision = Decision(starts=(start("a", 0),))
    assert not kept_after(short, decision, held_back=("a",)).kept
    pending = kept_after(short, decision)
    turn(pending, enough, decision, at_s=1.0)
    assert not pending.kept


def test_a_job_that_is_gone_keeps_nothing() -> None:
    pending = kept_after(snapshot(gpus(1), job("a"), limit_w=200.0), Decision(starts=(start("a", 0),)))
    turn(pending, snapshot(gpus(1)), Decision(), at_s=1.0)
    assert not pending.kept

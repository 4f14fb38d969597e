"""Who is stopped for whom, and on which GPUs the heir starts: free ones first, then those that are left."""

from __future__ import annotations

import pytest

from scheduler.decision import Decision
from scheduler.model import Job, JobState, WaitReason
from scheduler.place import place
from scheduler.snapshot import Snapshot
from tests.builders import gpus, job, running, snapshot, view


def drawn(decision: Decision) -> str:
    """`h:31 !x>h` = h starts on gpu-3 and gpu-1; x is stopped and h inherits its GPUs."""
    starts = [
        f"{s.job_id}:{''.join(u.removeprefix('gpu-') for u in s.gpu_uuids)}"
        for s in sorted(decision.starts, key=lambda s: s.job_id)
    ]
    stops = [f"!{p.job_id}>{p.heir or '-'}" for p in sorted(decision.preempts, key=lambda p: p.job_id)]
    return " ".join([*starts, *stops])


def low(name: str, *indices: int) -> Job:
    return running(job(name, gpus=len(indices), priority="low"), *indices)


CASES: dict[str, Snapshot] = {
    "h:0 !x>h": snapshot(gpus(1), low("x", 0), job("h", priority="high")),
    "h:10 !x>h": snapshot(gpus(2), low("x", 0), job("h", gpus=2, priority="high")),
    "h:01 !x>h !y>h": snapshot(gpus(2), low("x", 0), low("y", 1), job("h", gpus=2, priority="high")),
    # of two equal ones the one that frees just enough
    "h:2 !y>h": snapshot(gpus(3), low("x", 0, 1), low("y", 2), job("h", priority="high")),
    # a free GPU is taken before anybody is stopped
    "h:1": snapshot(gpus(2), low("x", 0), job("h", priority="high")),
    # two heirs of one job
    "g:0 h:1 !x>g": snapshot(
        gpus(2), low("x", 0, 1), job("g", priority="high", minutes_ago=1), job("h", priority="high")
    ),
    # what is coming free anyway
    "h:0": snapshot(gpus(1), running(job("x"), 0, state=JobState.STOPPING), job("h")),
}


@pytest.mark.parametrize("drawing", CASES)
def test_heirs(drawing: str) -> None:
    assert drawn(place(CASES[drawing], time_limit_s=5.0)) == drawing


def test_a_gpu_kept_for_an_heir_goes_to_nobody_else() -> None:
    """The job that was stopped would else start on it again: a loop."""
    waiting = view(job("h", priority="high"), eligible=False)  # its start is pending
    world = snapshot(gpus(1, reserved_for="h"), job("x", priority="low"), waiting)
    decision = place(world, time_limit_s=5.0)
    assert drawn(decision) == ""
    assert [w.job_id for w in decision.waits] == ["x"]


def test_an_heir_is_told_whose_gpus_it_gets() -> None:
    world = snapshot(gpus(2), low("x", 0), low("y", 1), job("h", gpus=2, priority="high"))
    decision = place(world, time_limit_s=5.0)
    wait = next(w for w in decision.waits if w.job_id == "h")
    assert wait.reason is WaitReason.GPUS
    assert wait.detail == "its 2 GPUs come free when x, y has stopped"
    assert {p.cause for p in decision.preempts} == {"stopped for jobs of higher priority: h"}

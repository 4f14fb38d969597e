"""What keeps a job from being considered at all."""

from __future__ import annotations

from datetime import timedelta

import pytest

from scheduler.gates import gate
from scheduler.model import Intent, Job, JobState, WaitReason
from tests.builders import NOW, job

W = WaitReason


@pytest.mark.parametrize(
    ("waiting", "reason"),
    [
        (job(), None),
        (job(intent=Intent.HOLD), W.HELD_BY_USER),
        (job(intent=Intent.PAUSE, state=JobState.PAUSED), W.HELD_BY_USER),
        (job(held_by_operator=True), W.HELD_BY_OPERATOR),
        (job(begin_at=NOW + timedelta(hours=1)), W.BEGIN_TIME),
        (job(begin_at=NOW - timedelta(hours=1)), None),
        (job(not_before=NOW + timedelta(seconds=5)), W.BACKOFF),
        (job(depends_on=("job_done",)), None),
        (job(depends_on=("job_running",)), W.DEPENDENCY),
        (job(depends_on=("job_failed",)), W.UNSATISFIABLE),
        (job(depends_on=("job_nowhere",)), W.UNSATISFIABLE),
        (job(intent=Intent.HOLD, state=JobState.RUNNING), None),
    ],
)
def test_gate(waiting: Job, reason: WaitReason | None) -> None:
    states = {
        "job_done": JobState.SUCCEEDED,
        "job_running": JobState.RUNNING,
        "job_failed": JobState.FAILED,
    }
    found = gate(waiting, NOW, states)
    assert (found.reason if found else None) is reason
    assert found is None or found.detail

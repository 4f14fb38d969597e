"""What stands between a job and the placement, apart from GPUs, watts and price. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from scheduler.decision import Wait
from scheduler.model import Intent, Job, JobState, WaitReason


def gate(job: Job, now: datetime, dependencies: Mapping[str, JobState]) -> Wait | None:
    """Why this job may not even be considered; None = it may.

    `dependencies` gives the state of every job that it depends on, as far as known.
    """
    if job.state not in (JobState.QUEUED, JobState.PAUSED):
        return None
    for reason, detail in (
        _held(job),
        _not_yet(job, now),
        _depends(job, dependencies),
    ):
        if reason is not None:
            return Wait(job_id=job.id, reason=reason, detail=detail)
    return None


def _held(job: Job) -> tuple[WaitReason | None, str]:
    if job.held_by_operator:
        return WaitReason.HELD_BY_OPERATOR, "held by an operator until released"
    if job.intent in (Intent.HOLD, Intent.PAUSE):
        word = "paused" if job.intent is Intent.PAUSE else "held"
        return WaitReason.HELD_BY_USER, f"{word} by a person until released"
    return None, ""


def _not_yet(job: Job, now: datetime) -> tuple[WaitReason | None, str]:
    if job.spec.begin_at is not None and now < job.spec.begin_at:
        return WaitReason.BEGIN_TIME, f"begins at {job.spec.begin_at:%Y-%m-%d %H:%M} UTC"
    if job.not_before is not None and now < job.not_before:
        wait_s = (job.not_before - now).total_seconds()
        return WaitReason.BACKOFF, f"attempt {job.attempts} was lost; tries again in {wait_s:.0f} s"
    return None, ""


def _depends(job: Job, states: Mapping[str, JobState]) -> tuple[WaitReason | None, str]:
    for other in job.spec.depends_on:
        state = states.get(other)
        if state is JobState.SUCCEEDED:
            continue
        if state is None:
            return WaitReason.UNSATISFIABLE, f"depends on {other}, which does not exist"
        if state.terminal:
            return WaitReason.UNSATISFIABLE, f"depends on {other}, which ended {state}"
        return WaitReason.DEPENDENCY, f"waits for {other}, now {state}"
    return None, ""

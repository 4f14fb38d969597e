"""The complete table of moves between job states. A pair that is not here raises."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from scheduler.model import Condition, Job, JobState

Q, START, RUN = JobState.QUEUED, JobState.STARTING, JobState.RUNNING
PAUSING, PAUSED, STOP = JobState.PAUSING, JobState.PAUSED, JobState.STOPPING
OK, FAIL, CANCEL = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED

TRANSITIONS: dict[tuple[JobState, JobState], str] = {
    (Q, START): "placed: GPUs, watts and a run id are reserved",
    (Q, CANCEL): "cancelled before it started",
    (START, RUN): "the job's process is up",
    (START, STOP): "cancelled, preempted or lost while starting",
    (RUN, OK): "exit code 0",
    (RUN, FAIL): "exit code not 0",
    (RUN, PAUSING): "asked to pause, by a person, a price or a budget",
    (RUN, STOP): "cancelled, preempted, requeued or lost",
    (PAUSING, PAUSED): "frozen in place, or checkpointed and off its GPUs",
    (PAUSING, OK): "finished before the pause took hold",
    (PAUSING, FAIL): "failed before the pause took hold",
    (PAUSING, STOP): "cancelled, preempted or lost while pausing",
    (PAUSED, RUN): "thawed in place",
    (PAUSED, START): "placed again, from its checkpoint",
    (PAUSED, STOP): "cancelled, requeued or lost while paused",
    (STOP, CANCEL): "every process is gone; it was cancelled",
    (STOP, FAIL): "every process is gone; it will not be tried again",
    (STOP, Q): "every process is gone; it waits for another attempt",
}


class InvalidTransition(Exception):
    """A move that the table does not have; the message tells the job's story."""

    def __init__(self, job: Job, to: JobState) -> None:
        super().__init__(
            f"job {job.id} cannot go from {job.state} (since {job.state_since.isoformat()}) to {to}"
            f"; intent {job.intent}, run {job.run.id if job.run else 'none'}, attempts {job.attempts}"
        )
        self.job = job
        self.to = to


def move(job: Job, to: JobState, at: datetime, **changes: Any) -> Job:
    """The job in its new state. Leaving PAUSED adds up the pause; ending a run forgets what it waited for.

    Raises:
        InvalidTransition: the table has no such move.
    """
    if (job.state, to) not in TRANSITIONS:
        raise InvalidTransition(job, to)
    if job.state is PAUSED:
        changes.setdefault("paused_s", job.paused_s + (at - job.state_since).total_seconds())
    if to is not Q:
        changes.setdefault("wait_reason", None)
        changes.setdefault("wait_detail", "")
    if to is not STOP:
        changes.setdefault("stop_goal", None)
    if to.terminal:
        changes.setdefault("ended_at", at)
        changes.setdefault("condition", Condition.NOMINAL)
        changes.setdefault("condition_cause", "")
    return job.but(state=to, state_since=at, **changes)

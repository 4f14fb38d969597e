"""What stopping a run and starting it again costs, learned from every stop and start that happens. Pure.

Three things are lost: the seconds from the ask to the exit, in which the job saves its checkpoint; those from
the next launch to its first step; and the work since its last checkpoint, unless it saves one when asked.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from scheduler.engines.engine import RunPhase, RunStatus
from scheduler.model import Job, JobState, WaitReason

SMOOTHING = 0.3  # weight of one more measurement, once there are a few: stops and starts are rare
MOST_S = 3600.0  # what one measurement counts at most: a start that hung must not make a workload unstoppable
GUESSED_HALF = 0.5  # share of the configured guess that stands for each part that was never measured

CostKey = tuple[str, str]  # (workload, ""), or ("", job id) where the job names no workload


@dataclass(frozen=True, slots=True, kw_only=True)
class StopCost:
    """Real seconds, exponentially smoothed, each with how often it was measured (0 = never).

    `checkpoint_s` is from the ask to stop until the exit, or from the ask for a checkpoint until its ack;
    `restart_s` from the launch until the first progress, or until RUNNING where a run reported none.

    Raises:
        ValueError: a figure is negative or not finite.
    """

    checkpoint_s: float = 0.0
    checkpoints: int = 0
    restart_s: float = 0.0
    restarts: int = 0
    saves_on_request: bool = False  # when last asked, it answered with a checkpoint

    def __post_init__(self) -> None:
        figures = (self.checkpoint_s, self.checkpoints, self.restart_s, self.restarts)
        if not all(math.isfinite(figure) and figure >= 0 for figure in figures):
            raise ValueError(f"seconds and counts must be finite and >= 0, got {figures}")

    def with_checkpoint(self, seconds: float, *, saved: bool) -> StopCost:
        """After one more request; `saved`: it was answered with a checkpoint."""
        mean_s = _smoothed(self.checkpoint_s, self.checkpoints, seconds)
        return replace(self, checkpoint_s=mean_s, checkpoints=self.checkpoints + 1, saves_on_request=saved)

    def with_restart(self, seconds: float) -> StopCost:
        """After one more start."""
        mean_s = _smoothed(self.restart_s, self.restarts, seconds)
        return replace(self, restart_s=mean_s, restarts=self.restarts + 1)

    def restart_cost_s(self, guess_s: float, rate: float) -> float:
        """Grid seconds that a stop and a start take: what was measured, and half the guess for what was not.

        Args:
            guess_s: grid seconds for both, by the configuration.
            rate: grid seconds per real second.
        """
        checkpoint_s = self.checkpoint_s * rate if self.checkpoints else GUESSED_HALF * guess_s
        restart_s = self.restart_s * rate if self.restarts else (1.0 - GUESSED_HALF) * guess_s
        return checkpoint_s + restart_s


NOTHING_KNOWN = StopCost()


@dataclass(frozen=True, slots=True)
class StopFigures:
    """What stopping a job now would cost, in grid seconds of all its GPUs."""

    restart_cost_s: float  # its checkpoint and its next start
    lost_work_s: float = 0.0  # work at full speed since its last checkpoint


class StopCostBook:
    """What is known, by workload; by job where it names none. `changed` keys are not stored yet."""

    def __init__(self, learned: Mapping[CostKey, StopCost] | None = None) -> None:
        self._learned = dict(learned or {})
        self.changed: set[CostKey] = set()

    def cost(self, key: CostKey) -> StopCost:
        return self._learned.get(key, NOTHING_KNOWN)

    def learn(self, key: CostKey, cost: StopCost) -> None:
        self._learned[key] = cost
        self.changed.add(key)

    def forget_all_but(self, job_ids: Collection[str]) -> tuple[str, ...]:
        """Drop what was learned of single jobs that are gone; their ids. Workloads are never forgotten."""
        gone = tuple(job_id for _, job_id in self._learned if job_id and job_id not in job_ids)
        for job_id in gone:
            del self._learned["", job_id]
            self.changed.discard(("", job_id))
        return gone


def cost_key(job: Job) -> CostKey:
    """Where the job's cost stands in the book."""
    return (job.spec.workload, "") if job.spec.workload else ("", job.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWatch:
    """One run as it was followed so far. Times are grid time; work is grid seconds at full speed.

    `launched_at` is None for a run that was there before we looked: when it started is not known well enough.
    """

    key: CostKey
    saved_work_s: float  # the job's work, all runs together, that a stop now would keep
    launched_at: datetime | None = None
    running_at: datetime | None = None
    progressed: bool = False
    saved_at: datetime | None = None  # the newest checkpoint, by the engine's clock
    answered: int = 0  # the newest of our requests that it answered with a checkpoint
    asked_at: datetime | None = None
    answered_before: int = 0  # `answered` when it was asked to stop

    def look(
        self, job: Job, status: RunStatus, now: datetime, *, work_s: float, cost: StopCost, rate: float
    ) -> tuple[RunWatch, StopCost]:
        """What one more look at the living run shows. The very same objects where it shows nothing new."""
        watch = self
        if watch.running_at is None and job.state is JobState.RUNNING:
            watch = replace(watch, running_at=now)
        if status.progress is not None and not watch.progressed:
            watch = replace(watch, progressed=True)
            if watch.launched_at is not None:
                cost = cost.with_restart(_real_s(watch.launched_at, now, rate))
        if status.checkpoint_at != watch.saved_at:
            watch = replace(watch, saved_at=status.checkpoint_at, saved_work_s=work_s)
        if watch.asked_at is None and job.state is not JobState.RUNNING:
            asked_at = stop_asked_at(job, status, now)
            if asked_at is not None:
                watch = replace(watch, asked_at=asked_at, answered_before=watch.answered)
        if status.answered_request > watch.answered:
            watch = replace(watch, answered=status.answered_request)
            if watch.asked_at is None and status.answer_s is not None:
                cost = cost.with_checkpoint(status.answer_s, saved=True)
        return watch, cost

    def end(self, status: RunStatus | None, now: datetime, *, cost: StopCost, rate: float) -> StopCost:
        """What the end of the run teaches. A run that was lost, or never came up, teaches nothing."""
        if status is None or status.phase is not RunPhase.EXITED or self.running_at is None:
            return cost
        # Stopped sooner than its workload's first step usually comes: that tells nothing of its start.
        age_s = 0.0 if self.launched_at is None else _real_s(self.launched_at, now, rate)
        if self.launched_at is not None and not self.progressed and age_s >= cost.restart_s:
            cost = cost.with_restart(_real_s(self.launched_at, self.running_at, rate))
        saved = status.answered_request > self.answered_before
        finished = status.exit_code == 0 and not saved  # it came to its end before the request did
        if self.asked_at is not None and not finished:
            cost = cost.with_checkpoint(_real_s(self.asked_at, now, rate), saved=saved)
        return cost


def stop_asked_at(job: Job, status: RunStatus, now: datetime) -> datetime | None:
    """When the run was asked to leave its GPUs, in grid time; None = it was not."""
    leaves = job.state is JobState.PAUSING and job.wait_reason is WaitReason.POWER
    if job.state is JobState.STOPPING or leaves:
        return job.state_since
    thawed = status.phase is RunPhase.RUNNING  # a frozen run is thawed to hear that it shall stop
    return now if job.state is JobState.PAUSED and thawed else None


def _smoothed(mean: float, count: int, seconds: float) -> float:
    weight = max(SMOOTHING, 1.0 / (count + 1))
    return mean + weight * (min(max(seconds, 0.0), MOST_S) - mean)


def _real_s(start: datetime, end: datetime, rate: float) -> float:
    return (end - start).total_seconds() / rate

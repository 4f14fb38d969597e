"""What follows for a job from what people want and what the engine sees. Pure: values in, moves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from scheduler.engines.engine import RunPhase, RunStatus, Wanted
from scheduler.lifecycle import move
from scheduler.model import Intent, Job, JobState, Run, WaitReason

S = JobState
BACKOFF_BASE_S = 10.0
BACKOFF_MAX_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to write and what to ask of the engine for one job.

    `moves` are the successive states (each is saved with its event); `wanted` is None when nothing is asked.
    """

    moves: tuple[Job, ...] = ()
    wanted: Wanted | None = None
    checkpoint_now: bool = False
    clear_intent: Intent | None = None
    closed_run: Run | None = None  # the run that ended with this step
    noted: Job | None = None  # the same state with a newer checkpoint, where nothing moves


NOTHING = Step()


def reconcile(
    job: Job, status: RunStatus | None, now: datetime, *, freeze_limit_s: float, losses: int | None = None
) -> Step:
    """The next step for one job.

    `status` is what the engine says of the job's current run; None = the engine knows no such run.
    `freeze_limit_s` is grid seconds in PAUSED after which a frozen run is checkpointed off its GPUs.
    `losses` is how many of its earlier runs were lost; None = not known: all of them count. A job that often
    made room for others, or waited out high prices, has many attempts and may still have lost none.
    """
    if job.run is None:
        return _without_run(job, now)
    if status is None:
        return _run_unknown(job, now, losses)
    if status.phase in (RunPhase.EXITED, RunPhase.LOST):
        return _run_over(job, status, now, losses)
    step = _with_run(job, status, now, freeze_limit_s)
    saved = _with_checkpoint(job, status)
    return step if step.moves or saved is job else replace(step, noted=saved)


def _without_run(job: Job, now: datetime) -> Step:
    if job.state is S.QUEUED and job.intent is Intent.CANCEL:
        return Step(moves=(move(job, S.CANCELLED, now, end_reason="cancelled"),))
    if job.state is S.PAUSED and job.intent in (Intent.CANCEL, Intent.REQUEUE):
        goal = S.CANCELLED if job.intent is Intent.CANCEL else S.QUEUED
        stopping = move(job, S.STOPPING, now, stop_goal=goal)
        return Step(
            moves=(stopping, _reach_goal(stopping, now)),
            clear_intent=Intent.REQUEUE if goal is S.QUEUED else None,
        )
    if job.state is S.STOPPING:
        return Step(moves=(_reach_goal(job, now),))
    if job.intent in (Intent.REQUEUE, Intent.CHECKPOINT):
        return Step(clear_intent=job.intent)
    return NOTHING


def _run_unknown(job: Job, now: datetime, losses: int | None) -> Step:
    """The run was reserved, but the engine never started it: the daemon died in between."""
    assert job.run is not None
    if job.state is S.STARTING:  # nothing of it ever ran: another try repeats nothing
        closed = job.but(run=replace(job.run, ended_at=now, end_reason="launch_failed"))
        stopping = move(closed, S.STOPPING, now, stop_goal=S.QUEUED)
        again = _reach_goal(stopping, now, "never launched")
        return Step(moves=(stopping, again), closed_run=closed.run)
    lost = RunStatus(run_id=job.run.id, phase=RunPhase.LOST, ended_at=None, error="never launched")
    return _run_over(job, lost, now, losses)


def _with_run(job: Job, status: RunStatus, now: datetime, freeze_limit_s: float) -> Step:
    job = _with_checkpoint(job, status)
    if job.state is S.STARTING and status.phase is not RunPhase.STARTING:
        assert job.run is not None
        started = replace(job.run, started_at=now)
        job_running = move(job, S.RUNNING, now, run=started)
        return Step(moves=(job_running,))
    if job.state is S.STOPPING:
        return Step(wanted=Wanted.STOP)
    if job.intent in (Intent.CANCEL, Intent.REQUEUE):
        goal = S.CANCELLED if job.intent is Intent.CANCEL else S.QUEUED
        return Step(
            moves=(move(job, S.STOPPING, now, stop_goal=goal),),
            wanted=Wanted.STOP,
            clear_intent=Intent.REQUEUE if goal is S.QUEUED else None,
        )
    if job.intent is Intent.CHECKPOINT:
        # Only what runs can save; asking a frozen job would thaw it.
        return Step(checkpoint_now=job.state is S.RUNNING, clear_intent=Intent.CHECKPOINT)
    if job.state is S.RUNNING and job.intent is Intent.PAUSE:
        return Step(
            moves=(pause(job, now, WaitReason.HELD_BY_USER, "paused by a person"),), wanted=Wanted.FREEZE
        )
    if job.state is S.RUNNING and status.phase is RunPhase.FROZEN:
        return Step(wanted=Wanted.RUN)  # its thaw was written down, but not yet carried out
    if job.state is S.PAUSING:
        return _pausing(job, status, now)
    frozen_s = (now - job.state_since).total_seconds()
    if job.state is S.PAUSED and (frozen_s > freeze_limit_s or _leaves_its_gpus(job)):
        return Step(wanted=Wanted.STOP)
    return NOTHING


def _leaves_its_gpus(job: Job) -> bool:
    """A pause for want of power frees watts only once the GPUs are empty: it stops at once."""
    return job.wait_reason is WaitReason.POWER


def _pausing(job: Job, status: RunStatus, now: datetime) -> Step:
    if _leaves_its_gpus(job):
        return Step(wanted=Wanted.STOP)
    if status.phase is RunPhase.FROZEN:
        paused = move(job, S.PAUSED, now, wait_reason=job.wait_reason, wait_detail=job.wait_detail)
        return Step(moves=(paused,))
    return Step(wanted=Wanted.FREEZE)


def pause(job: Job, now: datetime, reason: WaitReason, detail: str) -> Job:
    """RUNNING to PAUSING, with why."""
    return move(job, S.PAUSING, now, wait_reason=reason, wait_detail=detail)


def _run_over(job: Job, status: RunStatus, now: datetime, losses: int | None) -> Step:
    """Every process of the run is proven gone: close the run, then move the job."""
    job = _with_checkpoint(job, status)
    if status.stopped and job.state in (S.STARTING, S.RUNNING, S.PAUSING) and not _ended_by_itself(status):
        # Nobody here asked for that: the machine went down, or a wish whose move was never written.
        status = replace(status, phase=RunPhase.LOST, error=status.error or "it was stopped from outside")
    moves: list[Job] = []
    if job.state is S.STARTING and job.run is not None and status.phase is RunPhase.EXITED:
        started = replace(job.run, started_at=now)
        job = move(job, S.RUNNING, now, run=started)
        moves.append(job)
    if job.state is S.PAUSING and _leaves_its_gpus(job) and not _ended_by_itself(status):
        job = move(job, S.PAUSED, now, wait_reason=job.wait_reason, wait_detail=job.wait_detail)
        moves.append(job)
    if job.state is S.PAUSED and _ended_by_itself(status):
        job = move(job, S.RUNNING, now)
        moves.append(job)
    if job.state is S.PAUSED:  # frozen too long: now it is off its GPUs, still paused
        closed = _close_run(job, status, now, "paused")
        return Step(moves=(*moves, closed.but(run=None)), closed_run=closed.run)
    final = _final_moves(job, status, now, losses)
    return Step(moves=(*moves, *final), closed_run=_closed_run_of(job, status, now, final[-1]))


def _ended_by_itself(status: RunStatus) -> bool:
    """A run that was asked for its checkpoint may have finished instead."""
    return status.phase is RunPhase.EXITED and status.exit_code == 0 and status.checkpoint_path is None


def _closed_run_of(job: Job, status: RunStatus, now: datetime, last: Job) -> Run | None:
    """The ended run, also where the job's last state no longer carries it."""
    if last.run is not None:
        return last.run
    return _close_run(job, status, now, "lost" if status.phase is RunPhase.LOST else "requeued").run


def _final_moves(job: Job, status: RunStatus, now: datetime, losses: int | None) -> Sequence[Job]:
    if job.state is S.STOPPING:
        reason = {S.CANCELLED: "cancelled", S.FAILED: "failed"}.get(job.stop_goal or S.QUEUED, "requeued")
        closed = _close_run(job, status, now, reason)
        lost = status.phase is RunPhase.LOST and job.stop_goal is S.QUEUED
        return [_reach_goal(closed, now, status.error or "the run was lost" if lost else None)]
    if status.phase is RunPhase.EXITED and status.exit_code == 0:
        closed = _close_run(job, status, now, "finished")
        return [move(closed, S.SUCCEEDED, now, exit_code=0, end_reason="finished")]
    if status.phase is RunPhase.EXITED and status.error is None:
        closed = _close_run(job, status, now, "failed")
        why = f"exit code {status.exit_code}"
        return [move(closed, S.FAILED, now, exit_code=status.exit_code, end_reason=why)]
    return _lost_or_unlaunchable(job, status, now, losses)


def _lost_or_unlaunchable(job: Job, status: RunStatus, now: datetime, losses: int | None) -> Sequence[Job]:
    """The run did not end by its own word: try again where that can help and is allowed."""
    lost = status.phase is RunPhase.LOST
    closed = _close_run(job, status, now, "lost" if lost else "launch_failed")
    before = job.attempts - 1 if losses is None else losses
    again = lost and job.spec.requeue and before < job.spec.max_restarts
    goal = S.QUEUED if again else S.FAILED
    stopping = move(closed, S.STOPPING, now, stop_goal=goal)
    why = status.error or ("the run was lost" if lost else "it could not be launched")
    return [stopping, _reach_goal(stopping, now, why)]


def _reach_goal(job: Job, now: datetime, why: str | None = None) -> Job:
    goal = job.stop_goal or S.QUEUED
    if goal is S.QUEUED:
        wait_s = min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2 ** max(0, job.attempts - 1)) if why else 0.0
        return move(job, S.QUEUED, now, run=None, not_before=now + timedelta(seconds=wait_s))
    return move(job, goal, now, end_reason=why or ("cancelled" if goal is S.CANCELLED else job.end_reason))


def _close_run(job: Job, status: RunStatus, now: datetime, reason: str) -> Job:
    assert job.run is not None
    ended = replace(job.run, ended_at=now, exit_code=status.exit_code, end_reason=reason)
    return job.but(run=ended)


def _with_checkpoint(job: Job, status: RunStatus) -> Job:
    if status.checkpoint_path is None or status.checkpoint_path == job.checkpoint_path:
        return job
    return job.but(checkpoint_path=status.checkpoint_path)

"""What follows for a job from a wish and from what the engine sees; each row is one story."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from scheduler.engines.engine import RunPhase, RunStatus, Wanted
from scheduler.model import Intent, Job, JobSpec, JobState, Run, WaitReason
from scheduler.reconcile import reconcile

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
S = JobState


def a_job(state: JobState, intent: Intent = Intent.RUN, *, run: bool = True, **changes: object) -> Job:
    made = Run(id="run_1", job_id="job_1", attempt=1, gpu_uuids=("GPU-0",), cap_w=200, created_at=NOW)
    return replace(
        Job(
            id="job_1",
            spec=JobSpec(argv=("python", "train.py"), gpus=1),
            owner="ada",
            submitted_at=NOW,
            state=state,
            state_since=NOW,
            intent=intent,
            run=made if run else None,
            attempts=1,
        ),
        **changes,
    )


def seen(phase: RunPhase, exit_code: int | None = None, **more: object) -> RunStatus:
    return RunStatus(run_id="run_1", phase=phase, exit_code=exit_code, **more)  # type: ignore[arg-type]


UP, FROZEN, LOST = seen(RunPhase.RUNNING), seen(RunPhase.FROZEN), seen(RunPhase.LOST)
EXIT_0, EXIT_1 = seen(RunPhase.EXITED, 0), seen(RunPhase.EXITED, 1)
NOT_FOUND = seen(RunPhase.EXITED, 127, error="no such program: train")


def path(job: Job, status: RunStatus | None, *, after_s: float = 0.0) -> str:
    """The states that the job goes through, drawn as `A > B > C`."""
    step = reconcile(job, status, NOW + timedelta(seconds=after_s), freeze_limit_s=300)
    return " > ".join([job.state, *(moved.state for moved in step.moves)])


@pytest.mark.parametrize(
    ("job", "status", "story"),
    [
        (a_job(S.STARTING), seen(RunPhase.STARTING), "STARTING"),
        (a_job(S.STARTING), UP, "STARTING > RUNNING"),
        (a_job(S.STARTING), EXIT_0, "STARTING > RUNNING > SUCCEEDED"),
        (a_job(S.STARTING), NOT_FOUND, "STARTING > RUNNING > STOPPING > FAILED"),
        (a_job(S.STARTING), None, "STARTING > STOPPING > QUEUED"),
        (a_job(S.RUNNING), UP, "RUNNING"),
        (a_job(S.RUNNING), EXIT_0, "RUNNING > SUCCEEDED"),
        (a_job(S.RUNNING), EXIT_1, "RUNNING > FAILED"),
        (a_job(S.RUNNING), LOST, "RUNNING > STOPPING > QUEUED"),
        (a_job(S.RUNNING, attempts=9), LOST, "RUNNING > STOPPING > FAILED"),
        (a_job(S.RUNNING, Intent.CANCEL), UP, "RUNNING > STOPPING"),
        (a_job(S.RUNNING, Intent.REQUEUE), UP, "RUNNING > STOPPING"),
        (a_job(S.RUNNING, Intent.PAUSE), UP, "RUNNING > PAUSING"),
        (a_job(S.PAUSING), UP, "PAUSING"),
        (a_job(S.PAUSING), FROZEN, "PAUSING > PAUSED"),
        (a_job(S.PAUSING), EXIT_0, "PAUSING > SUCCEEDED"),
        (a_job(S.PAUSED), FROZEN, "PAUSED"),
        (a_job(S.PAUSED, Intent.CANCEL), FROZEN, "PAUSED > STOPPING"),
        (a_job(S.PAUSED), LOST, "PAUSED > PAUSED"),
        (a_job(S.PAUSED, run=False), None, "PAUSED"),
        (a_job(S.PAUSED, Intent.CANCEL, run=False), None, "PAUSED > STOPPING > CANCELLED"),
        (a_job(S.PAUSED, Intent.REQUEUE, run=False), None, "PAUSED > STOPPING > QUEUED"),
        (a_job(S.STOPPING, stop_goal=S.CANCELLED), UP, "STOPPING"),
        (a_job(S.STOPPING, stop_goal=S.CANCELLED), EXIT_0, "STOPPING > CANCELLED"),
        (a_job(S.STOPPING, stop_goal=S.QUEUED), EXIT_1, "STOPPING > QUEUED"),
        (a_job(S.STOPPING, stop_goal=S.FAILED), LOST, "STOPPING > FAILED"),
        (a_job(S.QUEUED, run=False), None, "QUEUED"),
        (a_job(S.QUEUED, Intent.CANCEL, run=False), None, "QUEUED > CANCELLED"),
        (a_job(S.QUEUED, Intent.HOLD, run=False), None, "QUEUED"),
    ],
)
def test_story(job: Job, status: RunStatus | None, story: str) -> None:
    assert path(job, status) == story


@pytest.mark.parametrize(
    ("job", "status", "after_s", "wanted"),
    [
        (a_job(S.RUNNING, Intent.PAUSE), UP, 0, Wanted.FREEZE),
        (a_job(S.PAUSING), UP, 0, Wanted.FREEZE),
        (a_job(S.RUNNING, Intent.CANCEL), UP, 0, Wanted.STOP),
        (a_job(S.STOPPING, stop_goal=S.CANCELLED), UP, 0, Wanted.STOP),
        (a_job(S.PAUSED), FROZEN, 299, None),
        (a_job(S.PAUSED), FROZEN, 301, Wanted.STOP),
        (a_job(S.RUNNING), UP, 0, None),
    ],
)
def test_what_is_asked_of_the_engine(
    job: Job, status: RunStatus, after_s: float, wanted: Wanted | None
) -> None:
    at = NOW + timedelta(seconds=after_s)
    assert reconcile(job, status, at, freeze_limit_s=300).wanted is wanted


def test_a_pause_for_power_leaves_the_gpus_at_once() -> None:
    pausing = a_job(S.PAUSING, wait_reason=WaitReason.POWER)
    assert reconcile(pausing, UP, NOW, freeze_limit_s=300).wanted is Wanted.STOP
    step = reconcile(pausing, seen(RunPhase.EXITED, 85), NOW, freeze_limit_s=300)
    assert [moved.state for moved in step.moves] == [S.PAUSED, S.PAUSED]
    assert step.moves[-1].run is None
    assert step.closed_run is not None


def test_a_freeze_that_lasts_too_long_leaves_the_gpus_but_stays_paused() -> None:
    stopped = seen(RunPhase.EXITED, 85, checkpoint_path="/c/step-9.pt")
    step = reconcile(a_job(S.PAUSED), stopped, NOW, freeze_limit_s=300)
    assert step.moves[-1].state is S.PAUSED
    assert step.moves[-1].run is None
    assert step.moves[-1].checkpoint_path == "/c/step-9.pt"
    assert step.closed_run is not None
    assert step.closed_run.end_reason == "paused"


def test_a_lost_run_is_tried_again_after_a_growing_pause() -> None:
    waits = []
    for attempts in (1, 2, 3):
        step = reconcile(a_job(S.RUNNING, attempts=attempts), LOST, NOW, freeze_limit_s=300)
        queued = step.moves[-1]
        assert queued.not_before is not None
        waits.append((queued.not_before - NOW).total_seconds())
    assert waits == [10, 20, 40]


def test_a_requeue_wish_is_one_shot() -> None:
    step = reconcile(a_job(S.RUNNING, Intent.REQUEUE), UP, NOW, freeze_limit_s=300)
    assert step.clear_intent is Intent.REQUEUE
    assert step.moves[-1].stop_goal is S.QUEUED


def test_a_checkpoint_wish_asks_once_and_stops_nothing() -> None:
    step = reconcile(a_job(S.RUNNING, Intent.CHECKPOINT), UP, NOW, freeze_limit_s=300)
    assert (step.checkpoint_now, step.wanted, step.moves) == (True, None, ())
    assert step.clear_intent is Intent.CHECKPOINT


def test_every_ended_run_is_closed_with_its_exit_code() -> None:
    for status in (EXIT_0, EXIT_1, LOST):
        step = reconcile(a_job(S.RUNNING), status, NOW, freeze_limit_s=300)
        assert step.closed_run is not None
        assert step.closed_run.ended_at == NOW
        assert step.closed_run.exit_code == status.exit_code

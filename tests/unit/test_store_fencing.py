"""The controller's writes: from the state it saw, by the run it holds, never after the end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.lifecycle import InvalidTransition, move
from scheduler.model import Condition, Intent, JobState, WaitReason
from scheduler.store import AlreadyTerminal, Event, NotFound, StaleWrite, Store, StoreUnavailable
from tests.store_builders import a_run, a_spec, after, running, started, submitted

S = JobState


def test_what_the_controller_writes_comes_back(store: Store) -> None:
    job = submitted(store)
    waiting = job.but(
        wait_reason=WaitReason.POWER,
        wait_detail="needs 600 W\0, 200 W are free",
        not_before=after(5),
        condition=Condition.CAPPED_PRICE,
        condition_cause="90 €/MWh",
        condition_since=after(3),
        paused_s=1.25,
        checkpoint_path="/c/1",
    )
    store.jobs.save(waiting, S.QUEUED)
    assert store.jobs.get(job.id) == waiting.but(wait_detail="needs 600 W, 200 W are free")


def test_a_job_comes_with_its_current_run(store: Store) -> None:
    job = running(store)
    assert store.jobs.get(job.id) == job
    assert store.jobs.active() == [job]
    assert store.jobs.page().items == [job]
    assert store.jobs.runs(job.id) == [job.run]


def test_a_write_from_another_state_is_stale(store: Store) -> None:
    job = running(store)
    with pytest.raises(StaleWrite, match="expected in STARTING but is in RUNNING"):
        store.jobs.save(move(job.but(state=S.STARTING), S.STOPPING, after(9)), S.STARTING)
    assert store.jobs.get(job.id) == job


def test_wishes_of_people_are_never_overwritten(store: Store) -> None:
    job = submitted(store)
    store.jobs.set_intent(job.id, Intent.HOLD)
    store.jobs.patch(job.id, a_spec(gpus=8), 2)
    store.jobs.save(job.but(attempts=7), S.QUEUED)
    found = store.jobs.get(job.id)
    assert (found.intent, found.spec.gpus, found.revision, found.attempts) == (Intent.HOLD, 8, 3, 7)


@pytest.mark.parametrize("state", [S.RUNNING, S.SUCCEEDED, S.PAUSED])
def test_a_move_that_the_table_lacks_is_refused(store: Store, state: JobState) -> None:
    job = submitted(store)
    with pytest.raises(InvalidTransition):
        store.jobs.save(job.but(state=state), S.QUEUED)


def test_an_end_is_final(store: Store) -> None:
    job = running(store)
    done = move(job, S.SUCCEEDED, after(9), exit_code=0)
    store.jobs.save(done, S.RUNNING)
    with pytest.raises(StaleWrite):
        store.jobs.save(move(job, S.FAILED, after(9)), S.RUNNING)
    with pytest.raises(AlreadyTerminal):
        store.jobs.save(done.but(exit_code=1), S.SUCCEEDED)
    assert store.jobs.get(job.id).exit_code == 0
    assert store.jobs.active() == []


def test_a_run_ends_with_its_job(store: Store) -> None:
    job = running(store)
    store.jobs.save(move(job, S.FAILED, after(9), exit_code=3, end_reason="exit code 3"), S.RUNNING)
    (run,) = store.jobs.runs(job.id)
    assert (run.ended_at, run.exit_code, run.end_reason) == (after(9), 3, "exit code 3")


def test_a_closed_run_is_kept_when_the_job_lets_go_of_it(store: Store) -> None:
    job = running(store)
    assert job.run is not None
    stopping = move(job, S.STOPPING, after(8), stop_goal=S.QUEUED)
    store.jobs.save(stopping, S.RUNNING)
    closed = replace(job.run, ended_at=after(9), exit_code=-9, end_reason="preempted")
    store.jobs.save(move(stopping, S.QUEUED, after(9), run=None), S.STOPPING, run=closed)
    again = started(store, store.jobs.get(job.id), attempt=2)
    assert store.jobs.runs(job.id) == [closed, again.run]


def test_a_run_that_the_job_drops_does_not_stay_alive(store: Store) -> None:
    job = running(store)
    stopping = move(job, S.STOPPING, after(8), stop_goal=S.QUEUED)
    store.jobs.save(stopping, S.RUNNING)
    store.jobs.save(move(stopping, S.QUEUED, after(9), run=None), S.STOPPING)
    assert [run.ended_at for run in store.jobs.runs(job.id)] == [after(9)]


def test_a_run_that_was_superseded_writes_nothing(store: Store) -> None:
    """The same state again, under another run: the run id is the token."""
    old = running(store)
    stopping = move(old, S.STOPPING, after(3), stop_goal=S.QUEUED)
    store.jobs.save(stopping, S.RUNNING)
    store.jobs.save(move(stopping, S.QUEUED, after(4), run=None), S.STOPPING)
    fresh = started(store, store.jobs.get(old.id), attempt=2)
    store.jobs.save(move(fresh, S.RUNNING, after(5)), S.STARTING)
    with pytest.raises(StaleWrite, match="run_"):
        store.jobs.save(move(old, S.FAILED, after(6)), S.RUNNING)
    assert store.jobs.get(old.id).state is S.RUNNING


def test_the_database_takes_one_attempt_once(store: Store) -> None:
    job = running(store)
    assert job.run is not None
    stopping = move(job, S.STOPPING, after(3), stop_goal=S.QUEUED)
    store.jobs.save(stopping, S.RUNNING)
    queued = move(stopping, S.QUEUED, after(4), run=None)
    store.jobs.save(queued, S.STOPPING)
    twin = a_run(job, attempt=1, id="run_twin")
    with pytest.raises(StoreUnavailable):
        store.jobs.save(move(queued, S.STARTING, after(5), run=twin), S.QUEUED)
    assert store.jobs.get(job.id).state is S.QUEUED


def test_a_job_and_its_events_are_written_together_or_not_at_all(store: Store) -> None:
    job = submitted(store)
    cancelled = move(job, S.CANCELLED, after(1))
    good = Event(kind="job.state", at=after(1), job_id=job.id, data={"to": "CANCELLED"})
    with pytest.raises(ValueError):
        store.jobs.save(cancelled, S.QUEUED, events=[good, replace(good, data={"watts": float("nan")})])
    assert store.jobs.get(job.id) == job
    assert store.events.after(0) == []
    store.jobs.save(cancelled, S.QUEUED, events=[good])
    assert [event.data for event in store.events.after(0)] == [{"to": "CANCELLED"}]


def test_an_unknown_job_cannot_be_saved(store: Store) -> None:
    job = submitted(store).but(id="job_x")
    with pytest.raises(NotFound):
        store.jobs.save(job, S.QUEUED)

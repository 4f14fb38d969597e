"""The controller's write of a job: from the state it saw, by the run it holds, never after the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import Connection, select, update

from scheduler.lifecycle import TRANSITIONS, InvalidTransition
from scheduler.model import Job, JobState, Run
from scheduler.store.database import upsert
from scheduler.store.errors import AlreadyTerminal, NotFound, StaleWrite
from scheduler.store.events import write_events
from scheduler.store.job_rows import AnyRow, controller_values, run_values
from scheduler.store.records import Event
from scheduler.store.tables import jobs, runs


def write_fenced(
    connection: Connection, job: Job, expected: JobState, events: Iterable[Event], run: Run | None
) -> None:
    row = connection.execute(
        select(jobs.c.state, jobs.c.run_id).where(jobs.c.id == job.id).with_for_update()
    ).one_or_none()
    _check(job, expected, row, run)
    _let_go(connection, job, run)
    if job.run is not None:
        upsert(connection, runs, [run_values(_ended_with(job, job.run))])
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job.id, jobs.c.state == expected.value)
        .values(**controller_values(job))
    )
    write_events(connection, events)


def _check(job: Job, expected: JobState, row: AnyRow | None, run: Run | None) -> None:
    if row is None:
        raise NotFound("job", job.id)
    actual = JobState(row.state)
    if actual is not expected:
        raise StaleWrite(job.id, expected, actual)
    if actual.terminal:
        raise AlreadyTerminal(job.id, actual)
    if job.state is not expected and (expected, job.state) not in TRANSITIONS:
        raise InvalidTransition(job.but(state=expected), job.state)
    # The state may have come round to the same value under another run: the run id is the token.
    starts = job.state is JobState.STARTING and expected is not JobState.STARTING
    spoken_for = run or (None if starts else job.run)
    if row.run_id is not None and spoken_for is not None and spoken_for.id != row.run_id:
        raise StaleWrite(job.id, f"{expected} by {spoken_for.id}", f"{actual} by {row.run_id}")


def _ended_with(job: Job, run: Run) -> Run:
    """A run ends with its job at the latest."""
    if not job.state.terminal or run.ended_at is not None:
        return run
    return replace(
        run,
        ended_at=job.ended_at or job.state_since,
        exit_code=run.exit_code if run.exit_code is not None else job.exit_code,
        end_reason=run.end_reason or job.end_reason,
    )


def _let_go(connection: Connection, job: Job, run: Run | None) -> None:
    """End live runs that the job does not hold any more, before a new one may begin."""
    if run is not None:
        upsert(connection, runs, [run_values(run)])
    orphans = update(runs).where(runs.c.job_id == job.id, runs.c.ended_at.is_(None))
    if job.run is not None:
        orphans = orphans.where(runs.c.id != job.run.id)
    connection.execute(orphans.values(ended_at=job.state_since, end_reason=job.end_reason or "replaced"))

"""Jobs and their runs. People write intent and specification; the controller writes everything else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, func, select, update

from scheduler.ids import new_id
from scheduler.model import Intent, Job, JobSpec, JobState, Run
from scheduler.store.codec import digest, encode_spec
from scheduler.store.cursor import make_cursor, read_cursor
from scheduler.store.database import Database, insert_if_new
from scheduler.store.errors import AlreadyTerminal, IdempotencyConflict, NotFound, StaleRevision
from scheduler.store.fencing import write_fenced
from scheduler.store.job_rows import (
    ACTIVE,
    AnyRow,
    check_text,
    chunks,
    controller_values,
    fetch_jobs,
    run_from_row,
)
from scheduler.store.records import Event, Page
from scheduler.store.tables import jobs, runs

MAX_PAGE = 1000


class JobStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    # What people do

    def submit(
        self, spec: JobSpec, owner: str, at: datetime, idempotency_key: str | None = None
    ) -> tuple[Job, bool]:
        """Store one job; on return it is on the disk. False: the key's earlier job is given back.

        Raises:
            IdempotencyConflict: this owner used the key for another job.
        """
        stored, created = self.submit_many([spec], owner, at, idempotency_key)
        return stored[0], created

    def submit_many(
        self, specs: Sequence[JobSpec], owner: str, at: datetime, idempotency_key: str | None = None
    ) -> tuple[list[Job], bool]:
        """Store all jobs in order, or none. One key stands for the whole list.

        Raises:
            IdempotencyConflict: this owner used the key for another list.
        """
        texts = [encode_spec(spec) for spec in specs]
        asked = digest(texts)
        created = [
            Job(id=new_id("job"), spec=spec, owner=owner, submitted_at=at, state_since=at) for spec in specs
        ]
        with self._database.write() as connection:
            for index, (job, text) in enumerate(zip(created, texts, strict=True)):
                values = {
                    **controller_values(job),
                    "id": job.id,
                    "owner": check_text("owner", owner),
                    "project": check_text("project", job.spec.project),
                    "spec": text,
                    "submitted_at": at,
                    "idempotency_key": idempotency_key and check_text("idempotency_key", idempotency_key),
                    "idempotency_index": index,
                    "request_digest": asked,
                    "intent": job.intent.value,
                    "held_by_operator": False,
                    "revision": job.revision,
                }
                if not insert_if_new(connection, jobs, values):
                    return _repeated(connection, owner, str(idempotency_key), asked), False
        return created, True

    def set_intent(
        self, id: str, intent: Intent, expected_revision: int | None = None, by_operator: bool = False
    ) -> Job:
        """Write what a person wants. The revision grows, unless nothing changes. A cancel is not taken back.

        Raises:
            NotFound, StaleRevision
            AlreadyTerminal: the job has ended, or was cancelled and something else is wanted now.
        """
        with self._database.write() as connection:
            row = _for_change(connection, id, expected_revision)
            if row.intent == Intent.CANCEL.value and intent is not Intent.CANCEL:
                raise AlreadyTerminal(id, "being cancelled")
            holds = by_operator and intent in (Intent.HOLD, Intent.PAUSE)
            if (row.intent, row.held_by_operator) != (intent.value, holds):
                connection.execute(
                    update(jobs)
                    .where(jobs.c.id == id)
                    .values(intent=intent.value, held_by_operator=holds, revision=jobs.c.revision + 1)
                )
            return _get(connection, id)

    def patch(
        self, id: str, spec: JobSpec, expected_revision: int | None, only_in: JobState | None = None
    ) -> Job:
        """Replace the specification; None = whatever the revision is. Raises as `set_intent` does.

        `only_in`: AlreadyTerminal when the job has left this state meanwhile.
        """
        with self._database.write() as connection:
            row = _for_change(connection, id, expected_revision)
            if only_in is not None and row.state != only_in.value:
                raise AlreadyTerminal(id, row.state)
            connection.execute(
                update(jobs)
                .where(jobs.c.id == id)
                .values(
                    spec=encode_spec(spec),
                    project=check_text("project", spec.project),
                    revision=jobs.c.revision + 1,
                )
            )
            return _get(connection, id)

    # What the controller does

    def save(
        self,
        job: Job,
        expected_state: JobState,
        events: Iterable[Event] = (),
        run: Run | None = None,
    ) -> None:
        """Write the controller's columns, the job's run and events: all of it, or nothing.

        `run` is one that ended with this move, written beside the job's own. A live run that the job no
        longer holds, or whose job ended, is ended in the same transaction.

        Raises:
            NotFound
            StaleWrite: the row is not in `expected_state`, or another run has taken over since.
            AlreadyTerminal: `expected_state` is an end; nothing changes the job any more.
            InvalidTransition: `lifecycle.TRANSITIONS` has no such move.
        """
        with self._database.write() as connection:
            write_fenced(connection, job, expected_state, events, run)

    def clear_intent(self, id: str, was: Intent) -> bool:
        """Back to RUN if the intent is still `was`; False if a person changed it meanwhile."""
        statement = (
            update(jobs)
            .where(jobs.c.id == id, jobs.c.intent == was.value)
            .values(intent=Intent.RUN.value, held_by_operator=False)
        )
        with self._database.write() as connection:
            return connection.execute(statement).rowcount == 1

    # What anybody reads

    def get(self, id: str) -> Job:
        """Raises NotFound."""
        with self._database.read() as connection:
            return _get(connection, id)

    def page(
        self,
        states: Collection[JobState] | None = None,
        project: str | None = None,
        owner: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Job]:
        """Newest first. Raises InvalidCursor."""
        size = max(1, min(limit, MAX_PAGE))
        query = select(jobs).order_by(jobs.c.seq.desc()).limit(size + 1)
        if cursor is not None:
            query = query.where(jobs.c.seq < read_cursor("jobs", cursor))
        if states is not None:
            query = query.where(jobs.c.state.in_([state.value for state in states]))
        if project is not None:
            query = query.where(jobs.c.project == project)
        if owner is not None:
            query = query.where(jobs.c.owner == owner)
        with self._database.read() as connection:
            found = fetch_jobs(connection, query)
        more = make_cursor("jobs", found[size - 1][0]) if len(found) > size else None
        return Page([job for _, job in found[:size]], more)

    def active(self) -> list[Job]:
        """Every job that has not ended, with its current run, in the order of submission."""
        query = select(jobs).where(jobs.c.state.in_(ACTIVE)).order_by(jobs.c.seq)
        with self._database.read() as connection:
            return [job for _, job in fetch_jobs(connection, query)]

    def runs(self, job_id: str) -> list[Run]:
        """Every attempt, first to last. Raises NotFound for an unknown job."""
        query = select(runs).where(runs.c.job_id == job_id).order_by(runs.c.attempt)
        with self._database.read() as connection:
            found = [run_from_row(row) for row in connection.execute(query)]
            if not found:
                _get(connection, job_id)
        return found

    def states(self, ids: Iterable[str]) -> dict[str, JobState]:
        """States of the jobs that exist; others are missing from the answer."""
        found: dict[str, JobState] = {}
        with self._database.read() as connection:
            for part in chunks(sorted(set(ids))):
                query = select(jobs.c.id, jobs.c.state).where(jobs.c.id.in_(part))
                found.update({row.id: JobState(row.state) for row in connection.execute(query)})
        return found

    def count(self) -> dict[JobState, int]:
        """How many jobs are in each state; states without jobs are missing."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        with self._database.read() as connection:
            return {JobState(state): number for state, number in connection.execute(query)}


def _get(connection: Connection, id: str) -> Job:
    found = fetch_jobs(connection, select(jobs).where(jobs.c.id == id))
    if not found:
        raise NotFound("job", id)
    return found[0][1]


def _for_change(connection: Connection, id: str, expected_revision: int | None) -> AnyRow:
    """The row, locked until the transaction ends (SQLite has locked the whole file by now)."""
    query = select(jobs.c.state, jobs.c.intent, jobs.c.held_by_operator, jobs.c.revision)
    row = connection.execute(query.where(jobs.c.id == id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound("job", id)
    if expected_revision is not None and row.revision != expected_revision:
        raise StaleRevision(id, expected_revision, row.revision)
    if JobState(row.state).terminal:
        raise AlreadyTerminal(id, row.state)
    return row


def _repeated(connection: Connection, owner: str, key: str, asked: str) -> list[Job]:
    mine = (jobs.c.owner == owner, jobs.c.idempotency_key == key)
    digests = {row.request_digest for row in connection.execute(select(jobs.c.request_digest).where(*mine))}
    if digests != {asked}:
        raise IdempotencyConflict(key)
    query = select(jobs).where(*mine).order_by(jobs.c.idempotency_index)
    return [job for _, job in fetch_jobs(connection, query)]

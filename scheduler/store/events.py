"""The log of what happened."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, Row, delete, func, insert, select

from scheduler.store.codec import decode, encode
from scheduler.store.database import Database, take_turns
from scheduler.store.records import Event, StoredEvent
from scheduler.store.tables import events


def write_events(connection: Connection, rows: Iterable[Event]) -> None:
    """Append inside the caller's transaction; call it last in that transaction."""
    values = [
        {
            "at": e.at,
            "kind": e.kind,
            "job_id": e.job_id,
            "run_id": e.run_id,
            "data": encode(dict(e.data)),
        }
        for e in rows
    ]
    if not values:
        return
    # An event's id is given before its transaction ends: a reader could see 8 before 7 is committed, and
    # never come back for 7.
    take_turns(connection, "events")
    connection.execute(insert(events), values)


class EventStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, *rows: Event) -> None:
        """Append one or more events, all or none."""
        with self._database.write() as connection:
            write_events(connection, rows)

    def after(self, id: int, limit: int = 100, job_id: str | None = None) -> list[StoredEvent]:
        """At most `limit` events with an id above `id`, oldest first; 0 = from the beginning."""
        query = select(events).where(events.c.id > id).order_by(events.c.id).limit(limit)
        if job_id is not None:
            query = query.where(events.c.job_id == job_id)
        with self._database.read() as connection:
            return [_event(row) for row in connection.execute(query)]

    def last_id(self) -> int:
        """The id of the newest event; 0 when there is none."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.coalesce(func.max(events.c.id), 0))).scalar_one())

    def prune(self, before: datetime) -> int:
        """Forget events older than `before`; how many."""
        with self._database.write() as connection:
            return connection.execute(delete(events).where(events.c.at < before)).rowcount


def _event(row: Row[tuple[object, ...]]) -> StoredEvent:
    return StoredEvent(
        id=row.id,
        at=row.at,
        kind=row.kind,
        job_id=row.job_id,
        run_id=row.run_id,
        data=decode(row.data, "events", row.id, "data", dict),
    )

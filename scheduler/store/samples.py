"""Rolled-up telemetry, for charts. Fleet history belongs elsewhere; control never reads this."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select

from scheduler.store.database import Database, upsert
from scheduler.store.records import SampleRow
from scheduler.store.tables import samples


class SampleStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, rows: Iterable[SampleRow]) -> None:
        """Store roll-ups; the same GPU and time again replaces the row."""
        values = [asdict(row) for row in rows]
        with self._database.write() as connection:
            upsert(connection, samples, values)

    def between(
        self,
        start: datetime,
        end: datetime,
        *,
        job_id: str | None = None,
        gpu_uuid: str | None = None,
        limit: int = 10_000,
    ) -> list[SampleRow]:
        """Rows with `start <= at < end`, oldest first."""
        query = select(samples).where(samples.c.at >= start, samples.c.at < end)
        if job_id is not None:
            query = query.where(samples.c.job_id == job_id)
        if gpu_uuid is not None:
            query = query.where(samples.c.gpu_uuid == gpu_uuid)
        query = query.order_by(samples.c.at, samples.c.gpu_uuid).limit(limit)
        with self._database.read() as connection:
            return [_sample(row) for row in connection.execute(query)]

    def prune(self, before: datetime) -> int:
        """Forget rows older than `before`; how many."""
        with self._database.write() as connection:
            return connection.execute(delete(samples).where(samples.c.at < before)).rowcount


def _sample(row: Row[Any]) -> SampleRow:
    return SampleRow(**row._mapping)

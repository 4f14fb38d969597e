"""Joules per run, GPU and price slot. The rows carry totals: writing one twice changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Row, delete, func, select, tuple_
from sqlalchemy.sql import ColumnElement

from scheduler.bill import Bill, EnergyRow, make_bill
from scheduler.store.database import Database, upsert
from scheduler.store.tables import energy

# A slot is at most a quarter hour: one that touches a moment began no earlier than this before it.
_LONGEST_SLOT = timedelta(minutes=15)


class Counter(NamedTuple):
    """A GPU when it was last accounted: joules (of grid time), when, its own counter, and under which run.

    `gpu_counter_j` is what the GPU itself showed, in real joules; None = it has no counter.
    """

    counter_j: float
    at: datetime
    gpu_counter_j: float | None = None
    job_id: str | None = None
    run_id: str | None = None


class EnergyStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def upsert(self, rows: Iterable[EnergyRow]) -> None:
        """Store rows by (run, GPU, kind, slot start); a row that exists is replaced by the new totals."""
        values = [_values(row) for row in rows]
        with self._database.write() as connection:
            upsert(connection, energy, values)

    def rows(
        self,
        *,
        job_id: str | None = None,
        run_id: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[EnergyRow]:
        """Rows of a job, a run and/or slots with `start <= slot_start < end`, in order of time."""
        conditions: list[ColumnElement[bool]] = []
        if job_id is not None:
            conditions.append(energy.c.job_id == job_id)
        if run_id is not None:
            conditions.append(energy.c.run_id == run_id)
        if start is not None:
            conditions.append(energy.c.slot_start >= start)
        if end is not None:
            conditions.append(energy.c.slot_start < end)
        return self._select(*conditions)

    def for_job(self, job_id: str) -> Bill:
        """What all runs of a job used; `make_bill(rows, promised=...)` adds what its contract promised."""
        return make_bill(self.rows(job_id=job_id))

    def for_run(self, run_id: str) -> Bill:
        return make_bill(self.rows(run_id=run_id))

    def site(self, start: datetime, end: datetime) -> dict[str, Bill]:
        """One bill per kind (gpu, idle, host) and their sum as `site`, for slots that began in the period."""
        rows = self.rows(start=start, end=end)
        bills = {kind: make_bill(r for r in rows if r.kind == kind) for kind in ("gpu", "idle", "host")}
        return {**bills, "site": make_bill(rows)}

    def joules_by_slot(self, start: datetime, end: datetime) -> list[tuple[datetime, float]]:
        """(slot start, joules of all rows) for slots with `start <= slot_start < end`, in order of time."""
        query = (
            select(energy.c.slot_start, func.sum(energy.c.energy_j))
            .where(energy.c.slot_start >= start, energy.c.slot_start < end)
            .group_by(energy.c.slot_start)
            .order_by(energy.c.slot_start)
        )
        with self._database.read() as connection:
            return [(row[0], float(row[1])) for row in connection.execute(query)]

    def open_rows(self, since: datetime) -> list[EnergyRow]:
        """Rows of slots that reach beyond `since`: what must be known to go on counting from there."""
        return self._select(energy.c.slot_start > since - _LONGEST_SLOT, energy.c.slot_end > since)

    def unpriced(self, since: datetime) -> list[EnergyRow]:
        """Rows from `since` on that lack a price, for pricing once it is known."""
        return self._select(energy.c.slot_start >= since, energy.c.price_per_mwh.is_(None))

    def last_counters(self) -> dict[str, Counter]:
        """Each GPU's newest counter reading."""
        newest = (
            select(energy.c.gpu_uuid, func.max(energy.c.counter_at))
            .where(energy.c.counter_at.is_not(None))
            .group_by(energy.c.gpu_uuid)
        )
        query = select(energy).where(tuple_(energy.c.gpu_uuid, energy.c.counter_at).in_(newest))
        found: dict[str, Counter] = {}
        with self._database.read() as connection:
            for row in connection.execute(query):
                before = found.get(row.gpu_uuid)
                if before is None or row.counter_j > before.counter_j:
                    found[row.gpu_uuid] = Counter(
                        row.counter_j, row.counter_at, row.gpu_counter_j, row.job_id, row.run_id or None
                    )
        return found

    def prune(self, before: datetime) -> int:
        """Forget rows whose slot ended before `before`; how many. Bills of that time are gone with them."""
        with self._database.write() as connection:
            return connection.execute(delete(energy).where(energy.c.slot_end <= before)).rowcount

    def _select(self, *conditions: ColumnElement[bool]) -> list[EnergyRow]:
        query = (
            select(energy)
            .where(*conditions)
            .order_by(energy.c.slot_start, energy.c.run_id, energy.c.gpu_uuid, energy.c.kind)
        )
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(query)]


def _values(row: EnergyRow) -> dict[str, Any]:
    return {**asdict(row), "run_id": row.run_id or "", "gpu_uuid": row.gpu_uuid or ""}


def _row(row: Row[Any]) -> EnergyRow:
    values = dict(row._mapping)
    return EnergyRow(**{**values, "run_id": row.run_id or None, "gpu_uuid": row.gpu_uuid or None})

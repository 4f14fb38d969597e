"""Which GPUs and nodes take no new runs."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import delete, select

from scheduler.store.database import Database, upsert
from scheduler.store.errors import NotFound
from scheduler.store.job_rows import storable
from scheduler.store.records import Mark
from scheduler.store.tables import nodes


class NodeStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def marks(self) -> list[Mark]:
        """Every mark, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(nodes).order_by(nodes.c.name)).all()
        return [Mark(name=row.name, drain=row.drain, reason=row.reason, at=row.at) for row in rows]

    def cordoned(self) -> set[str]:
        """GPU UUIDs and node names that take no new runs (those that drain included)."""
        return {mark.name for mark in self.marks()}

    def draining(self) -> set[str]:
        """Those that are to be emptied too."""
        return {mark.name for mark in self.marks() if mark.drain}

    def cordon(self, name: str, *, drain: bool = False, reason: str = "", at: datetime | None = None) -> None:
        """Mark a GPU UUID or node name; again with another `drain` or reason replaces the mark."""
        row = {
            "name": storable(name),
            "drain": drain,
            "reason": storable(reason),
            "at": at or datetime.now(UTC),
        }
        with self._database.write() as connection:
            upsert(connection, nodes, [row])

    def uncordon(self, name: str) -> None:
        """Raises NotFound: it was not cordoned."""
        with self._database.write() as connection:
            if connection.execute(delete(nodes).where(nodes.c.name == name)).rowcount == 0:
                raise NotFound("cordoned node or GPU", name)

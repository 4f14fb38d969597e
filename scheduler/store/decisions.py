"""What the loop decided, cycle by cycle."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select

from scheduler.store.codec import decode, encode
from scheduler.store.cursor import make_cursor, read_cursor
from scheduler.store.database import Database
from scheduler.store.records import Page, StoredDecision
from scheduler.store.tables import decisions

MAX_PAGE = 1000


class DecisionStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, at: datetime, cycle: int, summary: Mapping[str, Any]) -> None:
        """Raises ValueError: NaN or infinity in the summary."""
        row = {"at": at, "cycle": cycle, "summary": encode(dict(summary))}
        with self._database.write() as connection:
            connection.execute(insert(decisions), [row])

    def page(self, limit: int = 100, cursor: str | None = None) -> Page[StoredDecision]:
        """Newest first. Raises InvalidCursor."""
        size = max(1, min(limit, MAX_PAGE))
        query = select(decisions).order_by(decisions.c.id.desc()).limit(size + 1)
        if cursor is not None:
            query = query.where(decisions.c.id < read_cursor("decisions", cursor))
        with self._database.read() as connection:
            found = [_decision(row) for row in connection.execute(query)]
        more = make_cursor("decisions", found[size - 1].id) if len(found) > size else None
        return Page(found[:size], more)

    def prune(self, before: datetime) -> int:
        """Forget decisions older than `before`; how many."""
        with self._database.write() as connection:
            return connection.execute(delete(decisions).where(decisions.c.at < before)).rowcount


def _decision(row: Row[Any]) -> StoredDecision:
    return StoredDecision(
        id=row.id,
        at=row.at,
        cycle=row.cycle,
        summary=decode(row.summary, "decisions", row.id, "summary", dict),
    )

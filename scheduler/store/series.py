"""Prices and carbon as the feeds gave them: the last good series, across restarts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select

from power.grid.feed import FeedAnswer, Kind
from power.series import Series, Slot
from scheduler.store.codec import decode, encode
from scheduler.store.database import Database, take_turns, upsert
from scheduler.store.records import StoredSlot
from scheduler.store.tables import series_fetches, series_slots

LOCAL_SOURCE = "local"


class SeriesStore:
    """Implements `power.grid.feed.SeriesStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, kind: Kind) -> FeedAnswer | None:
        """Everything kept of this kind, under the source of the newest fetch; None before the first."""
        with self._database.read() as connection:
            fetch = connection.execute(_fetch(kind)).one_or_none()
            if fetch is None:
                return None
            slots = _slots(connection, kind)
        return FeedAnswer(
            kind=kind,
            series=Series(tuple(Slot(s.start, s.end, s.value) for s in slots)),
            source=fetch.source,
            fetched_at=fetch.fetched_at,
            attribution=fetch.attribution,
            refused=tuple(decode(fetch.refused, "series_fetches", kind, "refused", list)),
        )

    def save(self, answer: FeedAnswer) -> None:
        """Merge the answer's slots over the stored ones; wherever two overlap, the newer fetch wins.

        A stored slot that the answer covers in part keeps the rest of its time: an hour may become an hour's
        first quarter and three fresh quarters.
        """
        fresh = [
            StoredSlot(
                start=slot.start.astimezone(UTC),
                end=slot.end.astimezone(UTC),
                value=slot.value,
                source=answer.source,
                attribution=answer.attribution,
                fetched_at=answer.fetched_at,
            )
            for slot in answer.series
        ]
        with self._database.write() as connection:
            take_turns(connection, "series")
            if fresh:
                _merge(connection, answer.kind, fresh)
            last = connection.execute(_fetch(answer.kind)).one_or_none()
            if last is None or last.fetched_at <= answer.fetched_at:
                upsert(connection, series_fetches, [_fetch_values(answer)])

    def put_local(
        self, kind: Kind, series: Series, at: datetime, source: str = LOCAL_SOURCE, attribution: str = ""
    ) -> FeedAnswer:
        """A series that a person posted; merged as any other fetch."""
        answer = FeedAnswer(kind=kind, series=series, source=source, fetched_at=at, attribution=attribution)
        self.save(answer)
        return answer

    def fetched_at(self, kind: Kind) -> datetime | None:
        """When the newest stored answer came; None before the first."""
        with self._database.read() as connection:
            fetch = connection.execute(_fetch(kind)).one_or_none()
        return None if fetch is None else fetch.fetched_at

    def age(self, kind: Kind, now: datetime) -> float | None:
        """Seconds since the newest stored answer came; None before the first."""
        fetched_at = self.fetched_at(kind)
        return None if fetched_at is None else (now - fetched_at).total_seconds()

    def slots(
        self, kind: Kind, start: datetime | None = None, end: datetime | None = None
    ) -> list[StoredSlot]:
        """Stored slots that touch `start <= t < end`, each with its own source, in order of time."""
        with self._database.read() as connection:
            return _slots(connection, kind, start, end)

    def prune(self, before: datetime) -> int:
        """Forget slots that ended before `before`; how many."""
        with self._database.write() as connection:
            return connection.execute(delete(series_slots).where(series_slots.c.end <= before)).rowcount


def _merge(connection: Connection, kind: Kind, fresh: list[StoredSlot]) -> None:
    start, end = fresh[0].start, fresh[-1].end
    stored = _slots(connection, kind, start, end)
    merged = overlay(stored, fresh)
    inside = (series_slots.c.end > start, series_slots.c.start < end)
    connection.execute(delete(series_slots).where(series_slots.c.kind == kind.value, *inside))
    connection.execute(insert(series_slots), [_slot_values(kind, slot) for slot in merged])


def overlay(stored: Iterable[StoredSlot], fresh: list[StoredSlot]) -> list[StoredSlot]:
    """Both sets as one; where they overlap the later `fetched_at` wins, and the fresh one at a tie."""
    rows = list(stored)
    newer = [s for s in rows if s.fetched_at > fresh[0].fetched_at]
    older = [s for s in rows if s.fetched_at <= fresh[0].fetched_at]
    kept = [piece for slot in older for piece in _cut(slot, fresh)]
    added = [piece for slot in fresh for piece in _cut(slot, newer)]
    return sorted([*kept, *added, *newer], key=lambda slot: slot.start)


def _cut(slot: StoredSlot, winners: Iterable[StoredSlot]) -> list[StoredSlot]:
    """What is left of a slot outside all winners (which are in order of time)."""
    pieces, start = [], slot.start
    for winner in winners:
        if winner.end <= start or winner.start >= slot.end:
            continue
        if winner.start > start:
            pieces.append(replace(slot, start=start, end=winner.start))
        start = winner.end
    if start < slot.end:
        pieces.append(replace(slot, start=start))
    return pieces


def _fetch(kind: Kind) -> Select[Any]:
    return select(series_fetches).where(series_fetches.c.kind == kind.value)


def _slots(
    connection: Connection, kind: Kind, start: datetime | None = None, end: datetime | None = None
) -> list[StoredSlot]:
    query = select(series_slots).where(series_slots.c.kind == kind.value).order_by(series_slots.c.start)
    if start is not None:
        query = query.where(series_slots.c.end > start)
    if end is not None:
        query = query.where(series_slots.c.start < end)
    return [_slot(row) for row in connection.execute(query)]


def _slot(row: Row[Any]) -> StoredSlot:
    return StoredSlot(
        start=row.start,
        end=row.end,
        value=row.value,
        source=row.source,
        attribution=row.attribution,
        fetched_at=row.fetched_at,
    )


def _slot_values(kind: Kind, slot: StoredSlot) -> dict[str, Any]:
    return {
        "kind": kind.value,
        "start": slot.start,
        "end": slot.end,
        "value": slot.value,
        "source": slot.source,
        "attribution": slot.attribution,
        "fetched_at": slot.fetched_at,
    }


def _fetch_values(answer: FeedAnswer) -> dict[str, Any]:
    return {
        "kind": answer.kind.value,
        "source": answer.source,
        "attribution": answer.attribution,
        "fetched_at": answer.fetched_at,
        "refused": encode(list(answer.refused)),
    }

"""Cuts a stretch of time at the borders of price slots. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from power.series import Series

# Time is cut at quarter hours even where a price lasts longer, so that reports can be cut there too, and
# so that energy without a price can be priced later.
QUARTER = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an interval inside one slot; `share` of the whole, all shares sum to 1."""

    slot_start: datetime
    slot_end: datetime
    share: float


def split(start: datetime, end: datetime, *series: Series) -> Iterator[Piece]:
    """Cut `start <= t < end` at quarter hours and at every slot boundary of the series, by share of time.

    An interval without length is one piece in the slot of its start. The rest after all earlier shares
    goes to the last piece, so that nothing is lost to rounding.
    """
    length_s = (end - start).total_seconds()
    at, left = start.astimezone(UTC), 1.0
    while True:
        slot_start, slot_end = _slot_around(at, series)
        if slot_end >= end or length_s <= 0:
            yield Piece(slot_start, slot_end, left)
            return
        share = (slot_end - at).total_seconds() / length_s
        yield Piece(slot_start, slot_end, share)
        at, left = slot_end, left - share


def _slot_around(at: datetime, series: Iterable[Series]) -> tuple[datetime, datetime]:
    """The longest stretch around `at` with one price, one carbon figure and one quarter hour."""
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    start = day + (at - day) // QUARTER * QUARTER
    end = start + QUARTER
    for one in series:
        slot = one.slot_at(at)
        for edge in (slot.start, slot.end) if slot else _edges_near(one, start, end):
            edge = edge.astimezone(UTC)
            if start < edge <= at:
                start = edge
            elif at < edge < end:
                end = edge
    return start, end


def _edges_near(series: Series, start: datetime, end: datetime) -> list[datetime]:
    return [edge for slot in series.between(start, end) for edge in (slot.start, slot.end)]

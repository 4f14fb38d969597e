"""One constant value: a flat tariff, or the yearly mean of a grid's carbon."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from power.clock import Clock
from power.grid.feed import FeedAnswer, FeedError, Kind
from power.series import Series, Slot

SLOT = timedelta(hours=1)
LONGEST = timedelta(days=400)


class FixedFeed:
    """Hourly slots on the full hour, so that every answer gives the same slots for the same time."""

    def __init__(self, value: float, kind: Kind, *, clock: Clock) -> None:
        if not math.isfinite(value):
            raise FeedError(f"fixed: the value is not finite: {value}")
        self.kind = kind
        self.name = "fixed"
        self._value = value
        self._clock = clock

    def fetch(self, start: datetime, end: datetime) -> FeedAnswer:
        """See `Feed.fetch`."""
        if not start < end <= start + LONGEST:
            raise FeedError(f"fixed: no slots for {start.isoformat()} .. {end.isoformat()}")
        slots = []
        at = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        while at < end:
            slots.append(Slot(at, at + SLOT, self._value))
            at += SLOT
        return FeedAnswer(
            kind=self.kind, series=Series(tuple(slots)), source=self.name, fetched_at=self._clock.now()
        )

"""Of recorded prices what was known at the time: the daemon's own view, so that no policy sees the future."""

from __future__ import annotations

import math
from bisect import bisect_right
from datetime import datetime, timedelta
from typing import Final

from power.grid.forecast import Outlook, outlook
from power.series import Series
from scheduler.horizon import AHEAD

# Day-ahead prices of the next day are published at 12:45 in Brussels' time; the day of delivery begins at
# midnight there. Both as fixed hours in UTC, on the side of knowing later and less: summer's midnight, and an
# hour after the last moment of publication.
PUBLISHED_HOUR_UTC: Final = 12
DAY_BEGINS_HOUR_UTC: Final = 22
HISTORY: Final = timedelta(days=35)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def or_nan(value: float | None) -> float:
    """For columns of figures: NaN where nothing is known."""
    return math.nan if value is None else value


class DayAhead:
    """One recorded series behind its publication times."""

    def __init__(self, series: Series) -> None:
        self._slots = series.slots
        self._starts = [slot.start for slot in series.slots]
        self._known: tuple[tuple[int, datetime], Series] | None = None
        self._outlook: tuple[datetime, datetime, Outlook] | None = None

    def known_until(self, now: datetime) -> datetime:
        """The end of what is published."""
        day = now.replace(hour=DAY_BEGINS_HOUR_UTC, minute=0, second=0, microsecond=0)
        ends = day if now < day else day + DAY  # of the day of delivery that `now` is in
        noon = ends - DAY + timedelta(hours=24 - DAY_BEGINS_HOUR_UTC + PUBLISHED_HOUR_UTC)
        return ends + DAY if now >= noon else ends

    def next_publication(self, now: datetime) -> datetime:
        """When more will be known, after `now`."""
        noon = now.replace(hour=PUBLISHED_HOUR_UTC, minute=0, second=0, microsecond=0)
        return noon if now < noon else noon + DAY

    def at(self, now: datetime) -> float | None:
        """The value in force."""
        row = self._row(now)
        return None if row is None else self._slots[row].value

    def next_border(self, now: datetime) -> datetime | None:
        """When the value changes next, by the clock of the slots; None behind the last."""
        row = bisect_right(self._starts, now)
        if row < len(self._starts):
            return self._starts[row]
        return self._slots[-1].end if self._slots and now < self._slots[-1].end else None

    def published(self, now: datetime) -> Series:
        """From the present slot on, as far as published. The very same object until that changes."""
        first = max(0, bisect_right(self._starts, now) - 1)
        key = (first, self.known_until(now))
        if self._known is None or self._known[0] != key:
            last = bisect_right(self._starts, key[1] - timedelta(microseconds=1))
            self._known = (key, Series(self._slots[first:last]))
        return self._known[1]

    def outlook(self, now: datetime) -> Outlook:
        """What is published, and behind it what may follow by the daemon's own forecast; anew each hour."""
        hour, until = now.replace(minute=0, second=0, microsecond=0), self.known_until(now)
        if self._outlook is None or self._outlook[:2] != (hour, until):
            first = max(0, bisect_right(self._starts, now) - 1)
            oldest = bisect_right(self._starts, now - HISTORY)
            history = Series(self._slots[oldest:first])
            fresh = outlook(history, self.published(now), hour, hour + HOUR + AHEAD)
            self._outlook = (hour, until, fresh)
        return self._outlook[2]

    def _row(self, now: datetime) -> int | None:
        row = bisect_right(self._starts, now) - 1
        return row if row >= 0 and now < self._slots[row].end else None

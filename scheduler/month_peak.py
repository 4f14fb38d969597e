"""The highest quarter hour of the month so far, at the root domain: what a demand charge is counted from."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta

from power.budget import PowerTree
from scheduler.slotting import QUARTER
from scheduler.store import Store

AT_ONCE = timedelta(days=1)  # of energy rows read in one turn: a month of a large site would stop the loop
AGAIN = 4 * QUARTER  # read once more: rows of a quarter that just ended may be written a little later


class MonthPeak:
    """Read from the energy rows, so it survives a restart; each quarter hour is read when it has ended.

    Months are calendar months in UTC.
    """

    def __init__(self, store: Store, tree: PowerTree) -> None:
        self._store = store
        self._overhead = tree.domains[tree.root].pue
        self._read_until: datetime | None = None
        self._peak_w = 0.0

    def at(self, now: datetime) -> float:
        """Mean watts of that quarter hour, at the meter, base loads and overhead included; 0 = none yet.

        After a start it takes a call per day of the month until all of it is read; until then it is too low.

        Raises:
            StoreUnavailable: what was read stays; the next call goes on from there.
        """
        ended = quarter_of(now)
        month = ended.replace(day=1, hour=0, minute=0)
        if self._read_until is None or self._read_until < month:
            self._read_until, self._peak_w = month, 0.0
        if self._read_until < ended:
            until = min(ended, self._read_until + AT_ONCE)
            self._peak_w = max(self._peak_w, self._highest_w(max(month, self._read_until - AGAIN), until))
            self._read_until = until
        return self._peak_w

    def _highest_w(self, start: datetime, end: datetime) -> float:
        joules: dict[datetime, float] = defaultdict(float)
        for slot_start, energy_j in self._store.energy.joules_by_slot(start, end):
            joules[quarter_of(slot_start)] += energy_j
        return max(joules.values(), default=0.0) / QUARTER.total_seconds() * self._overhead


def quarter_of(when: datetime) -> datetime:
    """The start of the quarter hour that `when` is in, in UTC."""
    day = when.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day + (when - day) // QUARTER * QUARTER

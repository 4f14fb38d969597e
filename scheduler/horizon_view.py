"""Builds the Horizon of each turn: outlooks from what is published and stored, budgets, the month's peak.

Most of it is kept from turn to turn; the database is read once an hour, or when a series changes.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from power.budget import PowerTree
from power.grid.feed import Kind
from power.grid.forecast import Outlook, outlook
from power.series import Series, Slot
from scheduler.config import Config
from scheduler.horizon import AHEAD, Horizon, less_headroom
from scheduler.month_peak import MonthPeak
from scheduler.observation import Observation
from scheduler.signal_view import SeriesView
from scheduler.store import Store, StoreUnavailable

log = logging.getLogger("wattmill.horizon")

HISTORY = timedelta(days=35)  # a week to look back on from each of four weeks
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class _Made:
    """An outlook, and what it was made from."""

    published: Series
    hour: datetime
    outlook: Outlook


class HorizonView:
    """Keeps outlooks for the hour that they were made in."""

    def __init__(self, config: Config, store: Store, tree: PowerTree) -> None:
        self._config = config
        self._store = store
        self._made: dict[Kind, _Made] = {}
        self._peak = MonthPeak(store, tree)
        self._peak_w = 0.0

    def at(self, seen: Observation) -> Horizon:
        """What is known and expected from `seen.now` on. With the database away, what was last known of it.

        `seen.wishes.budgets` are those in force or beginning within AHEAD. A signal without a value for now
        has no outlook either.
        """
        config = self._config
        ramp, headroom_w = config.control.ramp_w_per_min, config.control.headroom_w
        return Horizon(
            prices=self._outlook(seen.price, seen.now),
            carbon=self._outlook(seen.carbon, seen.now),
            budgets=less_headroom(seen.wishes.budgets, headroom_w),
            ramp_w_per_min=math.inf if ramp is None else ramp,
            demand_charge_per_kw=config.site.demand_charge_per_kw,
            month_peak_w=self._month_peak_w(seen.now),
        )

    def _outlook(self, signal: SeriesView, now: datetime) -> Outlook:
        hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        made = self._made.get(signal.kind)
        if made is not None and made.hour == hour and made.published == signal.series:
            return made.outlook
        end = hour + HOUR + AHEAD  # it is kept until the next hour, and is long enough then
        try:
            history = self._history(signal, now) if signal.series.slots else Series()
        except StoreUnavailable as error:
            log.warning("no history of %s, only what is published: %s", signal.kind, error)
            return outlook(Series(), signal.series, hour, end)
        fresh = outlook(history, signal.series, hour, end)
        self._made[signal.kind] = _Made(signal.series, hour, fresh)
        return fresh

    def _history(self, signal: SeriesView, now: datetime) -> Series:
        stored = self._store.series.slots(signal.kind, now - HISTORY, now)
        return Series(tuple(Slot(slot.start, slot.end, slot.value) for slot in stored))

    def _month_peak_w(self, now: datetime) -> float:
        """Read only where something depends on it."""
        if self._config.site.demand_charge_per_kw > 0:
            try:
                self._peak_w = self._peak.at(now)
            except StoreUnavailable as error:
                log.warning("the month's peak stays at what was read: %s", error)
        return self._peak_w

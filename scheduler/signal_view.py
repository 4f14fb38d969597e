"""What is known of one signal, and how a decision sees it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from power.grid.feed import FeedAnswer, FeedError, Kind
from power.grid.validate import whole_slots
from power.grid.wrap import age_s
from power.series import Series

PAST = timedelta(hours=24)
FUTURE = timedelta(hours=48)
SHOWN_REFUSALS = 20

State = Literal["ok", "stale", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesView:
    """A signal as decisions see it, and what must be shown beside it.

    `ok`: known now, from a source that answers. `stale`: known now, but the last answer is overdue.
    `missing`: nothing usable for now; `value_now` is None, and decisions go on without the signal.
    `age_s` is in grid seconds since the source answered. `refused_count` counts points refused since the
    start, each once however often its source repeats it.
    """

    kind: Kind
    series: Series = Series()
    value_now: float | None = None
    source: str | None = None
    attribution: str = ""
    age_s: float | None = None
    resolution_s: float | None = None
    state: State = "missing"
    refused_count: int = 0
    last_refused: tuple[str, ...] = ()
    last_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRecord:
    """The series in use and the story of its fetches; replaced whole, so that no reader sees half of it."""

    stored: FeedAnswer | None = None
    fetches: int = 0
    failed_fetches: int = 0
    failures_in_a_row: int = 0
    refused_count: int = 0
    refused: frozenset[str] = frozenset()  # by the last answer
    last_refused: tuple[str, ...] = ()
    last_error: str | None = None
    retry_after_s: float | None = None

    def after_fetch(
        self, answer: FeedAnswer | None, error: FeedError | None, retry_after_s: float | None
    ) -> SignalRecord:
        """One more fetch. `answer` is None when nothing fresh came; `error` may stand beside an answer."""
        told = replace(
            self,
            fetches=self.fetches + 1,
            last_error=None if error is None else str(error),
            retry_after_s=retry_after_s,
        )
        if answer is None:
            return replace(
                told,
                failed_fetches=self.failed_fetches + 1,
                failures_in_a_row=self.failures_in_a_row + 1,
            )
        refused = frozenset(answer.refused)
        return replace(
            told,
            failures_in_a_row=0,
            refused_count=self.refused_count + len(refused - self.refused),
            refused=refused,
            last_refused=answer.refused[:SHOWN_REFUSALS],
        )

    def with_newest(self, *candidates: FeedAnswer | None, now: datetime) -> SignalRecord:
        """The record with the newest of these and the series in use; the first of equals wins."""
        known = [answer for answer in (*candidates, self.stored) if answer is not None]
        if not known:
            return self
        newest = max(known, key=lambda answer: answer.fetched_at)
        # Months of history would be searched every second; the bill reads them from the store instead.
        near = whole_slots(newest.series, now - 2 * PAST, now + 2 * FUTURE)
        return replace(self, stored=replace(newest, series=near))

    def upcoming(self, now: datetime) -> Series:
        """The slots that are not over: what a plan depends on."""
        return Series() if self.stored is None else whole_slots(self.stored.series, now, now + FUTURE)

    def view(self, kind: Kind, now: datetime, *, stale_after_s: float, max_age_s: float) -> SeriesView:
        """The signal at `now`; limits in grid seconds."""
        view = SeriesView(
            kind=kind,
            refused_count=self.refused_count,
            last_refused=self.last_refused,
            last_error=self.last_error,
        )
        if self.stored is None:
            return view
        age = age_s(self.stored, now)
        view = replace(view, source=self.stored.source, attribution=self.stored.attribution, age_s=age)
        series = whole_slots(self.stored.series, now - PAST, now + FUTURE)
        value_now = series.at(now)
        if value_now is None or age > max_age_s:
            return view
        late = age > stale_after_s
        return replace(
            view,
            series=series,
            value_now=value_now,
            resolution_s=series.resolution_s(),
            state="stale" if late else "ok",
        )

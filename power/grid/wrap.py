"""What makes plain feeds dependable: a stored copy and an order of preference. Same Protocol, any depth."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from power.clock import Clock
from power.grid.feed import Feed, FeedAnswer, FeedError, Kind, SeriesStore
from power.grid.validate import whole_slots

logger = logging.getLogger(__name__)


class Fallback:
    """Feeds in order: the first that answers wins. `answered` names it, `failures` those before it."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        if not feeds:
            raise ValueError("a fallback needs at least one feed")
        kinds = {feed.kind for feed in feeds}
        if len(kinds) > 1:
            raise ValueError(f"feeds of different kinds never stand in for each other: {sorted(kinds)}")
        self.kind = feeds[0].kind
        self.name = " > ".join(feed.name for feed in feeds)
        self.answered: str | None = None
        self.failures: tuple[FeedError, ...] = ()
        self._feeds = tuple(feeds)

    def fetch(self, start: datetime, end: datetime) -> FeedAnswer:
        """See `Feed.fetch`. A feed that breaks in an unforeseen way counts as failed, and is logged."""
        failures: list[FeedError] = []
        self.answered = None
        try:
            for feed in self._feeds:
                answer = _attempt(feed, start, end, failures)
                if answer is not None:
                    self.answered = feed.name
                    return answer
        finally:
            self.failures = tuple(failures)
        raise FeedError("; ".join(str(error) for error in failures)) from failures[0]


class Cached:
    """Keeps every answer in a store, and answers from it when the feed cannot.

    A stored answer keeps the source and time of its own fetch, so its age is plain to see; one fetched
    longer than `max_age_s` grid seconds ago is no longer given. `from_store` tells which it was.
    """

    def __init__(self, feed: Feed, store: SeriesStore, clock: Clock, *, max_age_s: float) -> None:
        self.kind: Kind = feed.kind
        self.name = feed.name
        self.from_store = False
        self.failure: FeedError | None = None
        self._feed = feed
        self._store = store
        self._clock = clock
        self._max_age_s = max_age_s

    def fetch(self, start: datetime, end: datetime) -> FeedAnswer:
        """See `Feed.fetch`. A store that cannot save does not spoil a good answer."""
        try:
            answer = self._feed.fetch(start, end)
        except FeedError as error:
            self.failure = error
            return self._stored(start, end, error)
        self.failure, self.from_store = None, False
        try:
            self._store.save(answer)
        except Exception:
            logger.exception("series not saved", extra={"kind": str(self.kind), "source": answer.source})
        return answer

    def age_s(self) -> float | None:
        """Grid seconds since the stored series was fetched; None when nothing is stored."""
        stored = self._store.load(self.kind)
        return None if stored is None else age_s(stored, self._clock.now())

    def resolution_s(self) -> float | None:
        """The most common slot length of the stored series; None when nothing is stored."""
        stored = self._store.load(self.kind)
        return None if stored is None else stored.series.resolution_s()

    def _stored(self, start: datetime, end: datetime, error: FeedError) -> FeedAnswer:
        self.from_store = True
        stored = self._store.load(self.kind)
        if stored is None:
            raise error
        age = age_s(stored, self._clock.now())
        if age > self._max_age_s:
            raise FeedError(f"{error}; the stored series is {age / 3600:.1f} h old") from error
        series = whole_slots(stored.series, start, end)
        if not series.slots:
            raise FeedError(f"{error}; the stored series has nothing for this time") from error
        return FeedAnswer(
            kind=stored.kind,
            series=series,
            source=stored.source,
            fetched_at=stored.fetched_at,
            attribution=stored.attribution,
        )


def age_s(answer: FeedAnswer, now: datetime) -> float:
    """Grid seconds since the answer was fetched; 0 for one from the future (a clock was set back)."""
    return max(0.0, (now - answer.fetched_at).total_seconds())


def _attempt(feed: Feed, start: datetime, end: datetime, failures: list[FeedError]) -> FeedAnswer | None:
    try:
        return feed.fetch(start, end)
    except FeedError as error:
        failures.append(error)
    except Exception as error:
        logger.exception("feed broke", extra={"feed": feed.name})
        failures.append(FeedError(f"{feed.name}: broke with {type(error).__name__}"))
    return None

"""Keeps prices and carbon up to date beside the loop. Whatever a feed does, `current` answers at once.

Polls run on APScheduler's threads and write to the series store. The loop reads a copy in memory, so that
neither a slow feed nor a database that is down can hold it up.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from power.clock import Clock
from power.grid.feed import Feed, FeedAnswer, FeedError, Kind, SeriesStore
from power.grid.http import FetchError
from power.grid.registry import FeedLimits, build_chain
from power.grid.validate import Band
from power.grid.wrap import Cached, Fallback
from scheduler.config import Config, Signal
from scheduler.signal_view import FUTURE, PAST, SeriesView, SignalRecord
from telemetry.metrics import counter_key

__all__ = ["FeedPoller", "SeriesView"]

log = logging.getLogger("wattmill.feeds")

RELOAD_S = 10.0  # how soon a series that another process stored is seen, real seconds
SHORTEST_POLL_S = 30.0  # real seconds between polls, however fast grid time runs
FIRST_RETRY_S = 60.0
LONGEST_RETRY_AFTER_S = 6 * 3600.0
LATE_POLLS = 2.0  # a series older than this many polls is stale


@runtime_checkable
class KnowsFetchTime(Protocol):
    """A series store that can tell cheaply whether anything is new."""

    def fetched_at(self, kind: Kind) -> datetime | None: ...


class FeedPoller:
    """Polls each kind on its own, with jitter, back-off and a chain of fallbacks.

    `feeds` replaces the configured chains. `on_change` is called, on a poller's thread, after a
    series has changed. `first_retry_s` real seconds after a failure it tries again, then twice as long.

    Raises:
        power.grid.registry.InvalidFeed: the configuration asks for a feed that cannot be built.
    """

    def __init__(
        self,
        config: Config,
        store: SeriesStore,
        clock: Clock,
        *,
        feeds: Mapping[Kind, Feed] | None = None,
        on_change: Callable[[Kind], None] | None = None,
        rng: random.Random | None = None,
        first_retry_s: float = FIRST_RETRY_S,
    ) -> None:
        self._signals = {Kind.PRICE: config.price, Kind.CARBON: config.carbon}
        self._store = store
        self._clock = clock
        self._on_change = on_change
        self._rng = rng or random.Random()
        self._first_retry_s = first_retry_s
        chains = _chains(self._signals, clock, config.site.currency) if feeds is None else feeds
        self._feeds = dict(chains)
        self._lock = threading.Lock()
        self._records = {kind: SignalRecord() for kind in Kind}
        self._scheduler: Any = None

    def start(self) -> None:
        """Load what is stored, then poll every kind at once and for ever after, in the background."""
        self.reload()
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(len(Kind) + 1)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        for kind in self._feeds:
            # The interval is only the safety net; each turn sets the time of the next one itself.
            every = IntervalTrigger(seconds=self._period_s(kind))
            self._scheduler.add_job(self._turn, every, [kind], id=str(kind), next_run_time=datetime.now(UTC))
        self._scheduler.add_job(self.reload, IntervalTrigger(seconds=RELOAD_S), id="reload")
        self._scheduler.start()

    def stop(self) -> None:
        """No further polls; one in flight ends at its deadline, unheeded."""
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler.pause()  # else a turn that is due at this moment meets executors that are gone
            scheduler.shutdown(wait=False)

    def poll(self, kind: Kind) -> SeriesView:
        """Fetch once, now, and return how things stand. No feed and no store can make it raise."""
        feed = self._feeds.get(kind)
        if feed is None:
            return self.current(kind)
        cached = Cached(feed, self._store, self._clock, max_age_s=self._signals[kind].max_age_s)
        answer, error = self._fetch(cached)
        fresh = None if cached.from_store else answer
        tried = feed.failures if isinstance(feed, Fallback) else (error,)
        told = error or next((failure for failure in tried if failure is not None), None)
        waits = [f.retry_after_s for f in tried if isinstance(f, FetchError) and f.retry_after_s]
        with self._lock:
            record = self._records[kind].after_fetch(fresh, told, max(waits, default=None))
            self._records[kind] = record
        _tell(kind, fresh, told)
        self._load(kind, answer)
        return self.current(kind)

    def reload(self) -> None:
        """Read the stored series again: another process may have put one there."""
        for kind in Kind:
            if not self._up_to_date(kind):
                self._load(kind, None)

    def current(self, kind: Kind, now: datetime | None = None) -> SeriesView:
        """The series in use from a day ago on, with source, age and state. Reads memory only."""
        with self._lock:
            record = self._records[kind]
        return record.view(
            kind,
            now or self._clock.now(),
            stale_after_s=LATE_POLLS * self._period_s(kind) * self._clock.rate,
            max_age_s=self._signals[kind].max_age_s,
        )

    def counters(self) -> dict[str, float]:
        """Counts since start, under the names of `telemetry/metrics.py`."""
        counts: dict[str, float] = {}
        with self._lock:
            records = dict(self._records)
        for kind in self._feeds:
            record, label = records[kind], str(kind)
            failed = record.failed_fetches
            for result, count in (("ok", record.fetches - failed), ("failed", failed)):
                counts[counter_key("wattmill_feed_fetches_total", kind=label, result=result)] = count
            counts[counter_key("wattmill_feed_refused_points_total", kind=label)] = record.refused_count
        return counts

    def next_delay_s(self, kind: Kind) -> float:
        """Real seconds until the next poll: the period, or sooner after a failure, plus jitter.

        Never sooner than a server asked for, up to six hours.
        """
        with self._lock:
            record = self._records[kind]
        period_s = self._period_s(kind)
        wait_s = period_s
        if record.failures_in_a_row:
            doubled_s = self._first_retry_s * 2.0 ** min(record.failures_in_a_row - 1, 20)
            wait_s = min(period_s, doubled_s) * self._rng.uniform(0.5, 1.0)
        asked_s = min(record.retry_after_s or 0.0, LONGEST_RETRY_AFTER_S)
        jitter_s = self._rng.uniform(0.0, min(self._signals[kind].jitter_s, period_s / 2))
        return max(wait_s, asked_s) + jitter_s

    def _period_s(self, kind: Kind) -> float:
        """Real seconds between polls; `poll_s` is grid time, like the series itself."""
        return max(self._signals[kind].poll_s / self._clock.rate, SHORTEST_POLL_S)

    def _turn(self, kind: Kind) -> None:
        try:
            self.poll(kind)
        finally:
            due = datetime.now(UTC) + timedelta(seconds=self.next_delay_s(kind))
            scheduler = self._scheduler
            if scheduler is not None:
                with suppress(JobLookupError):  # stopped meanwhile
                    scheduler.modify_job(str(kind), next_run_time=due)

    def _fetch(self, cached: Cached) -> tuple[FeedAnswer | None, FeedError | None]:
        hour = self._clock.now().astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        try:
            answer = cached.fetch(hour - PAST, hour + FUTURE)
        except FeedError as error:
            return None, error
        except Exception as error:
            log.exception("feed broke", extra={"feed": cached.name})
            return None, FeedError(f"{cached.name}: broke with {type(error).__name__}")
        return answer, cached.failure

    def _up_to_date(self, kind: Kind) -> bool:
        if not isinstance(self._store, KnowsFetchTime):
            return False
        with self._lock:
            known = self._records[kind].stored
        try:
            return known is not None and self._store.fetched_at(kind) == known.fetched_at
        except Exception:
            log.exception("time of the stored series not read", extra={"kind": str(kind)})
            return True

    def _load(self, kind: Kind, answer: FeedAnswer | None) -> None:
        """Take over the newest of the stored series, `answer`, and what is in memory."""
        stored: FeedAnswer | None = None
        try:
            stored = self._store.load(kind)
        except Exception:
            log.exception("stored series not read", extra={"kind": str(kind)})
        now = self._clock.now()
        with self._lock:
            before = self._records[kind]
            after = before.with_newest(stored, answer, now=now)
            self._records[kind] = after
        if self._on_change is not None and before.upcoming(now) != after.upcoming(now):
            try:
                self._on_change(kind)
            except Exception:
                log.exception("on_change broke", extra={"kind": str(kind)})


def _chains(signals: Mapping[Kind, Signal], clock: Clock, currency: str) -> dict[Kind, Feed]:
    chains: dict[Kind, Feed] = {}
    for kind, signal in signals.items():
        limits = FeedLimits(
            deadline_s=signal.deadline_s,
            max_bytes=signal.max_bytes,
            band=Band(low=signal.plausible_min, high=signal.plausible_max),
            currency=currency,
        )
        chain = build_chain(signal.feeds, kind, limits, clock)
        if chain is not None:
            chains[kind] = chain
    return chains


def _tell(kind: Kind, fresh: FeedAnswer | None, error: FeedError | None) -> None:
    about = {"kind": str(kind)}
    if error is not None:
        answered = None if fresh is None else fresh.source
        log.warning("feed failed", extra={**about, "error": str(error), "answered_by": answered})
    if fresh is not None:
        log.info("series fetched", extra={**about, "source": fresh.source, "slots": len(fresh.series)})
        if fresh.refused:
            first = fresh.refused[0]
            log.warning("points refused", extra={**about, "count": len(fresh.refused), "first": first})

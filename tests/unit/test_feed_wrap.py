"""Fallback and cache: the same Protocol, whatever the feeds below do."""

from __future__ import annotations

from datetime import timedelta

import pytest

from power.clock import FakeClock
from power.grid.feed import FeedError, Kind
from power.grid.wrap import Cached, Fallback
from tests.feed_builders import NOON, MemorySeriesStore, ScriptedFeed, hourly, no_answer

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class TestFallback:
    def test_the_first_that_answers_wins_and_is_named(self) -> None:
        broken = ScriptedFeed([no_answer("a")], name="a")
        second, third = ScriptedFeed([hourly([5.0])], name="b"), ScriptedFeed([hourly([9.0])], name="c")
        chain = Fallback([broken, second, third])
        answer = chain.fetch(NOON, NOON + DAY)
        assert (answer.source, answer.series.at(NOON)) == ("b", 5.0)
        assert chain.answered == "b"
        assert [str(error) for error in chain.failures] == ["a: no answer"]
        assert third.fetches == 0

    def test_when_all_fail_every_reason_is_told(self) -> None:
        chain = Fallback([ScriptedFeed([no_answer("a")]), ScriptedFeed([no_answer("b")])])
        with pytest.raises(FeedError, match="a: no answer; b: no answer"):
            chain.fetch(NOON, NOON + DAY)
        assert chain.answered is None

    def test_a_feed_with_a_bug_is_passed_over(self, caplog: pytest.LogCaptureFixture) -> None:
        chain = Fallback(
            [ScriptedFeed([ZeroDivisionError("oops")], name="buggy"), ScriptedFeed([hourly([1.0])])]
        )
        assert chain.fetch(NOON, NOON + DAY).series.at(NOON) == 1.0
        assert str(chain.failures[0]) == "buggy: broke with ZeroDivisionError"
        assert "feed broke" in caplog.text

    def test_the_first_is_tried_again_each_time(self) -> None:
        chain = Fallback(
            [ScriptedFeed([no_answer(), hourly([1.0])], name="a"), ScriptedFeed([hourly([2.0])])]
        )
        assert chain.fetch(NOON, NOON + DAY).series.at(NOON) == 2.0
        assert chain.fetch(NOON, NOON + DAY).series.at(NOON) == 1.0
        assert chain.failures == ()

    def test_kinds_never_stand_in_for_each_other(self) -> None:
        with pytest.raises(ValueError, match="different kinds"):
            Fallback([ScriptedFeed([hourly([1.0])]), ScriptedFeed([hourly([1.0])], kind=Kind.CARBON)])
        with pytest.raises(ValueError, match="at least one"):
            Fallback([])


class TestCached:
    def cached(self, feed: ScriptedFeed, store: MemorySeriesStore, clock: FakeClock) -> Cached:
        return Cached(feed, store, clock, max_age_s=48 * 3600)

    def test_an_answer_is_stored_with_its_source_age_and_resolution(self) -> None:
        store, clock = MemorySeriesStore(), FakeClock(NOON)
        cached = self.cached(ScriptedFeed([hourly([1.0, 2.0])]), store, clock)
        assert cached.age_s() is None
        assert cached.resolution_s() is None
        cached.fetch(NOON, NOON + DAY)
        clock.advance(600)
        assert store.answers[Kind.PRICE].source == "scripted"
        assert (cached.age_s(), cached.resolution_s()) == (600.0, 3600.0)

    def test_a_failed_feed_is_replaced_by_what_is_stored_under_its_own_time(self) -> None:
        store, clock = MemorySeriesStore(), FakeClock(NOON)
        cached = self.cached(ScriptedFeed([hourly([1.0, 2.0]), no_answer()]), store, clock)
        cached.fetch(NOON, NOON + DAY)
        clock.advance(3600)
        answer = cached.fetch(NOON + HOUR, NOON + DAY)
        assert cached.from_store
        assert str(cached.failure) == "scripted: no answer"
        assert (answer.fetched_at, answer.series.at(NOON + HOUR)) == (NOON, 2.0)

    def test_a_bad_answer_leaves_the_last_good_series_in_the_store(self) -> None:
        store = MemorySeriesStore()
        cached = self.cached(ScriptedFeed([hourly([1.0]), no_answer()]), store, FakeClock(NOON))
        cached.fetch(NOON, NOON + DAY)
        good = store.answers[Kind.PRICE]
        cached.fetch(NOON, NOON + DAY)
        assert store.answers[Kind.PRICE] is good

    def test_too_old_a_store_is_no_answer(self) -> None:
        store, clock = MemorySeriesStore(), FakeClock(NOON)
        cached = self.cached(ScriptedFeed([hourly([1.0] * 100), no_answer()]), store, clock)
        cached.fetch(NOON, NOON + DAY)
        clock.advance(49 * 3600)
        with pytest.raises(FeedError, match=r"no answer; the stored series is 49\.0 h old"):
            cached.fetch(NOON + 2 * DAY, NOON + 3 * DAY)

    def test_a_store_without_this_time_is_no_answer(self) -> None:
        cached = self.cached(ScriptedFeed([hourly([1.0]), no_answer()]), MemorySeriesStore(), FakeClock(NOON))
        cached.fetch(NOON, NOON + DAY)
        with pytest.raises(FeedError, match="nothing for this time"):
            cached.fetch(NOON + DAY, NOON + 2 * DAY)

    def test_an_empty_store_passes_the_feeds_own_error_on(self) -> None:
        cached = self.cached(ScriptedFeed([no_answer()]), MemorySeriesStore(), FakeClock(NOON))
        with pytest.raises(FeedError, match="scripted: no answer"):
            cached.fetch(NOON, NOON + DAY)

    def test_a_lost_database_does_not_spoil_a_good_answer(self, caplog: pytest.LogCaptureFixture) -> None:
        store = MemorySeriesStore()
        store.broken = True
        cached = self.cached(ScriptedFeed([hourly([1.0])]), store, FakeClock(NOON))
        assert cached.fetch(NOON, NOON + DAY).series.at(NOON) == 1.0
        assert "series not saved" in caplog.text

    def test_an_answer_from_the_future_has_age_zero(self) -> None:
        store = MemorySeriesStore()
        cached = self.cached(ScriptedFeed([hourly([1.0])]), store, FakeClock(NOON - DAY))
        cached.fetch(NOON, NOON + DAY)
        assert cached.age_s() == 0.0

    def test_wrappers_nest(self) -> None:
        store, clock = MemorySeriesStore(), FakeClock(NOON)
        first = Cached(ScriptedFeed([no_answer("a")], name="a"), store, clock, max_age_s=3600)
        chain = Fallback([first, ScriptedFeed([hourly([3.0])], name="b")])
        assert Cached(chain, store, clock, max_age_s=3600).fetch(NOON, NOON + DAY).source == "b"

"""The poller: whatever feeds and store do, `current` answers with a named state."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from power.clock import FakeClock, SystemClock
from power.grid.feed import FeedAnswer, Kind
from power.grid.registry import InvalidFeed
from power.grid.wrap import Fallback
from scheduler.config import Config, FeedConfig, Signal
from scheduler.feeds import FeedPoller
from telemetry.metrics import render
from tests.feed_builders import (
    DAY_OF_PRICES,
    NOON,
    MemorySeriesStore,
    PollerStand,
    ScriptedFeed,
    hourly,
    no_answer,
    poller_config,
)

PRICE, CARBON = Kind.PRICE, Kind.CARBON


class TestCurrent:
    def test_before_anything_was_fetched_it_is_missing(self) -> None:
        view = PollerStand().poller.current(PRICE)
        assert (view.state, view.value_now, view.source, len(view.series)) == ("missing", None, None, 0)

    def test_after_a_poll_it_is_ok_with_source_age_and_resolution(self) -> None:
        stand = PollerStand()
        stand.poller.poll(PRICE)
        stand.clock.advance(1800)
        view = stand.poller.current(PRICE)
        assert (view.state, view.value_now, view.source) == ("ok", 0.0, "scripted")
        assert (view.age_s, view.resolution_s) == (1800.0, 3600.0)
        assert view.series.at(NOON + timedelta(hours=5)) == 5.0

    def test_the_value_follows_the_clock_without_a_poll(self) -> None:
        stand = PollerStand()
        stand.poller.poll(PRICE)
        assert stand.poller.current(PRICE, NOON + timedelta(hours=1)).value_now == 1.0

    def test_zero_is_a_price(self) -> None:
        view = PollerStand(hourly([0.0])).poller.poll(PRICE)
        assert (view.state, view.value_now) == ("ok", 0.0)

    def test_carbon_without_a_feed_is_missing_and_its_poll_does_nothing(self) -> None:
        assert PollerStand().poller.poll(CARBON).state == "missing"

    def test_outside_the_series_it_is_missing_but_says_from_where(self) -> None:
        stand = PollerStand(hourly([1.0]))
        stand.poller.poll(PRICE)
        view = stand.poller.current(PRICE, NOON + timedelta(hours=1))
        assert (view.state, view.value_now, view.source, view.age_s) == ("missing", None, "scripted", 3600.0)

    @pytest.mark.parametrize(
        ("hours", "state"), [(1.0, "ok"), (1.9, "ok"), (3.0, "stale"), (24.0, "stale"), (72.0, "missing")]
    )
    def test_an_old_series_is_stale_and_then_no_longer_used(self, hours: float, state: str) -> None:
        stand = PollerStand(hourly([9.0] * 80), no_answer(), max_age_s=48 * 3600.0)
        stand.poller.poll(PRICE)
        stand.clock.advance(hours * 3600)
        view = stand.poller.poll(PRICE)
        assert view.state == state
        assert view.value_now == (None if state == "missing" else 9.0)
        assert view.last_error == "scripted: no answer" or hours > 48

    def test_at_a_scaled_clock_ages_and_periods_are_grid_time(self) -> None:
        stand = PollerStand(rate=100.0)
        stand.poller.poll(PRICE)
        stand.clock.advance(36)
        view = stand.poller.current(PRICE)
        assert (view.age_s, view.state) == (3600.0, "ok")


class TestFailures:
    def test_the_last_good_series_stays_and_the_error_shows(self) -> None:
        stand = PollerStand(DAY_OF_PRICES, no_answer())
        stand.poller.poll(PRICE)
        view = stand.poller.poll(PRICE)
        assert (view.state, view.value_now, view.last_error) == ("ok", 0.0, "scripted: no answer")

    def test_the_error_goes_when_the_feed_comes_back(self) -> None:
        stand = PollerStand(no_answer(), DAY_OF_PRICES)
        assert stand.poller.poll(PRICE).last_error == "scripted: no answer"
        assert stand.poller.poll(PRICE).last_error is None

    @pytest.mark.parametrize("error", [ValueError("bug"), RecursionError(), MemoryError(), KeyError("x")])
    def test_a_feed_with_a_bug_is_survived(self, error: Exception) -> None:
        view = PollerStand(error).poller.poll(PRICE)
        assert view.state == "missing"
        assert view.last_error == f"scripted: broke with {type(error).__name__}"

    def test_a_fallback_that_answers_is_ok_and_still_tells_why(self) -> None:
        stand = PollerStand()
        chain = Fallback([ScriptedFeed([no_answer("first")]), ScriptedFeed([hourly([7.0])], name="second")])
        view = stand.another(poller_config(), {PRICE: chain}).poll(PRICE)
        assert (view.state, view.source, view.last_error) == ("ok", "second", "first: no answer")

    def test_a_lost_database_hides_no_price(self) -> None:
        stand = PollerStand()
        stand.store.broken = True
        assert stand.poller.poll(PRICE).value_now == 0.0
        stand.poller.reload()
        assert stand.poller.current(PRICE).state == "ok"
        stand.feed._script = [no_answer()]
        assert stand.poller.poll(PRICE).value_now == 0.0

    def test_a_listener_that_breaks_is_survived(self) -> None:
        def breaks(kind: Kind) -> None:
            raise RuntimeError("listener")

        stand = PollerStand()
        poller = FeedPoller(
            poller_config(), stand.store, stand.clock, feeds={PRICE: stand.feed}, on_change=breaks
        )
        assert poller.poll(PRICE).state == "ok"


class TestRefusals:
    def test_refused_points_are_counted_once_each_and_listed(self) -> None:
        stand = PollerStand()
        stand.feed.refused = ("12:00: not finite", "13:00: no value (null)")
        stand.poller.poll(PRICE)
        view = stand.poller.poll(PRICE)
        assert view.refused_count == 2
        assert view.last_refused == ("12:00: not finite", "13:00: no value (null)")
        stand.feed.refused = ("13:00: no value (null)", "14:00: not finite")
        assert stand.poller.poll(PRICE).refused_count == 3

    def test_a_flood_of_refusals_is_shown_in_part(self) -> None:
        stand = PollerStand()
        stand.feed.refused = tuple(f"point {i}" for i in range(1000))
        view = stand.poller.poll(PRICE)
        assert (view.refused_count, len(view.last_refused)) == (1000, 20)

    def test_counters_are_in_the_table_of_metrics(self) -> None:
        stand = PollerStand(DAY_OF_PRICES, no_answer())
        stand.feed.refused = ("x",)
        stand.poller.poll(PRICE)
        stand.poller.poll(PRICE)
        text = render({"counters": stand.poller.counters()}).decode()
        assert 'wattmill_feed_fetches_total{kind="price",result="ok"} 1.0' in text
        assert 'wattmill_feed_fetches_total{kind="price",result="failed"} 1.0' in text
        assert 'wattmill_feed_refused_points_total{kind="price"} 1.0' in text
        assert "wattmill_unlisted_counters 0.0" in text


class TestStored:
    def test_a_restart_goes_on_with_what_is_stored(self) -> None:
        stand = PollerStand(DAY_OF_PRICES, no_answer())
        stand.poller.poll(PRICE)
        stand.clock.advance(3600)
        restarted = stand.another(poller_config())
        restarted.reload()
        view = restarted.current(PRICE)
        assert (view.state, view.value_now, view.age_s, view.source) == ("ok", 1.0, 3600.0, "scripted")
        assert restarted.poll(PRICE).value_now == 1.0

    def test_a_series_that_another_process_stored_is_seen(self) -> None:
        stand = PollerStand()
        stand.poller.poll(PRICE)
        stand.clock.advance(60)
        local = FeedAnswer(kind=PRICE, series=hourly([333.0]), source="local", fetched_at=stand.clock.now())
        stand.store.save(local)
        stand.poller.reload()
        assert (stand.poller.current(PRICE).value_now, stand.poller.current(PRICE).source) == (333.0, "local")

    def test_listeners_hear_of_changes_only(self) -> None:
        stand = PollerStand(DAY_OF_PRICES, DAY_OF_PRICES, hourly([99.0] * 24))
        stand.poller.poll(PRICE)
        stand.clock.advance(4 * 3600)
        stand.poller.poll(PRICE)
        assert stand.changes == [PRICE]
        stand.poller.poll(PRICE)
        assert stand.changes == [PRICE, PRICE]

    def test_a_store_that_tells_fetch_times_is_not_read_in_vain(self) -> None:
        class Telling(MemorySeriesStore):
            loads = 0

            def load(self, kind: Kind) -> FeedAnswer | None:
                self.loads += 1
                return super().load(kind)

            def fetched_at(self, kind: Kind) -> datetime | None:
                answer = self.answers.get(kind)
                return None if answer is None else answer.fetched_at

        stand = PollerStand()
        stand.store = Telling()
        poller = stand.another(poller_config())
        poller.poll(PRICE)
        before = stand.store.loads
        poller.reload()
        assert stand.store.loads == before + 1  # carbon, of which nothing is known


class TestConfigured:
    def test_feeds_are_built_from_the_configuration(self, tmp_path: Path) -> None:
        path = tmp_path / "p.csv"
        path.write_text("time_utc,value\n2026-01-15T12:00:00Z,50\n2026-01-15T13:00:00Z,60\n")
        settings = Config(
            price=Signal(feeds=[FeedConfig(type="csv", path=path), FeedConfig(type="fixed", value=90.0)]),
            carbon=Signal(feeds=[FeedConfig(type="fixed", value=380.0)], plausible_min=0.0),
        )
        clock = FakeClock(NOON)
        poller = FeedPoller(settings, MemorySeriesStore(), clock)
        assert (poller.poll(PRICE).value_now, poller.poll(CARBON).value_now) == (50.0, 380.0)
        clock.advance(7 * 24 * 3600)
        late = poller.poll(PRICE)
        assert (late.value_now, late.source) == (90.0, "fixed")
        assert "p.csv covers" in (late.last_error or "")

    def test_a_feed_that_cannot_be_built_is_told_at_the_start(self) -> None:
        settings = Config(price=Signal(feeds=[FeedConfig(type="fixed", value=1e9)]))
        with pytest.raises(InvalidFeed, match="outside"):
            FeedPoller(settings, MemorySeriesStore(), SystemClock())

"""When the poller polls: period, jitter, back-off; and that its threads never hold anyone up."""

from __future__ import annotations

import threading
import time
from datetime import datetime

import pytest

from power.grid.feed import FeedAnswer, FeedError, Kind
from power.grid.http import FetchError
from power.grid.wrap import Fallback
from tests.feed_builders import (
    DAY_OF_PRICES,
    PollerStand,
    ScriptedFeed,
    eventually,
    hourly,
    no_answer,
    poller_config,
)

PRICE, CARBON = Kind.PRICE, Kind.CARBON


class TestDelays:
    def test_a_good_poll_waits_for_the_period(self) -> None:
        stand = PollerStand()
        stand.poller.poll(PRICE)
        assert stand.poller.next_delay_s(PRICE) == 3600.0

    def test_jitter_spreads_but_never_beyond_half_a_period(self) -> None:
        stand = PollerStand(jitter_s=120.0)
        delays = {stand.poller.next_delay_s(PRICE) for _ in range(50)}
        assert len(delays) == 50
        assert all(3600 <= delay <= 3720 for delay in delays)
        tight = PollerStand(jitter_s=1e6)
        assert tight.poller.next_delay_s(PRICE) <= 5400

    def test_failures_back_off_up_to_the_period(self) -> None:
        stand = PollerStand(no_answer())
        delays = []
        for _ in range(10):
            stand.poller.poll(PRICE)
            delays.append(stand.poller.next_delay_s(PRICE))
        for index, delay in enumerate(delays):
            ceiling = min(3600.0, 60.0 * 2**index)
            assert ceiling / 2 <= delay <= ceiling

    @pytest.mark.parametrize(("asked_s", "delay_s"), [(7200.0, 7200.0), (5.0, 60.0), (1e6, 21600.0)])
    def test_a_server_that_asks_for_patience_gets_it_within_reason(
        self, asked_s: float, delay_s: float
    ) -> None:
        stand = PollerStand(FetchError("busy", status=429, retry_after_s=asked_s))
        stand.poller.poll(PRICE)
        assert delay_s / 2 <= stand.poller.next_delay_s(PRICE) <= delay_s

    def test_patience_counts_also_when_a_fallback_answers(self) -> None:
        stand = PollerStand()
        busy = ScriptedFeed([FetchError("busy", status=503, retry_after_s=9000.0)])
        poller = stand.another(poller_config(), {PRICE: Fallback([busy, ScriptedFeed([DAY_OF_PRICES])])})
        poller.poll(PRICE)
        assert poller.next_delay_s(PRICE) == 9000.0

    def test_fast_grid_time_polls_sooner_but_no_server_is_flooded(self) -> None:
        assert PollerStand(rate=60.0).poller.next_delay_s(PRICE) == 60.0
        assert PollerStand(rate=10_000.0).poller.next_delay_s(PRICE) == 30.0


class TestBackground:
    def test_polls_at_once_and_reads_never_wait_for_a_slow_feed(self) -> None:
        gate, asked = threading.Event(), threading.Event()

        class Slow(ScriptedFeed):
            def fetch(self, start: datetime, end: datetime) -> FeedAnswer:
                asked.set()
                gate.wait(10)
                return super().fetch(start, end)

        stand = PollerStand()
        poller = stand.another(poller_config(), {PRICE: Slow([DAY_OF_PRICES])})
        poller.start()
        try:
            assert asked.wait(5)
            began = time.monotonic()
            assert poller.current(PRICE).state == "missing"
            assert time.monotonic() - began < 2.0
            gate.set()
            assert eventually(lambda: poller.current(PRICE).state == "ok")
        finally:
            gate.set()
            poller.stop()

    def test_one_slow_kind_does_not_hold_up_the_other(self) -> None:
        gate = threading.Event()

        class Slow(ScriptedFeed):
            def fetch(self, start: datetime, end: datetime) -> FeedAnswer:
                gate.wait(10)
                raise FeedError("late")

        stand = PollerStand()
        carbon = ScriptedFeed([hourly([400.0])], kind=CARBON)
        poller = stand.another(poller_config(), {PRICE: Slow([no_answer()]), CARBON: carbon})
        poller.start()
        try:
            assert eventually(lambda: poller.current(CARBON).value_now == 400.0)
        finally:
            gate.set()
            poller.stop()

    def test_a_failed_poll_is_tried_again_by_itself(self) -> None:
        stand = PollerStand()
        feed = ScriptedFeed([no_answer(), no_answer(), DAY_OF_PRICES])
        poller = stand.another(poller_config(), {PRICE: feed}, first_retry_s=0.05)
        poller.start()
        try:
            assert eventually(lambda: poller.current(PRICE).state == "ok")
            assert feed.fetches == 3
        finally:
            poller.stop()

    def test_stopping_at_any_moment_breaks_no_thread(self) -> None:
        for _ in range(20):
            stand = PollerStand()
            stand.poller.start()
            stand.poller.stop()

    def test_stop_is_safe_twice_and_before_start(self) -> None:
        stand = PollerStand()
        stand.poller.stop()
        stand.poller.start()
        stand.poller.stop()
        stand.poller.stop()

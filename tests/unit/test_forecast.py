"""Beyond the published curve: half yesterday, half the week, and how far that misses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from power.clock import FakeClock
from power.grid.feed import Kind
from power.grid.forecast import Outlook, outlook
from power.grid.replay import ReplayFeed
from power.series import Series
from tests.builders import NOW, hours, prices

DAY = timedelta(days=1)
MIDNIGHT = NOW.replace(hour=0)


def days(row: str, count: int, *, until: datetime = MIDNIGHT, step_h: float = 6.0) -> Series:
    """The same day over and over, up to `until`; `-` is a gap."""
    return prices(" ".join([row] * count), start=until - count * DAY, step_h=step_h)


def drawn(series: Series) -> str:
    """`10 20 - 40`: one word per slot, `-` for a gap of the usual length."""
    step = min((slot.end - slot.start for slot in series), default=DAY)
    words: list[str] = []
    at = series.slots[0].start if series.slots else MIDNIGHT
    for slot in series:
        words += ["-"] * round((slot.start - at) / step) + [f"{slot.value:g}"]
        at = slot.end
    return " ".join(words)


def ahead(history: Series, published: Series, *, span_h: float = 48.0) -> Outlook:
    return outlook(history, published, MIDNIGHT, MIDNIGHT + hours(span_h))


def test_published_values_come_first_and_the_pattern_follows() -> None:
    seen = ahead(days("10 20 30 40", 21), prices("17 27 37 47", start=MIDNIGHT, step_h=6.0))
    # half of 17, half of the week's mean: six days of 10 and one of 17
    assert drawn(seen.expected) == "17 27 37 47 14 24 34 44"
    assert drawn(seen.high) == drawn(seen.expected)  # it never missed before


def test_it_is_exact_where_every_day_is_the_same() -> None:
    seen = ahead(days("10 20 30 40", 21), prices("10 20", start=MIDNIGHT, step_h=6.0))
    assert drawn(seen.expected) == drawn(seen.high) == "10 20 30 40 10 20 30 40"


def test_high_is_what_it_missed_by_in_one_case_out_of_ten() -> None:
    # Every tenth day is 100 dearer; the others miss by little: nine of ten are below `high`.
    row = " ".join("150" if day % 10 == 9 else "50" for day in range(40))
    history = prices(row, start=MIDNIGHT - 40 * DAY, step_h=24.0)
    seen = ahead(history, prices("50", start=MIDNIGHT, step_h=24.0))
    expected, high = (series.slots[-1].value for series in (seen.expected, seen.high))
    assert expected < 65.0
    assert expected < high <= 150.0


def test_a_tail_two_days_away_is_less_certain_than_one_of_tomorrow() -> None:
    rng = np.random.default_rng(1)
    level = np.cumsum(rng.normal(0.0, 10.0, 35))
    row = " ".join(f"{value:.3f}" for value in np.repeat(100 + level, 4))
    seen = ahead(
        prices(row, start=MIDNIGHT - 35 * DAY, step_h=6.0), prices("90 90", start=MIDNIGHT, step_h=6.0)
    )
    margins = [high.value - mid.value for mid, high in zip(seen.expected, seen.high, strict=True)]
    assert margins[:2] == [0.0, 0.0]
    assert (
        margins[2] == margins[5] < margins[6]
    )  # yesterday's value is known, then only that of the day before


@pytest.mark.parametrize(
    ("history", "published", "expected"),
    [
        # a gap in what is published stays one; for the day after, the day before it counts
        ("1 2 3 4 5 6 7 8", "1 2 - 4 5", "1 2 - 4 5 6 7 8 1 2 3 4 5 6 7 8"),
        # a time of day that nobody knows
        ("1 2 - 4 5 6 7 8", "1 2", "1 2 - 4 5 6 7 8 1 2 - 4 5 6 7 8"),
    ],
)
def test_gaps_stay_unknown(history: str, published: str, expected: str) -> None:
    seen = ahead(days(history, 21, step_h=3.0), prices(published, start=MIDNIGHT, step_h=3.0))
    assert drawn(seen.expected) == drawn(seen.high) == expected


@pytest.mark.parametrize("count", [0, 1, 6, 9])
def test_too_little_history_is_no_forecast(count: int) -> None:
    seen = ahead(
        days("10 20 30 40", count) if count else Series(), prices("10 20", start=MIDNIGHT, step_h=6.0)
    )
    assert drawn(seen.expected) == drawn(seen.high) == "10 20"


def test_nothing_published_nothing_guessed() -> None:
    assert ahead(days("10 20 30 40", 21), Series()) == Outlook()


def test_a_tail_a_week_after_the_last_value_is_unknown() -> None:
    known = days("10 20 30 40", 30, until=MIDNIGHT - 8 * DAY)
    assert ahead(Series(known.slots[:-1]), Series(known.slots[-1:])).expected == Series()


def test_hours_before_quarter_hours_are_cut_to_quarters() -> None:
    old = days(" ".join(str(h) for h in range(24)), 20, step_h=1.0)
    quarters = prices(" ".join(["5"] * 96), start=MIDNIGHT, step_h=0.25)
    seen = outlook(old, quarters, MIDNIGHT, MIDNIGHT + 2 * DAY)
    assert {slot.duration_s for slot in seen.expected} == {900.0}
    assert len(seen.expected) == 2 * 96


def test_it_begins_and_ends_where_asked() -> None:
    start, end = MIDNIGHT + hours(1.5), MIDNIGHT + hours(30.5)
    seen = outlook(days("10 20 30 40", 21), prices("10 20", start=MIDNIGHT, step_h=6.0), start, end)
    assert (seen.expected.slots[0].start, seen.expected.slots[-1].end) == (start, end)


class TestRealPrices:
    """Asked at noon, with the day-ahead curve published until the midnight after: tails of lead 1 and 2."""

    FILES = (
        ("DE-LU_dayahead_60min_2023.csv", datetime(2022, 12, 31, 23, tzinfo=UTC), 365),
        ("SE4_dayahead_15min_2025-10_2026-04.csv", datetime(2025, 9, 30, 22, tzinfo=UTC), 195),
    )

    @pytest.mark.parametrize(("name", "first", "count"), FILES)
    def test_coverage_and_error_over_a_year(
        self, data_dir: Path, name: str, first: datetime, count: int
    ) -> None:
        feed = ReplayFeed(data_dir / "grid/prices" / name, Kind.PRICE, clock=FakeClock(first))
        truth = feed.fetch(first, first + count * DAY).series
        below, misses, naive = [], [], []
        for day in range(42, count - 3, 3):
            noon = first + day * DAY + hours(13)
            known_until = first + (day + 1) * DAY
            history, published = truth.between(noon - 35 * DAY, noon), truth.between(noon, known_until)
            seen = outlook(history, published, noon, noon + 2 * DAY)
            for mid, high in zip(seen.expected, seen.high, strict=True):
                real = truth.at(mid.start)
                back = (mid.start - known_until) // DAY + 1
                persistent = truth.at(mid.start - back * DAY)
                if mid.start < known_until or real is None or persistent is None:
                    continue
                below.append(real <= high.value)
                misses.append(abs(real - mid.value))
                naive.append(abs(real - persistent))
        assert 0.86 <= np.mean(below) <= 0.93
        assert np.mean(misses) < 0.95 * np.mean(naive)

"""Half-open slots: what covers an instant, what is a gap, what cannot be built."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from power.series import Series, Slot
from tests.builders import NOW, hours, prices

QUARTER = timedelta(minutes=15)


@pytest.mark.parametrize(
    ("at_h", "value"), [(-0.01, None), (0, 20.0), (0.99, 20.0), (1, 60.0), (2.5, None), (3, 80.0), (4, None)]
)
def test_a_slot_holds_from_its_start_until_before_its_end(at_h: float, value: float | None) -> None:
    assert prices("20 60 - 80").at(NOW + hours(at_h)) == value


def test_a_long_step_is_a_gap_and_not_a_long_slot() -> None:
    starts = [NOW, NOW + QUARTER, NOW + 2 * QUARTER, NOW + 8 * QUARTER]
    series = Series.from_starts([(start, 1.0) for start in starts])
    assert series.resolution_s() == 900
    assert series.at(NOW + 3 * QUARTER) is None


def test_a_cut_keeps_the_edges() -> None:
    part = prices("20 60 10").between(NOW + hours(0.5), NOW + hours(1.5))
    assert [(slot.duration_s, slot.value) for slot in part] == [(1800, 20.0), (1800, 60.0)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_cannot_be_built(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        Slot(NOW, NOW + QUARTER, value)


def test_naive_times_and_overlaps_cannot_be_built() -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    with pytest.raises(ValueError, match="time zone"):
        Slot(naive, naive + QUARTER, 1.0)
    with pytest.raises(ValueError, match="overlap"):
        Series((Slot(NOW, NOW + 2 * QUARTER, 1.0), Slot(NOW + QUARTER, NOW + 3 * QUARTER, 1.0)))


def test_the_long_day_has_a_hundred_quarter_hours() -> None:
    start, end = datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 25, 23, tzinfo=UTC)
    count = int((end - start) / QUARTER)
    series = Series.from_starts([(start + i * QUARTER, float(i)) for i in range(count)])
    assert (len(series), series.resolution_s()) == (100, 900)

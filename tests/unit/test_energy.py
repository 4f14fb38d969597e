"""Joules from counters and power: resets, silences, nonsense; and their shares in price slots."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from power.series import Series, Slot
from telemetry.energy import Meter, agreement, counter_delta_j, split_over_slots, trapezoid_j

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def metered(*rows: tuple[float, float | None, float | None]) -> float:
    """Total after rows of (seconds, counter, watts) on a 300 W board."""
    meter = Meter()
    for at_s, counter_j, power_w in rows:
        meter = meter.advanced(at_s, counter_j=counter_j, power_w=power_w, ceiling_w=300.0)
    return meter.total_j


def test_trapezoid() -> None:
    assert trapezoid_j([]) == 0.0
    assert trapezoid_j([(0.0, 100.0)]) == 0.0
    assert trapezoid_j([(0.0, 100.0), (1.0, 200.0), (3.0, 200.0)]) == 550.0


def test_counter_delta() -> None:
    assert counter_delta_j(10.0, 15.0) == 5.0
    assert counter_delta_j(15.0, 10.0) is None


@pytest.mark.parametrize(
    ("rows", "total_j"),
    [
        pytest.param([(0, 5000, 100)], 0, id="first reading is where it starts"),
        pytest.param([(0, 5000, 100), (1, 5120, 100)], 120, id="the counter decides"),
        pytest.param([(0, None, 100), (1, None, 200), (2, None, 200)], 350, id="no counter: power over time"),
        pytest.param([(0, 5000, 100), (1, 40, 200), (2, 240, 200)], 350, id="fallen counter: power, then on"),
        pytest.param([(0, 5000, 100), (1, 1e9, 200), (2, 1e9 + 90, 90)], 240, id="impossible jump: power"),
        pytest.param([(0, 0, 100), (1, None, 100), (2, 220, 100)], 220, id="silence is counted once"),
        pytest.param(
            [(0, 0, 100), (1, None, 300), (2, 150, 100)], 200, id="what was counted is not taken back"
        ),
        pytest.param([(0, 0, 100), (1, None, 300), (2, 150, 0), (3, 250, 0)], 250, id="and is made up for"),
        pytest.param([(0, 0, None), (1, None, None)], 0, id="nothing known, nothing counted"),
        pytest.param(
            [(0, None, 100), (1, None, None), (2, None, 100)], 200, id="a missing power is like its last"
        ),
        pytest.param(
            [(0, 0, 100), (1, math.nan, math.inf), (2, 210, 100)], 210, id="no number is no reading"
        ),
    ],
)
def test_meter(rows: list[tuple[float, float | None, float | None]], total_j: float) -> None:
    assert metered(*rows) == pytest.approx(total_j)


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 100.0),
            st.one_of(st.none(), st.floats(0.0, 1e7)),
            st.one_of(st.none(), st.floats(0.0, 600.0)),
        )
    )
)
def test_meter_never_goes_down_nor_beyond_what_a_board_can_draw(
    steps: list[tuple[float, float | None, float | None]],
) -> None:
    meter, at_s = Meter(), 0.0
    for dt_s, counter_j, power_w in steps:
        at_s += dt_s
        before = meter
        meter = meter.advanced(at_s, counter_j=counter_j, power_w=power_w, ceiling_w=300.0)
        assert meter.total_j >= before.total_j
        most_j = max(600.0 * dt_s, 1.5 * 300.0 * (dt_s + 1.0))
        assert meter.total_j - before.total_j <= most_j + 1e-3


def test_split_by_time() -> None:
    prices = Series(
        (
            Slot(NOON, NOON + timedelta(hours=1), 80.0),
            Slot(NOON + timedelta(hours=1), NOON + timedelta(hours=2), -5.0),
        )
    )
    shares = split_over_slots(400.0, NOON + timedelta(minutes=45), NOON + timedelta(minutes=65), prices)
    assert [(s.energy_j, s.value) for s in shares] == [(300.0, 80.0), (100.0, -5.0)]


def test_an_instant_on_an_edge_belongs_to_the_slot_that_begins() -> None:
    prices = Series(
        (
            Slot(NOON, NOON + timedelta(hours=1), 80.0),
            Slot(NOON + timedelta(hours=1), NOON + timedelta(hours=2), -5.0),
        )
    )
    edge = NOON + timedelta(hours=1)
    assert [s.value for s in split_over_slots(1.0, edge, edge, prices)] == [-5.0]
    assert [s.value for s in split_over_slots(1.0, NOON, edge, prices)] == [80.0]


def test_energy_in_a_gap_has_no_value() -> None:
    prices = Series((Slot(NOON, NOON + timedelta(hours=1), 80.0),))
    shares = split_over_slots(300.0, NOON - timedelta(hours=1), NOON + timedelta(hours=2), prices)
    assert [(s.energy_j, s.value) for s in shares] == [(100.0, None), (100.0, 80.0), (100.0, None)]


def test_split_refuses_time_that_runs_backwards() -> None:
    with pytest.raises(ValueError, match="must not end before"):
        split_over_slots(1.0, NOON, NOON - timedelta(seconds=1), Series())


@given(
    st.floats(0.0, 1e9),
    st.integers(-7200, 7200),
    st.integers(0, 20000),
    st.lists(st.tuples(st.integers(0, 1200), st.integers(1, 1800), st.floats(-500.0, 5000.0)), max_size=8),
)
def test_shares_cover_the_time_once_and_add_up(
    energy_j: float, start_s: int, length_s: int, gaps: list[tuple[int, int, float]]
) -> None:
    slots, edge = [], NOON
    for gap_s, slot_s, value in gaps:
        begin = edge + timedelta(seconds=gap_s)
        edge = begin + timedelta(seconds=slot_s)
        slots.append(Slot(begin, edge, value))
    start = NOON + timedelta(seconds=start_s)
    end = start + timedelta(seconds=length_s)
    shares = split_over_slots(energy_j, start, end, Series(tuple(slots)))
    assert math.isclose(math.fsum(s.energy_j for s in shares), energy_j, rel_tol=1e-9, abs_tol=1e-9)
    assert shares[0].start == start
    assert shares[-1].end == end
    assert all(a.end == b.start for a, b in pairwise(shares))
    assert all(s.value == Series(tuple(slots)).at(s.start) for s in shares)


def test_agreement() -> None:
    assert agreement(1000.0, 1040.0).agrees
    assert not agreement(1000.0, 1060.0).agrees
    assert agreement(0.0, 0.0).agrees
    assert not agreement(0.0, 5.0).agrees

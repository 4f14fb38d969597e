"""Joules from counters and power: resets, silences, nonsense; and their shares in price slots."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.energy import Meter, counter_delta_j, trapezoid_j


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

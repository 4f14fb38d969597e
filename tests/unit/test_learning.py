"""Demand is learned from draws that no cap held down; a draw at the cap is only a lower bound."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from power.device import GpuInfo
from scheduler.learning import CurveBook

BOARD = GpuInfo(
    uuid="gpu-0", index=0, model="A40", min_cap_w=100, max_cap_w=300, default_cap_w=300, memory_bytes=0
)


def demand_after(seconds: int, *, draw_w: float, cap_w: float, utilization: float = 1.0) -> float:
    book = CurveBook()
    for _ in range(seconds):
        book.observe(BOARD, "my-net", draw_w=draw_w, cap_w=cap_w, utilization=utilization)
    return book.curve(BOARD, "my-net").demand_w


def test_an_uncapped_draw_becomes_the_demand() -> None:
    assert abs(demand_after(120, draw_w=140, cap_w=300) - 140) < 2


def test_a_job_that_its_cap_holds_down_is_not_taken_for_a_modest_one() -> None:
    """Under a cap boards draw less than it: a floor that followed such draws would sink to the least cap."""
    for model, tdp_w, least_w in (
        ("NVIDIA A100", 400.0, 100.0),
        ("A40", 300.0, 100.0),
        ("V100", 250.0, 100.0),
    ):
        board = replace(BOARD, model=model, min_cap_w=least_w, max_cap_w=tdp_w, default_cap_w=tdp_w)
        believed = CurveBook().curve(board, "bert-large")
        for error in (-believed.power_error, 0.0, believed.power_error):
            book = CurveBook()
            for _ in range(20):
                curve = book.curve(board, "bert-large")
                cap_w = curve.cap_for(0.8)
                drawn_w = believed.power_w(cap_w) * (1.0 + error)
                for _ in range(60):
                    book.observe(board, "bert-large", draw_w=drawn_w, cap_w=cap_w, utilization=1.0)
            assert book.curve(board, "bert-large").cap_for(0.8) > 0.93 * believed.cap_for(0.8), (model, error)


@given(
    demand=st.floats(0.2, 0.9),
    cap=st.floats(0.4, 1.0),
)
def test_demand_of_a_draw_is_the_draw_of_a_demand_turned_round(demand: float, cap: float) -> None:
    curve = replace(CurveBook().curve(BOARD, "bert"), demand_w=demand * 300.0)
    draw_w = curve.power_w(cap * 300.0)
    if curve.idle_w < draw_w < 0.99 * curve.limited_w(cap * 300.0):
        assert curve.demand_of(draw_w, cap * 300.0) == pytest.approx(curve.demand_w, rel=1e-3)
    assert curve.demand_of(curve.limited_w(cap * 300.0), cap * 300.0) == math.inf


def test_a_draw_at_the_cap_never_lowers_the_demand() -> None:
    prior_w = CurveBook().curve(BOARD, "my-net").demand_w
    assert demand_after(120, draw_w=100, cap_w=100) == prior_w
    assert demand_after(1, draw_w=299, cap_w=300) == 299


def test_a_workload_is_known_after_half_a_minute_uncapped() -> None:
    book = CurveBook()
    assert not book.known(BOARD, "my-net")
    for second in range(30):
        assert not book.known(BOARD, "my-net"), second
        book.observe(BOARD, "my-net", draw_w=140, cap_w=300, utilization=1.0)
    assert book.known(BOARD, "my-net")
    assert not book.known(BOARD, "another-net")


def test_an_idle_second_teaches_nothing() -> None:
    prior_w = CurveBook().curve(BOARD, "my-net").demand_w
    assert demand_after(120, draw_w=60, cap_w=300, utilization=0.0) == prior_w

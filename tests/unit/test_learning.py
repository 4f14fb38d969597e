"""Demand is learned from draws that no cap held down; a draw at the cap is only a lower bound."""

from __future__ import annotations

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

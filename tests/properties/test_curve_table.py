"""Many curves at once answer what each answers alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from power.curve import CapCurve, prior
from power.curve_table import CurveTable

MODELS = (
    "A40",
    "V100",
    "H100",
    "B200",
    "RTX 6000",
    "RTX 4000 Ada",
    "RTX 5000 Ada",
    "RTX PRO 6000",
    "odd board",
)
WORKLOADS = ("bert", "resnet", "deepspeech", "shufflenet", "ncf", None)
SAME = 1e-9
COMMON = settings(deadline=None, max_examples=200)


@st.composite
def curves(draw: st.DrawFn) -> CapCurve:
    """Priors, with a learned demand that may be far below what a cap can touch."""
    top_w = draw(st.floats(120.0, 1000.0))
    least_w = top_w * draw(st.floats(0.1, 1.0))
    curve = prior(
        draw(st.sampled_from(MODELS)),
        min_cap_w=least_w,
        max_cap_w=top_w,
        workload=draw(st.sampled_from(WORKLOADS)),
    )
    return replace(curve, demand_w=curve.demand_w * draw(st.sampled_from([0.1, 0.5, 1.0, 1.3])))


@COMMON
@given(st.lists(curves(), min_size=1, max_size=4), st.floats(0.0, 1200.0))
def test_throughput_and_power_at_a_cap(several: list[CapCurve], cap_w: float) -> None:
    table, rows = CurveTable.of(several)
    caps_w = np.full(len(rows), cap_w)
    for curve, work, watts in zip(
        several, table.throughput(rows, caps_w), table.power_w(rows, caps_w), strict=True
    ):
        assert abs(work - curve.throughput(cap_w)) <= SAME
        assert abs(watts - curve.power_w(cap_w)) <= SAME * curve.tdp_w


@COMMON
@given(st.lists(curves(), min_size=1, max_size=4), st.floats(-0.1, 1.1))
def test_the_cap_for_a_throughput(several: list[CapCurve], work: float) -> None:
    table, rows = CurveTable.of(several)
    for curve, cap_w in zip(several, table.cap_for(rows, np.full(len(rows), work)), strict=True):
        assert abs(cap_w - curve.cap_for(work)) <= 1e-7 * curve.tdp_w


@COMMON
@given(st.lists(curves(), min_size=1, max_size=4))
def test_figures_of_the_boards_and_rows_of_equals(several: list[CapCurve]) -> None:
    table, rows = CurveTable.of([*several, *several])
    assert len(table.curves) == len(set(several))
    assert (rows[: len(several)] == rows[len(several) :]).all()
    for row, curve in zip(rows.tolist(), several, strict=False):
        assert table.curves[row] == curve
        assert (table.tdp_w[row], table.min_cap_w[row], table.idle_w[row]) == (
            curve.tdp_w,
            curve.min_cap_w,
            curve.idle_w,
        )
        assert table.knee_cap_w(np.array([row]))[0] == curve.knee_cap_w()


@COMMON
@given(curves(), st.floats(0.0, 1.0))
def test_any_shape_of_rows_and_caps(curve: CapCurve, share: float) -> None:
    table, _ = CurveTable.of([curve])
    caps_w = curve.tdp_w * np.array([[share, 1.0], [0.0, share]])
    assert table.throughput(np.zeros((2, 2), dtype=np.int64), caps_w)[1, 1] == table.throughput(
        np.zeros(1, dtype=np.int64), caps_w[:1, 0]
    )

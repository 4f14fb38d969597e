"""What holds for every curve, also for learned ones with odd parameters."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from power.curve import CapCurve

caps = st.floats(min_value=-50, max_value=2000)


@st.composite
def curves(draw: st.DrawFn) -> CapCurve:
    tdp_w = draw(st.floats(min_value=50, max_value=1200))
    share = st.floats(min_value=0.05, max_value=1.0)
    return CapCurve(
        tdp_w=tdp_w,
        min_cap_w=tdp_w * draw(share),
        idle_w=tdp_w * draw(st.floats(min_value=0, max_value=0.3)),
        demand_w=tdp_w * draw(st.floats(min_value=0.05, max_value=1.5)),
        t6_p0=draw(st.floats(min_value=0, max_value=0.6)),
        t6_s=draw(st.floats(min_value=0.3, max_value=1.5)),
        t6_gamma=draw(st.floats(min_value=0.2, max_value=3)),
        t6_n=draw(st.floats(min_value=1, max_value=40)),
        p4_a=draw(st.floats(min_value=0.3, max_value=1.5)),
        p4_b=draw(st.floats(min_value=-0.1, max_value=0.2)),
        p4_m=draw(st.floats(min_value=1, max_value=40)),
    )


@given(curves(), caps, caps)
def test_more_cap_never_means_less_work_or_less_draw(curve: CapCurve, one_w: float, other_w: float) -> None:
    low_w, high_w = sorted((one_w, other_w))
    assert curve.throughput(low_w) <= curve.throughput(high_w) + 1e-12
    assert curve.power_w(low_w) <= curve.power_w(high_w) + 1e-9


@given(curves(), caps)
def test_throughput_is_a_share_and_draw_is_never_above_the_cap(curve: CapCurve, cap_w: float) -> None:
    assert 0.0 <= curve.throughput(cap_w) <= 1.0
    assert 0.0 <= curve.power_w(cap_w) <= min(max(cap_w, curve.min_cap_w), curve.tdp_w)


@given(curves(), st.floats(min_value=0, max_value=1))
def test_cap_for_reaches_what_was_asked_with_nothing_to_spare(curve: CapCurve, wanted: float) -> None:
    cap_w = curve.cap_for(wanted)
    assert curve.min_cap_w <= cap_w <= curve.tdp_w
    assert curve.throughput(cap_w) >= wanted - 1e-6
    if cap_w > curve.min_cap_w * 1.001:
        assert curve.throughput(cap_w * 0.999) <= wanted + 1e-6


@given(curves())
def test_no_cap_beats_the_knee_in_energy_per_work(curve: CapCurve) -> None:
    knee_w = curve.knee_cap_w()
    assert curve.min_cap_w <= knee_w <= curve.tdp_w
    best = curve.energy_per_work_j(knee_w)
    assert best <= curve.energy_per_work_j(curve.tdp_w) < math.inf
    assert best <= curve.energy_per_work_j(curve.min_cap_w)

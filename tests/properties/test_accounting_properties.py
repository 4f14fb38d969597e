"""Accounting never flatters: whatever a GPU says, it counts at least what it may draw."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from power.accounting import Load
from power.device import GpuReading
from tests.capd_builders import reading
from tests.unit.test_accounting import RULES, counted

MAX_CAP_W = 300.0

numbers = st.one_of(st.none(), st.floats(-10.0, 700.0), st.sampled_from([0.0, math.nan, math.inf, 1e308]))
readings = st.builds(
    reading,
    power_w=numbers,
    enforced_cap_w=numbers,
    utilization=st.one_of(st.none(), st.floats(0.0, 1.0)),
    pids=st.one_of(st.none(), st.just(()), st.just((1,))),
)
ages = st.one_of(st.floats(0.0, 3.0), st.floats(allow_nan=True, allow_infinity=True))


@given(st.one_of(st.none(), readings), ages, numbers, st.booleans())
def test_always_a_finite_figure_above_zero(
    seen: GpuReading | None, age_s: float, confirmed_w: float | None, has_run: bool
) -> None:
    watts, load = counted(seen, age_s=age_s, confirmed_cap_w=confirmed_w, has_run=has_run)
    assert 0 < watts <= 2 * MAX_CAP_W
    if seen is None or not 0 <= age_s <= RULES.stale_s:
        assert (watts, load) == (MAX_CAP_W, Load.UNKNOWN)


@given(readings, st.floats(0.0, 3.0), st.one_of(st.none(), st.floats(100.0, 300.0)), st.booleans())
def test_never_less_than_the_draw_nor_less_than_the_cap_of_a_load(
    seen: GpuReading, age_s: float, confirmed_w: float | None, has_run: bool
) -> None:
    watts, load = counted(seen, age_s=age_s, confirmed_cap_w=confirmed_w, has_run=has_run)
    if load is Load.UNKNOWN:
        assert watts == MAX_CAP_W
        return
    limits = [w for w in (seen.enforced_cap_w, confirmed_w) if w is not None and 50.0 <= w <= 600.0]
    if load is Load.EMPTY:
        assert not has_run
        assert seen.pids == ()
        assert seen.power_w is not None
        assert seen.power_w < RULES.idle_mark_w
        assert watts >= min(seen.power_w, *limits, MAX_CAP_W)
    else:
        assert watts >= max(limits, default=MAX_CAP_W)
        assert watts >= (seen.power_w or 0.0) * 0.97 - 5.0


@given(readings, st.floats(0.0, 3.0), st.booleans())
def test_a_higher_confirmed_cap_never_counts_less(seen: GpuReading, age_s: float, has_run: bool) -> None:
    caps_w = (100.0, 200.0, 300.0)
    figures = [counted(seen, age_s=age_s, confirmed_cap_w=cap_w, has_run=has_run)[0] for cap_w in caps_w]
    # A draw a little above the lower cap counts, and is noise under the higher one: by so much it may fall.
    noise_w = max(5.0, 0.03 * 300.0)
    assert all(higher >= lower - noise_w for lower, higher in pairwise(figures))

"""Accounting never flatters: whatever a GPU says, it counts at least what it may draw."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from power.accounting import AccountingRules, Load, account
from power.device import GpuReading
from tests.capd_builders import gpu_info, reading

RULES = AccountingRules()
INFO = gpu_info(0)

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
    figure = account(INFO, seen, age_s=age_s, confirmed_cap_w=confirmed_w, has_run=has_run, rules=RULES)
    assert 0 < figure.watts <= 2 * INFO.max_cap_w
    if seen is None or not 0 <= age_s <= RULES.stale_s:
        assert figure == figure.__class__(INFO.max_cap_w, Load.UNKNOWN)


@given(readings, st.floats(0.0, 3.0), st.one_of(st.none(), st.floats(100.0, 300.0)), st.booleans())
def test_never_less_than_the_draw_nor_less_than_the_cap_of_a_load(
    seen: GpuReading, age_s: float, confirmed_w: float | None, has_run: bool
) -> None:
    figure = account(INFO, seen, age_s=age_s, confirmed_cap_w=confirmed_w, has_run=has_run, rules=RULES)
    if figure.load is Load.UNKNOWN:
        assert figure.watts == INFO.max_cap_w
        return
    limits = [w for w in (seen.enforced_cap_w, confirmed_w) if w is not None and 50.0 <= w <= 600.0]
    if figure.load is Load.EMPTY:
        assert not has_run
        assert seen.pids == ()
        assert seen.power_w is not None
        assert seen.power_w < RULES.idle_mark_w
        assert figure.watts >= min(seen.power_w, *limits, INFO.max_cap_w)
    else:
        assert figure.watts >= max(limits, default=INFO.max_cap_w)
        assert figure.watts >= (seen.power_w or 0.0) * 0.97 - 5.0


@given(readings, st.floats(0.0, 3.0), st.booleans())
def test_a_higher_confirmed_cap_never_counts_less(seen: GpuReading, age_s: float, has_run: bool) -> None:
    figures = [
        account(INFO, seen, age_s=age_s, confirmed_cap_w=cap, has_run=has_run, rules=RULES).watts
        for cap in (100.0, 200.0, 300.0)
    ]
    # A draw a little above the lower cap counts, and is noise under the higher one: by so much it may fall.
    noise_w = max(5.0, 0.03 * 300.0)
    assert all(higher >= lower - noise_w for lower, higher in pairwise(figures))

"""Whatever a feed sends, what comes through is finite, plausible, ordered and true to the input."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from power.grid.energy_charts import parse_carbon, parse_price
from power.grid.feed import FeedError
from power.grid.validate import CARBON_BAND, PRICE_BAND, check_points, whole_slots
from power.series import Series
from scheduler.policy.price_rule import PriceRule, RuleState, evaluate, preview

# A busy machine must not turn a slow example into a failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
START = datetime(2025, 10, 26, tzinfo=UTC)
HOUR = timedelta(hours=1)

plausible = st.floats(-1000, 10000)
anything = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(),
    st.booleans(),
    st.none(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    plausible,
)
instants = st.datetimes(datetime(1990, 1, 1), datetime(2110, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
times = st.one_of(
    instants,
    st.integers(0, 500).map(lambda i: START + i * timedelta(minutes=15)),
    st.datetimes(),
    st.none(),
    st.text(max_size=5),
    st.integers(),
)


@unhurried
@given(st.lists(st.tuples(times, anything), max_size=60))
def test_what_comes_through_is_sound(points: list[tuple[object, object]]) -> None:
    checked = check_points(points, PRICE_BAND)
    given_values = {
        (when, value)
        for when, value in points
        if isinstance(when, datetime) and isinstance(value, float | int)
    }
    for slot in checked.series:
        assert math.isfinite(slot.value)
        assert PRICE_BAND.low <= slot.value <= PRICE_BAND.high
        assert (slot.start, slot.value) in given_values
    assert len(checked.series) + len(checked.refused) == len(points)


@unhurried
@given(
    st.lists(plausible, min_size=1, max_size=120),
    st.sampled_from([5, 15, 30, 60]),
    st.data(),
)
def test_good_points_pass_whole_in_any_order(values: list[float], minutes: int, data: st.DataObject) -> None:
    step = timedelta(minutes=minutes)
    points: list[tuple[object, object]] = [(START + i * step, v) for i, v in enumerate(values)]
    checked = check_points(data.draw(st.permutations(points)), PRICE_BAND)
    assert checked.refused == ()
    assert [slot.value for slot in checked.series] == values
    if len(values) > 1:
        assert {slot.end - slot.start for slot in checked.series} == {step}


@unhurried
@given(st.lists(plausible, min_size=8, max_size=100), st.data())
def test_one_bad_point_costs_that_point_alone(values: list[float], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(values) - 1))
    bads: list[object] = [math.nan, math.inf, -math.inf, 1e308, -1e9, "12", "", True, None, [], {}]
    bad = data.draw(st.sampled_from(bads))
    spoiled: list[object] = [*values[:index], bad, *values[index + 1 :]]
    points = [(START + i * HOUR, value) for i, value in enumerate(spoiled)]
    checked = check_points(points, PRICE_BAND)
    assert len(checked.refused) == 1
    for i, value in enumerate(values):
        assert checked.series.at(START + i * HOUR) == (None if i == index else value)
        assert checked.series.at(START + (i + 1) * HOUR - timedelta(seconds=1)) == (
            None if i == index else value
        )


@unhurried
@given(st.lists(st.tuples(st.integers(2, 6), st.integers(1, 5)), min_size=1, max_size=20))
def test_missing_points_are_unknown_and_never_the_neighbours_value(runs: list[tuple[int, int]]) -> None:
    """Where neighbours are there in pairs, the resolution is plain and every gap stays a gap."""
    present = [there for here, gone in runs for there in [True] * here + [False] * gone]
    points = [(START + i * HOUR, float(i)) for i, there in enumerate(present) if there]
    series = check_points(points, PRICE_BAND).series
    for i, there in enumerate(present):
        for minute in (0, 59):
            seen = series.at(START + i * HOUR + timedelta(minutes=minute))
            assert seen == (float(i) if there else None)


@unhurried
@given(st.lists(plausible, min_size=12, max_size=96), st.integers(1, 14), st.data())
def test_a_point_between_the_others_is_refused_and_they_stay(
    values: list[float], minute: int, data: st.DataObject
) -> None:
    quarter = timedelta(minutes=15)
    points: list[tuple[object, object]] = [(START + i * quarter, v) for i, v in enumerate(values)]
    index = data.draw(st.integers(0, len(values) - 1))
    intruder = (START + index * quarter + timedelta(minutes=minute), 1.0)
    checked = check_points([*points, intruder], PRICE_BAND)
    assert [slot.value for slot in checked.series] == values
    assert len(checked.refused) == 1
    assert "overlaps" in checked.refused[0]


@unhurried
@given(st.lists(plausible, max_size=60), st.integers(-100, 5000), st.integers(1, 5000))
def test_cutting_keeps_slots_whole(values: list[float], offset_min: int, length_min: int) -> None:
    points: list[tuple[object, object]] = [(START + i * HOUR, v) for i, v in enumerate(values)]
    series = check_points(points, PRICE_BAND).series
    start = START + timedelta(minutes=offset_min)
    end = start + timedelta(minutes=length_min)
    kept = whole_slots(series, start, end)
    assert set(kept.slots) <= set(series.slots)
    assert kept.between(start, end) == series.between(start, end)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
columns = st.lists(st.one_of(st.integers(0, 2**34), json_values), max_size=12)
answers = st.one_of(
    json_values,
    st.fixed_dictionaries(
        {},
        optional={
            "unix_seconds": columns,
            "price": columns,
            "co2eq": columns,
            "co2eq_forecast": columns,
            "unit": st.one_of(st.just("EUR / MWh"), json_values),
            "license_info": json_values,
        },
    ),
)


@unhurried
@given(answers)
@example({"unix_seconds": [0, 0], "price": [1, 2], "unit": "EUR/MWh"})
def test_any_json_is_an_answer_or_a_feed_error(answer: Any) -> None:
    for parse, band in ((parse_price, PRICE_BAND), (parse_carbon, CARBON_BAND)):
        try:
            parsed = parse(json.dumps(answer).encode(), band)
        except FeedError:
            continue
        assert len(parsed.series) > 0
        assert all(math.isfinite(slot.value) for slot in parsed.series)


@unhurried
@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_feed_error(body: bytes) -> None:
    try:
        parse_price(body, PRICE_BAND)
    except FeedError:
        return
    raise AssertionError("random bytes were taken for prices")


rules = st.builds(
    lambda above, band, dwell_s: PriceRule(
        name="r", above_per_mwh=above, release_below_per_mwh=above - band, min_dwell_s=dwell_s
    ),
    st.floats(-100, 300),
    st.floats(0, 100),
    st.sampled_from([0.0, 60.0, 300.0, 900.0, 3600.0, 7200.0]),
)


@unhurried
@given(rules, st.lists(st.one_of(st.none(), st.floats(-200, 500)), max_size=80))
def test_a_rule_never_switches_before_its_dwell_and_never_without_cause(
    rule: PriceRule, prices: list[float | None]
) -> None:
    states: dict[str, RuleState] = {}
    switched: datetime | None = None
    before = False
    for index, price in enumerate(prices):
        now = START + index * timedelta(minutes=5)
        states, active = evaluate([rule], states, price, now)
        if bool(active) != before:
            assert switched is None or (now - switched).total_seconds() >= rule.min_dwell_s
            if active:
                assert price is not None
                assert price > rule.above_per_mwh
            else:
                assert price is None or price < rule.release_below_per_mwh
            switched, before = now, bool(active)


@unhurried
@given(rules, st.lists(st.floats(-200, 500), min_size=1, max_size=30))
def test_a_preview_is_what_the_loop_would_do(rule: PriceRule, values: list[float]) -> None:
    quarter = timedelta(minutes=15)
    points: list[tuple[object, object]] = [(START + i * quarter, v) for i, v in enumerate(values)]
    series: Series = check_points(points, PRICE_BAND).series
    spans = preview(rule, series).activations
    states: dict[str, RuleState] = {}
    now, end = START, series.slots[-1].end
    while now < end:
        states, active = evaluate([rule], states, series.at(now), now)
        assert bool(active) == any(span.start <= now < span.end for span in spans)
        now += timedelta(minutes=1)

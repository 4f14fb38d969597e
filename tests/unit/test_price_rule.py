"""Price rules: hysteresis, dwell, which jobs they mean, and the preview."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from power.series import Series, Slot
from scheduler.model import Contract, Flex, JobSpec
from scheduler.policy.price_rule import (
    InvalidRule,
    PriceRule,
    RuleAction,
    RuleState,
    effect,
    evaluate,
    preview,
)
from tests.feed_builders import NOON, hourly

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def rule(**changes: Any) -> PriceRule:
    values: dict[str, Any] = {
        "name": "spike",
        "above_per_mwh": 100.0,
        "release_below_per_mwh": 80.0,
        "min_dwell_s": 0.0,
    }
    return PriceRule(**{**values, **changes})


def drawn(one: PriceRule, prices: list[float | None], step: timedelta = 15 * MINUTE) -> str:
    """`#` for each step at which the rule is in force, `.` otherwise."""
    states: dict[str, RuleState] = {}
    drawing = ""
    for index, price in enumerate(prices):
        states, active = evaluate([one], states, price, NOON + index * step)
        drawing += "#" if active else "."
    return drawing


NAN = float("nan")


@pytest.mark.parametrize(
    ("prices", "dwell_min", "expected"),
    [
        # hysteresis: between the thresholds the state stays
        ([90, 101, 90, 81, 79, 90, 101], 0, ".###..#"),
        ([100, 100.01, 100, 80, 79.99], 0, ".###."),
        # dwell: neither a short spike nor a short dip switches more than once
        ([120, 50, 50, 50], 30, "##.."),
        ([120, 50, 120, 50, 120], 30, "###.."),
        ([120, 120, 120, 50, 120, 120], 30, "###..#"),
        # negative prices and zero are prices like any other
        ([-500, 0, -1, 4000], 0, "...#"),
        # an unknown price releases, but only after the dwell
        ([120, None, None, None], 0, "#..."),
        ([120, None, None, None], 30, "##.."),
        ([None, None, 120], 0, "..#"),
        ([120, NAN, float("inf")], 0, "#.."),
    ],
)
def test_when_a_rule_is_in_force(prices: list[float | None], dwell_min: int, expected: str) -> None:
    assert drawn(rule(min_dwell_s=dwell_min * 60.0), prices) == expected


def test_thresholds_below_zero() -> None:
    assert drawn(rule(above_per_mwh=-10, release_below_per_mwh=-20), [-30, -5, -15, -25]) == ".##."


def test_no_dwell_holds_back_the_first_activation() -> None:
    assert drawn(rule(min_dwell_s=1e6), [120]) == "#"


def test_a_disabled_rule_is_never_in_force_and_forgets() -> None:
    states, active = evaluate([rule(enabled=False)], {"spike": RuleState(active=True, since=NOON)}, 500, NOON)
    assert (states, active) == ({}, ())


def test_a_state_without_its_rule_is_dropped() -> None:
    states, _ = evaluate([rule()], {"old": RuleState(active=True, since=NOON)}, 500, NOON)
    assert set(states) == {"spike"}


def test_rules_are_independent_and_keep_their_order() -> None:
    rules = [rule(name="b", above_per_mwh=200), rule(name="a"), rule(name="c")]
    assert [r.name for r in evaluate(rules, {}, 150, NOON)[1]] == ["a", "c"]
    assert [r.name for r in evaluate(rules, {}, 250, NOON)[1]] == ["b", "a", "c"]


def test_a_clock_that_goes_back_starts_the_dwell_over() -> None:
    one = rule(min_dwell_s=600)
    states, _ = evaluate([one], {}, 150, NOON)
    states, active = evaluate([one], states, 50, NOON - 5 * HOUR)
    assert active
    states, active = evaluate([one], states, 50, NOON - 5 * HOUR + 10 * MINUTE)
    assert not active


def test_evaluate_changes_nothing_it_was_given() -> None:
    before = {"spike": RuleState(active=True, since=NOON)}
    evaluate([rule()], before, 0, NOON + HOUR)
    assert before == {"spike": RuleState(active=True, since=NOON)}


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("name", {"name": ""}),
        ("name", {"name": "a/b"}),
        ("name", {"name": "x" * 65}),
        ("name", {"name": "line\nbreak"}),
        ("above_per_mwh", {"above_per_mwh": NAN}),
        ("above_per_mwh", {"above_per_mwh": float("inf")}),
        ("release_below_per_mwh", {"release_below_per_mwh": 101.0}),
        ("min_dwell_s", {"min_dwell_s": -1.0}),
        ("throughput_share", {"throughput_share": 0.0}),
        ("throughput_share", {"throughput_share": 1.01}),
        ("action", {"action": "explode"}),
        ("applies_to", {"applies_to": ("sometimes",)}),
        ("applies_to", {"applies_to": ("priority:",)}),
    ],
)
def test_a_rule_that_makes_no_sense_names_the_field(field: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRule) as caught:
        rule(**values)
    assert caught.value.field == field


def test_words_from_json_become_what_they_mean() -> None:
    one = rule(action="pause", applies_to=["mid", "priority:low"])
    assert one.action is RuleAction.PAUSE
    assert one.applies_to == ("mid", "priority:low")


def spec(flex: Flex, priority: str = "standard") -> JobSpec:
    return JobSpec(argv=("true",), gpus=1, contract=Contract(flex=flex), priority=priority)


@pytest.mark.parametrize(
    ("applies_to", "flex", "priority", "meant"),
    [
        ((), Flex.NONE, "high", True),
        (("mid", "high"), Flex.MID, "standard", True),
        (("mid", "high"), Flex.LOW, "high", False),
        (("priority:low",), Flex.NONE, "low", True),
        (("priority:low",), Flex.LOW, "standard", False),
        (("high", "priority:low"), Flex.HIGH, "low", True),
        (("high", "priority:low"), Flex.HIGH, "standard", False),
    ],
)
def test_which_jobs_are_meant(applies_to: tuple[str, ...], flex: Flex, priority: str, meant: bool) -> None:
    assert rule(applies_to=applies_to).covers(spec(flex, priority)) is meant


def test_what_rules_in_force_mean_for_a_job() -> None:
    active = (
        rule(name="a", throughput_share=0.8),
        rule(name="b", throughput_share=0.6, applies_to=("mid",)),
        rule(name="c", action="pause", applies_to=("high",)),
    )
    assert effect(active, spec(Flex.MID)) == (0.6, None)
    assert effect(active, spec(Flex.HIGH)) == (0.8, "c")
    assert effect((), spec(Flex.HIGH)) == (None, None)


class TestPreview:
    def spans(self, one: PriceRule, prices: Series) -> list[tuple[float, float]]:
        """Hours after noon."""
        return [((a.start - NOON) / HOUR, (a.end - NOON) / HOUR) for a in preview(one, prices).activations]

    def test_spans_start_and_end_with_slots(self) -> None:
        assert self.spans(rule(), hourly([50, 120, 90, 70, 150])) == [(1, 3), (4, 5)]

    def test_a_dwell_may_end_inside_a_slot(self) -> None:
        assert self.spans(rule(min_dwell_s=5400), hourly([120, 50, 50])) == [(0, 1.5)]
        assert self.spans(rule(min_dwell_s=5400), hourly([120, 50, 150, 150])) == [(0, 1.5), (3, 4)]

    def test_a_gap_releases(self) -> None:
        gap = Series((Slot(NOON, NOON + HOUR, 120.0), Slot(NOON + 3 * HOUR, NOON + 4 * HOUR, 120.0)))
        assert self.spans(rule(), gap) == [(0, 1), (3, 4)]

    def test_tells_share_and_top_price(self) -> None:
        seen = preview(rule(), hourly([50, 120, 300, 50]))
        assert (seen.active_s, seen.span_s, seen.active_share) == (7200, 14400, 0.5)
        assert seen.activations[0].highest_per_mwh == 300

    def test_an_empty_series_has_none(self) -> None:
        seen = preview(rule(), Series())
        assert (seen.activations, seen.active_share) == ((), 0.0)

    def test_starts_from_the_state_it_is_given(self) -> None:
        running = RuleState(active=True, since=NOON - HOUR)
        assert preview(rule(), hourly([90, 50]), running).active_s == 3600

    def test_a_disabled_rule_is_previewed_as_if_enabled(self) -> None:
        assert preview(rule(enabled=False), hourly([120])).active_s == 3600

    @pytest.mark.parametrize("dwell_s", [0, 420, 900, 3600, 10_000])
    def test_agrees_with_the_rule_stepped_minute_by_minute(self, dwell_s: float) -> None:
        prices = hourly([50, 120, 70, 130, 90, 60, 200, 79, 101, 20, 20, 140])
        one = rule(min_dwell_s=float(dwell_s))
        minutes = len(prices) * 60
        by_step = drawn(one, [prices.at(NOON + i * MINUTE) for i in range(minutes)], MINUTE)
        spans = preview(one, prices).activations
        by_preview = "".join(
            "#" if any(a.start <= NOON + i * MINUTE < a.end for a in spans) else "." for i in range(minutes)
        )
        # A dwell that ends between two minutes is seen at the next one.
        differing = sum(a != b for a, b in zip(by_step, by_preview, strict=True))
        assert differing <= (0 if dwell_s % 60 == 0 else 2 * len(spans))


def test_times_in_other_zones_are_the_same_instants() -> None:
    later = datetime.fromisoformat("2026-01-15T14:00:00+01:00")
    states, _ = evaluate([rule(min_dwell_s=3600)], {}, 150, NOON)
    assert evaluate([rule(min_dwell_s=3600)], states, 50, later)[1] == ()

"""What each policy saved of what could be saved; and one end for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from power.budget import Budget
from scheduler.simulation.bound import Bound
from scheduler.simulation.common_end import common_end_s, to_common_end
from scheduler.simulation.compare import Comparison, compare
from scheduler.simulation.conservation import check_conservation
from scheduler.simulation.measures import Measures, measure
from tests.builders import NOW, hours
from tests.outcome_builders import figures, least, outcome, ran


def of_two(ours: Measures, backfill: Measures, bound: Bound | None) -> Comparison:
    return compare({"backfill": backfill, "wattmill": ours}, bound)["wattmill"]


BACKFILL = figures(gpu_cost=100.0, cost=200.0, mean_jct_s=3200.0)


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        ("saving_captured", (100 - 80) / (100 - 60)),
        ("saving_captured_site", (200 - 170) / (200 - 160)),
        ("regret_cost", 20.0),
        ("regret_cost_share", 20 / 60),
        ("regret_site_cost", 10.0),
        ("regret_site_cost_share", 10 / 160),
        ("regret_jct", 600.0),
        ("regret_jct_share", 0.2),
        ("gpu_cost_change", -0.2),
        ("cost_change", -0.15),
        ("energy_change", 0.0),
        ("mean_jct_change", 0.125),
        ("mean_jct_cannot_wait_change", 0.0),
    ],
)
def test_against_backfill_and_the_bound(figure: str, expected: float) -> None:
    found = of_two(figures(gpu_cost=80.0, cost=170.0, mean_jct_s=3600.0), BACKFILL, least())
    assert getattr(found, figure) == pytest.approx(expected)


def test_backfill_captures_nothing_and_the_bound_all() -> None:
    assert of_two(BACKFILL, BACKFILL, least()).saving_captured == 0.0
    assert of_two(figures(gpu_cost=60.0), BACKFILL, least()).saving_captured == 1.0
    dearer = of_two(figures(gpu_cost=120.0), BACKFILL, least()).saving_captured
    assert dearer == pytest.approx(-0.5)


@pytest.mark.parametrize("bound_cost", [100.0, 101.0, float("nan")])
def test_where_nothing_can_be_saved_nothing_is_captured(bound_cost: float) -> None:
    assert of_two(figures(), BACKFILL, least(cost=bound_cost)).saving_captured is None


def test_without_backfill_only_regret_is_known() -> None:
    alone = compare({"wattmill": figures()}, least())["wattmill"]
    assert (alone.saving_captured, alone.saving_captured_site, alone.gpu_cost_change) == (None, None, None)
    assert alone.regret_cost == pytest.approx(20.0)


def test_without_a_bound_only_the_change_is_known() -> None:
    found = of_two(figures(), BACKFILL, None)
    assert (found.saving_captured, found.regret_cost, found.regret_jct) == (None, None, None)
    assert found.gpu_cost_change == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("flaw", "equal"),
    [
        ({}, True),
        ({"unfinished": 1}, False),
        ({"deadlines_missed": 1}, False),
        ({"contracts_broken_beyond_tolerance": 1}, False),
        ({"contracts_broken": 1}, True),
    ],
)
def test_contracts_are_equal_where_all_are_kept(flaw: Mapping[str, int], equal: bool) -> None:
    assert of_two(figures(**flaw), BACKFILL, least()).at_equal_contracts is equal


# --- one end for all --------------------------------------------------------------------------------------

REST_W = (4 * 31 + 100) * 1.25  # four A40s at rest and the host, at the meter


def test_who_is_done_sooner_pays_for_the_empty_site_as_well() -> None:
    soon, late = outcome(ran("a"), until_h=1.0), outcome(ran("a", from_h=2, to_h=3), until_h=3.0)
    longer, same = to_common_end((soon, late))
    assert common_end_s((soon, late)) == 3 * 3600
    assert same is late
    assert check_conservation(longer) == ()
    before, after = measure(soon), measure(longer)
    assert after.simulated_h == 3.0
    assert after.cost == pytest.approx(before.cost + REST_W / 1e6 * (200 + 50))
    for figure in ("gpu_cost", "gpu_utilization", "mean_jct_s", "makespan_s", "work_per_h"):
        assert getattr(after, figure) == getattr(before, figure), figure


def test_budgets_hold_for_the_empty_site() -> None:
    soon, late = outcome(ran("a"), until_h=1.0), outcome(ran("a", from_h=2, to_h=3), until_h=3.0)
    tight = Budget(id="tight", domain="site", limit_w=REST_W - 80, start=NOW + hours(1.5))
    longer, _ = to_common_end((replace(soon, scenario=replace(soon.scenario, budgets=(tight,))), late))
    found = measure(longer)
    assert found.limited_h == 1.5
    assert found.budget_excess_caps_ws == pytest.approx(80 * 1.5 * 3600)
    assert found.budget_excess_draw_1s_ws == pytest.approx(80 * 1.5 * 3600)


def test_where_a_job_did_not_end_nothing_is_added() -> None:
    stuck = outcome(ran("a", to_h=None, work_h=9), until_h=2.0)
    assert to_common_end((stuck, outcome(ran("a"))))[0] is stuck

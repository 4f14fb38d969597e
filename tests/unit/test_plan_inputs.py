"""What a plan reckons with beside prices: drawings of the site's draw, limits ahead, forecasts and zones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from power.budget import Budget
from scheduler import plan as planning
from scheduler.horizon import Horizon, Outlook
from scheduler.model import Job
from scheduler.snapshot import Snapshot
from scheduler.windows import Plan
from tests.builders import NOW, gpus, hours, job, prices, snapshot
from tests.plan_builders import drawn

ROW = "60 50 10 20 80 90"


def waits(id: str = "a", *, hours_long: float = 0.99, due_h: float | None = 6.0, **more: object) -> Job:
    return job(id, pausable=True, deadline_h=due_h, estimate_s=hours_long * 3600.0, **more)  # type: ignore[arg-type]


def world(row: str, *jobs: Job, count: int = 1, **horizon: object) -> Snapshot:
    series = prices(row)
    seen = snapshot(gpus(count), *jobs, prices=series, price=series.at(NOW))
    return replace(seen, horizon=Horizon(**horizon))  # type: ignore[arg-type]


def make_plan(seen: Snapshot, *, time_limit_s: float = 20.0, previous: Plan | None = None) -> Plan:
    """With time to spare: the drawings do not hang on how fast the machine is."""
    return planning.make_plan(seen, time_limit_s=time_limit_s, previous=previous)


def at_once(plan: Plan) -> int:
    """The most jobs that run at one time."""
    windows = [window for planned in plan.jobs.values() for window in planned.windows]
    return max((sum(w.start <= at.start < w.end for w in windows) for at in windows), default=0)


def edges(plan: Plan) -> list[object]:
    """Every quarter hour at whose start the site's draw changes, by job."""
    return [at for planned in plan.jobs.values() for w in planned.windows for at in (w.start, w.end)]


# The site's draw.


def test_without_a_ramp_limit_both_start_together() -> None:
    plan = make_plan(world(ROW, waits("a"), waits("b"), count=2))
    assert (drawn(plan, "a"), drawn(plan, "b")) == ("..#...", "..#...")


def test_a_ramp_limit_for_one_job_a_quarter_hour_parts_starts_and_ends() -> None:
    plan = make_plan(world(ROW, waits("a"), waits("b"), count=2, ramp_w_per_min=200.0 / 15.0))
    assert len(plan.jobs) == 2
    assert len(set(edges(plan))) == 4
    assert {drawn(plan, "a"), drawn(plan, "b")} == {"..#...", "..--.."}


def test_a_ramp_limit_below_one_job_lets_nothing_start() -> None:
    assert make_plan(world(ROW, waits(), ramp_w_per_min=1.0)).jobs == {}


@pytest.mark.parametrize(
    ("charge_per_kw", "month_peak_w", "planned", "together"),
    [
        (0.0, 0.0, 2, 2),
        (5.0, 0.0, 2, 1),  # the second at the same time would cost about what its work is worth
        (5.0, 5000.0, 2, 2),  # the month's peak is paid for already
        (50.0, 0.0, 0, 0),  # no work is worth a new peak
    ],
)
def test_a_demand_charge_is_weighed_against_the_months_peak(
    charge_per_kw: float, month_peak_w: float, planned: int, together: int
) -> None:
    charge = {"demand_charge_per_kw": charge_per_kw, "month_peak_w": month_peak_w}
    plan = make_plan(world(ROW, waits("a"), waits("b"), count=2, **charge))
    assert (len(plan.jobs), at_once(plan)) == (planned, together)


def test_the_price_of_the_peak_is_at_most_the_demand_charge() -> None:
    plan = make_plan(world(ROW, waits("a"), waits("b"), count=2, demand_charge_per_kw=5.0))
    assert 0.0 < sum(slot.peak_w for slot in plan.shadow) <= 5.0 / 1e3 + 1e-9


# Limits that are known ahead.


@pytest.mark.parametrize(
    ("limit_w", "begin_h", "end_h", "drawing"),
    [
        (100.0, 2.0, 3.0, "...#.."),  # too little for the job in the cheapest hour
        (100.0, 2.0, None, ".#...."),  # from then on
        (100.0, 3.0, 6.0, "..#..."),  # the cheapest hour is before it
        (400.0, 2.0, 3.0, "..#..."),  # enough for the job
    ],
)
def test_a_budget_known_ahead(limit_w: float, begin_h: float, end_h: float | None, drawing: str) -> None:
    end = None if end_h is None else NOW + hours(end_h)
    budget = Budget(id="event", domain="site", limit_w=limit_w, start=NOW + hours(begin_h), end=end)
    assert drawn(make_plan(world(ROW, waits(), budgets=(budget,))), "a") == drawing


# Forecasts: the second hour is not published, the third is, at 30.


@pytest.mark.parametrize(
    ("expected", "high", "drawing"),
    [
        ("60 30 30 60", "60 30 30 60", ".#.."),  # no doubt: the earlier of equals
        ("60 30 30 60", "60 90 30 60", "..#."),  # the sure one of equals
        ("60 28 30 60", "60 60 30 60", "..#."),  # a little cheaper does not pay for the risk
        ("60 10 30 60", "60 40 30 60", ".#.."),  # much cheaper does
    ],
)
def test_a_sure_price_before_an_uncertain_one(expected: str, high: str, drawing: str) -> None:
    outlook = Outlook(expected=prices(expected), high=prices(high))
    assert drawn(make_plan(world("60 - 30 60", waits(due_h=4), prices=outlook)), "a", 4) == drawing


@pytest.mark.parametrize(("per_tonne", "drawing"), [(0.0, "..#..."), (100.0, "...#..")])
def test_carbon_has_its_cost(per_tonne: float, drawing: str) -> None:
    grams = prices("100 100 900 100 100 100")
    seen = world(ROW, waits(), carbon=Outlook(expected=grams, high=grams))
    assert drawn(make_plan(replace(seen, carbon_cost_per_tonne=per_tonne)), "a") == drawing


# Zones: kinds of GPU, and domains with limits.


def test_each_kind_of_gpu_has_its_own_room() -> None:
    hardware = (*gpus(1), *gpus(1, first=1, model="NVIDIA A100-SXM4-40GB", max_cap_w=400.0))
    wanted = [waits("a", gpu_type="A40"), waits("b", gpu_type="A40"), waits("c", gpu_type="A100")]
    plan = make_plan(snapshot(hardware, *wanted, prices=prices(ROW), price=60.0))
    assert {drawn(plan, "a"), drawn(plan, "b")} == {"..#...", "...#.."}
    assert drawn(plan, "c") == "..#..."
    assert [str(plan.jobs[id].zone).split(": ")[1] for id in "abc"] == [
        "NVIDIA A40",
        "NVIDIA A40",
        "NVIDIA A100-SXM4-40GB",
    ]


@pytest.mark.parametrize(("node_w", "together"), [(400.0, 2), (100.0, 1)])
def test_a_limited_node_is_full_while_the_other_is_not(node_w: float, together: int) -> None:
    seen = snapshot(
        gpus(2), waits("a"), waits("b"), nodes=2, limits_w={"node-0": node_w}, prices=prices(ROW), price=60.0
    )
    plan = make_plan(seen)
    assert (len(plan.jobs), at_once(plan)) == (2, together)
    assert not any(str(planned.zone).startswith("node-0") for planned in plan.jobs.values()) or together == 2


# The last plan, and no time at all.


def crowd() -> Snapshot:
    jobs = [waits(f"j{i}", hours_long=1 + i % 3, due_h=12.0, gpus=1 + i % 2) for i in range(12)]
    return world("60 50 10 20 80 90 5 6 7 50 60 80", *jobs, count=3)


def test_the_last_plans_prices_lead_to_a_plan_as_good() -> None:
    cold = make_plan(crowd())
    warm = make_plan(crowd(), previous=cold)
    assert cold.certificate.value > 0
    assert warm.certificate.value >= 0.99 * cold.certificate.value
    assert cold.certificate.value <= warm.certificate.bound + 1e-6


def test_a_last_plan_that_is_over_is_no_guide_and_no_harm() -> None:
    old = replace(make_plan(crowd()), made_at=NOW - hours(48))
    over = replace(
        old, shadow=tuple(replace(s, start=NOW - hours(2), end=NOW - hours(1)) for s in old.shadow)
    )
    assert make_plan(world(ROW, waits()), previous=over).jobs == make_plan(world(ROW, waits())).jobs


def test_no_time_gives_windows_that_fit_and_says_what_is_missing() -> None:
    plan = make_plan(crowd(), time_limit_s=0.0)
    assert "no LP in the time limit" in str(plan.certificate.fallback)
    assert plan.jobs
    assert 0.0 < plan.certificate.value <= plan.certificate.bound
    held = {id: 1 + int(id[1:]) % 2 for id in plan.jobs}
    for planned in plan.jobs.values():
        (window,) = planned.windows
        beside = [id for id, other in plan.jobs.items() if _covers(other.windows[0], window.start)]
        assert sum(held[id] for id in beside) <= 3


def _covers(window: object, at: object) -> bool:
    return window.start <= at < window.end  # type: ignore[attr-defined, no-any-return]

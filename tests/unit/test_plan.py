"""Deferrable work over slots: drawings of prices and the hours that are used, `#` for one hour at full."""

from __future__ import annotations

import pytest

from scheduler.model import Flex, Job, WaitReason
from scheduler.place import place
from scheduler.plan import make_plan
from scheduler.quote import energy_cost, quote
from scheduler.snapshot import Snapshot
from scheduler.windows import Plan, ShadowPrice
from tests.builders import NOW, gpus, hours, job, prices, running, snapshot, view
from tests.plan_builders import drawn


def waits(id: str = "a", *, hours_long: float = 1.0, due_h: float | None = 6.0, **more: object) -> Job:
    return job(id, pausable=True, deadline_h=due_h, estimate_s=hours_long * 3600.0, **more)  # type: ignore[arg-type]


def world(row: str, *jobs: Job, count: int = 1) -> Snapshot:
    series = prices(row)
    return snapshot(gpus(count), *jobs, prices=series, price=series.at(NOW))


def worth_at(plan: Plan, hour: float) -> ShadowPrice:
    """The shadow prices in force then."""
    return next(slot for slot in plan.shadow if slot.start <= NOW + hours(hour) < slot.end)


@pytest.mark.parametrize(
    ("row", "what", "drawing"),
    [
        ("60 50 10 20 80 90", waits(), "..#..."),
        ("60 50 10 20 80 90", waits(hours_long=2), "..##.."),
        ("60 50 90 90 80 10", waits(due_h=3), ".#...."),  # the deadline comes before the cheapest hour
        ("10 50 90 90 80 60", waits(), "#....."),
        ("60 60 60 60 60 60", waits(), "#....."),  # nothing to gain: now
        ("60 -80 10 20 80 90", waits(), ".#...."),  # a negative price
        ("60 50 - 10 80 90", waits(hours_long=2), "...##."),  # never through a gap
        ("90 90 40 90 90 90", waits(due_h=None, ceiling=50.0), "..#..."),
        ("60 58 57 59 80 90", waits(due_h=None, ceiling=99.0), "#....."),  # not worth the wait
    ],
)
def test_the_cheapest_window(row: str, what: Job, drawing: str) -> None:
    assert drawn(make_plan(world(row, what)), "a", 6) == drawing


def test_two_share_one_gpu_in_the_two_cheapest_hours() -> None:
    plan = make_plan(world("60 50 10 20 80 90", waits("a"), waits("b")))
    assert {drawn(plan, "a", 6), drawn(plan, "b", 6)} == {"..#...", "...#.."}
    assert worth_at(plan, 2.5).gpu_h > 0
    assert worth_at(plan, 4.5).gpu_h == pytest.approx(0.0, abs=1e-9)


def test_watts_bound_what_is_planned() -> None:
    busy = snapshot(
        gpus(2), waits("a"), waits("b"), prices=prices("60 50 10 20 80 90"), price=60.0, limit_w=400.0
    )
    plan = make_plan(busy)
    assert {drawn(plan, "a", 6), drawn(plan, "b", 6)} == {"..#...", "...#.."}


def test_the_bound_is_never_below_the_value() -> None:
    jobs = [waits(f"j{i}", hours_long=1 + i % 3, due_h=12.0, gpus=1 + i % 2) for i in range(12)]
    certificate = make_plan(world("60 50 10 20 80 90 5 6 7 50 60 80", *jobs, count=3)).certificate
    assert certificate.step == "plan"
    assert certificate.value <= certificate.bound
    assert certificate.gap < 0.2


@pytest.mark.parametrize(
    "what",
    [
        job("a", estimate_s=3600.0, deadline_h=6.0),  # not pausable: did not declare that it can wait
        job("a", pausable=True, deadline_h=6.0),  # of unknown length
        job("a", pausable=True, estimate_s=3600.0),  # no deadline, no ceiling
    ],
)
def test_who_did_not_declare_it_is_not_deferred(what: Job) -> None:
    assert make_plan(world("60 50 10 20 80 90", what)).jobs == {}


def test_without_prices_nothing_is_planned() -> None:
    assert make_plan(snapshot(gpus(1), waits(), price=None)).jobs == {}


def test_place_lets_it_wait_for_its_window_and_starts_it_then() -> None:
    now = world("60 50 10 20 80 90", waits())
    plan = make_plan(now)
    decision = place(now, time_limit_s=2.0, plan=plan)
    assert decision.starts == ()
    assert decision.waits[0].reason is WaitReason.PRICE
    assert decision.waits[0].detail.startswith(
        "waits for 10.00/MWh at 2026-01-15 14:00 UTC instead of 60.00/MWh now; that saves 0.0"
    )
    later = snapshot(gpus(1), waits(), prices=now.prices, price=10.0, now=NOW + hours(2))
    assert len(place(later, time_limit_s=2.0, plan=plan).starts) == 1


def test_a_window_that_is_late_for_lack_of_gpus_holds_nobody_back() -> None:
    now = world("20 50 60 70 80 90", waits("a"), waits("b"))
    plan = make_plan(now)
    decision = place(now, time_limit_s=2.0, plan=plan)
    assert len(decision.starts) == 1
    assert decision.waits[0].reason is WaitReason.LOWER_PRIORITY


def test_a_quote_per_tier_slower_is_cheaper() -> None:
    now = world("60 50 10 20 80 90")
    quotes = quote(view(job("q", estimate_s=3600.0)), now)
    assert [q.flex for q in quotes] == list(Flex)
    rigid, flexible = quotes[0], quotes[-1]
    assert rigid.start == flexible.start == NOW
    assert rigid.finish is not None
    assert flexible.finish is not None
    assert rigid.finish < flexible.finish
    assert rigid.watts > flexible.watts
    assert rigid.energy_kwh > flexible.energy_kwh
    assert rigid.throughput_share >= 0.999
    assert rigid.co2_kg is None
    assert rigid.cost == pytest.approx(rigid.energy_kwh / 1e3 * 60.0, rel=0.02)


def test_a_quote_says_when_and_why_not_now() -> None:
    busy = snapshot(gpus(1), view(running(job("r")), remaining_s=1800.0), price=50.0)
    first = quote(view(job("q", estimate_s=3600.0)), busy)[0]
    assert first.start == NOW + hours(0.5)
    assert first.wait_reason is WaitReason.GPUS
    never = quote(view(job("q", gpus=9)), busy)[0]
    assert (never.start, never.wait_reason) == (None, WaitReason.UNSATISFIABLE)
    assert never.per_hour


def test_a_quote_waits_for_its_ceiling() -> None:
    first = quote(view(job("q", ceiling=15.0, estimate_s=60.0)), world("60 50 10 20 80 90"))[0]
    assert first.start == NOW + hours(2)
    assert first.wait_reason is WaitReason.PRICE


def test_a_blind_quote_has_watts_and_no_cost() -> None:
    first = quote(view(job("q")), snapshot(gpus(1), price=None))[0]
    assert first.cost is None
    assert first.watts > 100.0


def test_cost_is_the_sum_over_slots_with_carbon() -> None:
    now = snapshot(
        gpus(1), price=60.0, prices=prices("60 30"), carbon_g_per_kwh=400.0, carbon_cost_per_tonne=50.0
    )
    assert energy_cost(now, NOW, 2.0, 1000.0) == pytest.approx((60.0 + 30.0) / 1e3 + 2 * 20.0 / 1e3)

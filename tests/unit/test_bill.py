"""Joules into price slots, and bills out of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from power.series import Series, Slot
from scheduler.bill import (
    EnergyRow,
    Interval,
    RowKey,
    accrue,
    accrue_host,
    estimate_unthrottled,
    make_bill,
    priced,
)
from scheduler.slotting import split

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def series(*values: float, step_min: float = 15, start_min: float = 0) -> Series:
    return Series(
        tuple(
            Slot(at(start_min + i * step_min), at(start_min + (i + 1) * step_min), v)
            for i, v in enumerate(values)
        )
    )


def interval(start_min: float, end_min: float, joules: float = 900.0, **more: object) -> Interval:
    values = {
        "gpu_uuid": "GPU-a",
        "start": at(start_min),
        "end": at(end_min),
        "counter_before_j": 1000.0,
        "counter_after_j": 1000.0 + joules,
        "job_id": "job_1",
        "run_id": "run_1",
        "running": True,
        "cap_w": 200.0,
    }
    return Interval(**{**values, **more})  # type: ignore[arg-type]


def drawing(rows: dict[RowKey, EnergyRow]) -> str:
    """`15:450@10`: minutes of the slot, joules, price."""
    return " ".join(
        f"{(r.slot_end - r.slot_start) // timedelta(minutes=1)}:{r.energy_j:g}"
        f"@{'-' if r.price_per_mwh is None else format(r.price_per_mwh, 'g')}"
        for r in sorted(rows.values(), key=lambda row: row.slot_start)
    )


@pytest.mark.parametrize(
    ("start", "end", "prices", "drawn"),
    [
        (1, 2, series(10, 20), "15:900@10"),
        (14, 16, series(10, 20), "15:450@10 15:450@20"),
        (0, 15, series(10, 20), "15:900@10"),
        (15, 16, series(10, 20), "15:900@20"),
        (5, 35, series(10, 20, 30), "15:300@10 15:450@20 15:150@30"),
        (0, 30, series(10, step_min=60), "15:450@10 15:450@10"),
        (0, 15, series(10, 20, 30, step_min=5), "5:300@10 5:300@20 5:300@30"),
        (0, 30, Series(), "15:450@- 15:450@-"),
        (0, 30, series(10, start_min=20), "15:450@- 5:150@- 10:300@10"),
        (0, 15, series(10, step_min=5), "5:300@10 10:600@-"),
        (3, 3, series(10, 20), "15:900@10"),
        (3, 2, series(10, 20), "15:900@10"),
        (0, 30, series(-10, -20), "15:450@-10 15:450@-20"),
    ],
    ids=[
        "inside a slot",
        "over a boundary",
        "exactly a slot",
        "starts on a boundary",
        "a long gap over three",
        "hourly prices are cut at quarters",
        "five-minute prices",
        "no prices at all",
        "prices begin later",
        "prices end early",
        "no time passed",
        "the clock went back",
        "negative prices",
    ],
)
def test_energy_goes_to_the_slots_it_was_drawn_in(
    start: float, end: float, prices: Series, drawn: str
) -> None:
    assert drawing(accrue({}, interval(start, end), prices)) == drawn


def test_prices_and_carbon_of_different_resolution_cut_together() -> None:
    rows = accrue({}, interval(0, 20), series(10, step_min=60), series(100, 300, step_min=10))
    assert [(r.energy_j, r.carbon_g_per_kwh) for r in rows.values()] == [
        (450, 100),
        (225, 300),
        (225, 300),
    ]


def test_intervals_add_up_in_one_row() -> None:
    rows: dict[RowKey, EnergyRow] = {}
    for minute in range(3):
        step = interval(
            minute,
            minute + 1,
            joules=60,
            power_before_w=1.0,
            power_after_w=2.0,
            throughput_share=0.5,
            samples=4.0,
            counter_before_j=60.0 * minute,
            counter_after_j=60.0 * minute + 60,
        )
        rows |= accrue(rows, step, series(10))
    (row,) = rows.values()
    assert row == EnergyRow(
        kind="gpu",
        slot_start=NOON,
        slot_end=at(15),
        job_id="job_1",
        run_id="run_1",
        gpu_uuid="GPU-a",
        energy_j=180,
        integral_j=270,
        price_per_mwh=10,
        running_s=180,
        work_s=90,
        cap_w_s=36000,
        samples=12,
        counter_j=180,
        counter_at=at(3),
    )


def test_accruing_leaves_the_given_rows_alone() -> None:
    rows = accrue({}, interval(0, 1), series(10))
    before = dict(rows)
    accrue(rows, interval(1, 2), series(10))
    assert rows == before


def test_a_gpu_without_a_run_is_idle_and_pauses_do_not_run() -> None:
    (idle,) = accrue({}, interval(0, 1, run_id=None, job_id=None, running=False)).values()
    assert (idle.kind, idle.run_id, idle.job_id, idle.running_s, idle.energy_j) == (
        "idle",
        None,
        None,
        0,
        900,
    )
    (frozen,) = accrue({}, interval(0, 1, running=False)).values()
    assert (frozen.kind, frozen.running_s, frozen.cap_w_s, frozen.energy_j) == ("gpu", 0, 0, 900)


def test_where_nothing_was_integrated_the_counter_stands_unchecked() -> None:
    (row,) = accrue({}, interval(0, 10, power_before_w=100.0)).values()
    assert row.integral_j == row.energy_j == 900


@pytest.mark.parametrize(
    ("power_w", "energy_j"), [(10.0, 600.0), (None, 50.0)], ids=["integral", "what it counted since"]
)
def test_a_counter_that_fell_is_bridged(power_w: float | None, energy_j: float) -> None:
    step = interval(0, 1, counter_after_j=50.0, power_before_w=power_w, power_after_w=power_w)
    (row,) = accrue({}, step).values()
    assert (row.energy_j, row.counter_j) == (energy_j, 50)


def test_a_row_keeps_its_price_when_the_feed_is_lost_and_takes_a_late_one() -> None:
    (row,) = accrue({}, interval(0, 1), series(10)).values()
    assert priced(row, Series()).price_per_mwh == 10
    assert priced(replace(row, price_per_mwh=None), series(7)).price_per_mwh == 7


def test_hosts_cost_their_base_load() -> None:
    rows = accrue_host({}, at(10), at(20), 600.0, series(10, 20), domain="node")
    assert drawing(rows) == "15:180000@10 15:180000@20"
    assert {(r.kind, r.gpu_uuid, r.run_id) for r in rows.values()} == {("host", "node", None)}


def test_the_bill_of_a_run() -> None:
    """Two GPUs at 300 W for half an hour at 50 then 150 per MWh, 200 W caps, three quarters of the speed."""
    rows: dict[RowKey, EnergyRow] = {}
    for gpu in ("GPU-a", "GPU-b"):
        step = interval(
            0,
            30,
            gpu_uuid=gpu,
            joules=300 * 1800,
            power_before_w=294.0,
            power_after_w=294.0,
            throughput_share=0.75,
            samples=600.0,
        )
        rows |= accrue(rows, step, series(50, 150), series(400, step_min=60))
    bill = make_bill(rows.values(), promised=0.25)
    assert bill.energy_kwh == pytest.approx(0.3)
    assert bill.cost == pytest.approx(0.15 / 1e3 * 50 + 0.15 / 1e3 * 150)
    assert bill.co2_g == pytest.approx(120)
    assert bill.gpu_hours == pytest.approx(1)
    assert bill.average_cap_w == pytest.approx(200)
    assert bill.slowdown_used == pytest.approx(0.25)
    assert bill.slowdown_promised == 0.25
    assert bill.samples_per_kwh == pytest.approx(4000)
    assert bill.counter_vs_integral == pytest.approx(300 / 294 - 1)
    assert (bill.unpriced_kwh, bill.unknown_carbon_kwh) == (0, 0)
    assert (bill.start, bill.end) == (NOON, at(30))


def test_unknown_is_not_zero() -> None:
    unknown = make_bill(accrue({}, interval(0, 1, joules=3.6e6, running=False)).values())
    assert (unknown.cost, unknown.co2_g) == (None, None)
    assert (unknown.unpriced_kwh, unknown.unknown_carbon_kwh) == (1, 1)
    assert (unknown.average_cap_w, unknown.slowdown_used, unknown.samples_per_kwh) == (None, None, None)
    half = make_bill(accrue({}, interval(0, 30, joules=3.6e6), series(10)).values())
    assert half.cost == pytest.approx(0.005)
    assert half.unpriced_kwh == pytest.approx(0.5)
    nothing = make_bill([])
    assert (nothing.energy_kwh, nothing.cost, nothing.start) == (0, None, None)


def test_the_estimate_without_throttling_says_that_it_is_one() -> None:
    rows = accrue({}, interval(0, 30, throughput_share=0.5), series(50, 150))
    estimate = estimate_unthrottled(rows.values(), uncapped_w=400)
    assert estimate.label == "estimate"
    assert estimate.gpu_hours == pytest.approx(0.25)
    assert estimate.energy_kwh == pytest.approx(0.1)
    assert estimate.mean_price_per_mwh == pytest.approx(100)
    assert estimate.cost == pytest.approx(0.01)
    assert estimate_unthrottled(rows.values(), uncapped_w=400, mean_price_per_mwh=10).cost == pytest.approx(
        1e-3
    )
    assert estimate_unthrottled([], uncapped_w=400).cost is None


def test_a_day_of_real_prices_bills_like_the_integral(data_dir: Path) -> None:
    """A square wave of power over a real day, sampled every 7 s, against a sum done by hand."""
    prices = real_day(data_dir)
    start, end = prices.slots[0].start, prices.slots[-1].end
    rows: dict[RowKey, EnergyRow] = {}
    cost, counter, now = 0.0, 0.0, start
    while now < end:
        following = min(now + timedelta(seconds=7), end)
        power_w = 300.0 if now.minute % 2 else 90.0
        joules = power_w * (following - now).total_seconds()
        step = Interval(
            gpu_uuid="GPU-a",
            start=now,
            end=following,
            counter_before_j=counter,
            counter_after_j=counter + joules,
        )
        rows |= accrue(rows, step, prices)
        price = prices.at(now)
        assert price is not None
        cost += joules / 3.6e9 * price
        counter, now = counter + joules, following
    bill = make_bill(rows.values())
    assert bill.energy_kwh * 3.6e6 == pytest.approx(counter, rel=1e-9)
    assert bill.cost == pytest.approx(cost, rel=1e-2)
    assert bill.unpriced_kwh == 0


def real_day(data_dir: Path) -> Series:
    lines = (data_dir / "grid" / "prices" / "DE-LU_dayahead_60min_2023.csv").read_text().splitlines()
    points = [line.split(",") for line in lines[1:25]]
    return Series.from_starts([(datetime.fromisoformat(when), float(value)) for when, value in points])


def test_shares_of_a_split_sum_to_one() -> None:
    pieces = list(split(at(0.1), at(77.7), series(1, 2, 3, step_min=7)))
    assert sum(piece.share for piece in pieces) == pytest.approx(1, abs=1e-15)
    assert all(a.slot_end == b.slot_start for a, b in pairwise(pieces))

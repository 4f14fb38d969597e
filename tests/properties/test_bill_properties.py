"""The bill adds up to the meter, whatever the intervals, prices and owners were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from power.series import Series, Slot
from scheduler.bill import EnergyRow, Interval, RowKey, accrue, accrue_host, make_bill

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
UUIDS = ("GPU-a", "GPU-b")
Owner = tuple[str, str] | None
Reading = tuple[datetime, float, Owner]
OWNERS: tuple[Owner, ...] = (None, ("job_1", "run_1"), ("job_2", "run_2"))

seconds = st.floats(0.01, 5000, allow_nan=False)
watts = st.floats(0, 700)
figures = st.one_of(st.none(), st.floats(-500, 3000))


@st.composite
def series(draw: st.DrawFn) -> Series:
    """Slots of any length from any start, with gaps."""
    edge = NOON + timedelta(seconds=draw(st.integers(-3000, 3000)))
    slots = []
    for _ in range(draw(st.integers(0, 12))):
        end = edge + timedelta(seconds=draw(st.sampled_from([60, 300, 900, 1800, 3600, 1234])))
        value = draw(figures)
        if value is not None:
            slots.append(Slot(edge, end, value))
        edge = end
    return Series(tuple(slots))


@st.composite
def readings(draw: st.DrawFn) -> list[Reading]:
    """Time, counter and owner from then on, of one GPU."""
    now, counter = NOON, draw(st.floats(0, 1e9))
    found = []
    for _ in range(draw(st.integers(2, 12))):
        found.append((now, counter, draw(st.sampled_from(OWNERS))))
        step = draw(seconds)
        now += timedelta(seconds=step)
        counter += draw(watts) * step
    return found


def billed(meters: list[list[Reading]], *feeds: Series) -> list[EnergyRow]:
    rows: dict[RowKey, EnergyRow] = {}
    for uuid, meter in zip(UUIDS, meters, strict=True):
        for (t0, before, owner), (t1, after, _) in pairwise(meter):
            step = Interval(
                gpu_uuid=uuid,
                start=t0,
                end=t1,
                counter_before_j=before,
                counter_after_j=after,
                job_id=owner[0] if owner else None,
                run_id=owner[1] if owner else None,
                running=owner is not None,
                throughput_share=0.8,
                cap_w=200.0,
            )
            rows |= accrue(rows, step, *feeds)
    return list(rows.values())


def integral_of_power_times_price(meter: list[Reading], prices: Series) -> float:
    """Money, by walking over every edge of a reading or a price: a second way to the same figure."""
    total = 0.0
    for (t0, before, _), (t1, after, _) in pairwise(meter):
        power_w = (after - before) / (t1 - t0).total_seconds()
        for slot in prices.between(t0, t1):
            total += power_w * slot.duration_s / 3.6e9 * slot.value
    return total


@settings(max_examples=150, deadline=None)
@given(st.tuples(readings(), readings()), series(), series())
def test_rows_add_up_to_the_counters(
    meters: tuple[list[Reading], ...], prices: Series, carbon: Series
) -> None:
    rows = billed(list(meters), prices, carbon)
    metered_j = sum(meter[-1][1] - meter[0][1] for meter in meters)
    assert sum(row.energy_j for row in rows) == pytest.approx(metered_j, rel=1e-9, abs=1e-6)
    assert {row.kind for row in rows} <= {"gpu", "idle"}
    length_s = sum((t1 - t0).total_seconds() for m in meters for (t0, _, o), (t1, _, _) in pairwise(m) if o)
    assert sum(row.running_s for row in rows) == pytest.approx(length_s, rel=1e-9)
    for row in rows:
        assert row.slot_start < row.slot_end <= row.slot_start + timedelta(minutes=15)
        assert row.running_s <= (row.slot_end - row.slot_start).total_seconds() * (1 + 1e-9)
        assert row.price_per_mwh == prices.at(row.slot_start)


@settings(max_examples=150, deadline=None)
@given(st.tuples(readings(), readings()), series())
def test_cost_is_the_integral_of_power_times_price(meters: tuple[list[Reading], ...], prices: Series) -> None:
    bill = make_bill(billed(list(meters), prices))
    expected = sum(integral_of_power_times_price(meter, prices) for meter in meters)
    assert (bill.cost or 0.0) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert bill.energy_kwh >= bill.unpriced_kwh - 1e-12


@settings(max_examples=100, deadline=None)
@given(st.tuples(readings(), readings()), series(), watts, seconds)
def test_jobs_idle_and_hosts_add_up_to_the_site(
    meters: tuple[list[Reading], ...],
    prices: Series,
    base_load_w: float,
    length_s: float,
) -> None:
    rows = billed(list(meters), prices)
    rows += accrue_host({}, NOON, NOON + timedelta(seconds=length_s), base_load_w, prices).values()
    site = make_bill(rows)
    parts = [make_bill(r for r in rows if r.job_id == job) for job in ("job_1", "job_2")]
    parts += [make_bill(r for r in rows if r.kind == kind) for kind in ("idle", "host")]
    assert site.energy_kwh == pytest.approx(sum(p.energy_kwh for p in parts), rel=1e-9, abs=1e-15)
    assert (site.cost or 0.0) == pytest.approx(sum(p.cost or 0.0 for p in parts), rel=1e-9, abs=1e-12)
    host_j = sum(r.energy_j for r in rows if r.kind == "host")
    drawn_s = timedelta(seconds=length_s).total_seconds()
    assert host_j == pytest.approx(base_load_w * drawn_s, rel=1e-9, abs=1e-9)

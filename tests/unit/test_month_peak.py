"""The month's highest quarter hour, from the energy rows that a restart leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from power.budget import Domain, PowerTree
from scheduler.bill import EnergyRow, Kind
from scheduler.month_peak import AT_ONCE, MonthPeak, quarter_of
from scheduler.slotting import QUARTER
from scheduler.store import Store, open_store
from tests.builders import tree

MONTH = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path / 'wattmill.db'}") as opened:
        yield opened


def at(day: int, hour: float = 0.0) -> datetime:
    return MONTH + timedelta(days=day - 1, hours=hour)


def drew(store: Store, start: datetime, watts: float, *, of: Kind = "gpu", part: timedelta = QUARTER) -> None:
    """This much for the quarter hour's `part`, on one GPU or the hosts."""
    joules = watts * part.total_seconds()
    run_id, uuid = ("run_1" if of == "gpu" else None), ("site" if of == "host" else "gpu-0")
    row = EnergyRow(
        kind=of,
        gpu_uuid=uuid,
        slot_start=start,
        slot_end=start + part,
        energy_j=joules,
        run_id=run_id,
    )
    store.energy.upsert([row])


def peak_w(store: Store, now: datetime, *, power_tree: PowerTree | None = None) -> float:
    """As a controller that has just started finds it."""
    peak = MonthPeak(store, power_tree or tree(1))
    for _ in range(32):
        found = peak.at(now)
    return found


def test_every_kind_of_row_counts_and_the_highest_quarter_wins(store: Store) -> None:
    drew(store, at(2, 8.0), 100.0, of="gpu")
    drew(store, at(2, 8.0), 40.0, of="idle")
    drew(store, at(2, 8.0), 10.0, of="host")
    drew(store, at(2, 8.25), 120.0, of="gpu")
    assert peak_w(store, at(20)) == pytest.approx(150.0)


def test_slots_cut_at_prices_are_joined_to_quarter_hours(store: Store) -> None:
    five = timedelta(minutes=5)
    for third, watts in enumerate((300.0, 0.0, 150.0)):
        drew(store, at(2, 8.0) + third * five, watts, part=five)
    assert peak_w(store, at(3)) == pytest.approx(150.0)


def test_the_meter_shows_the_overhead_too(store: Store) -> None:
    drew(store, at(2), 100.0)
    site = PowerTree.of([Domain(name="site", pue=1.3, gpu_uuids=("gpu-0",))])
    assert peak_w(store, at(3), power_tree=site) == pytest.approx(130.0)


def test_a_quarter_counts_when_it_has_ended_even_if_its_rows_come_late(store: Store) -> None:
    peak = MonthPeak(store, tree(1))
    now = at(1, 9.0)
    drew(store, now, 500.0)
    assert peak.at(now + timedelta(minutes=14)) == 0.0
    assert peak.at(now + QUARTER) == 500.0
    late = at(1, 9.25)
    assert peak.at(late + QUARTER) == 500.0
    drew(store, late, 700.0)
    assert peak.at(late + 2 * QUARTER) == 700.0


def test_a_month_begins_anew(store: Store) -> None:
    peak = MonthPeak(store, tree(1))
    drew(store, at(1, -1.0), 900.0)  # February's
    drew(store, at(1, 1.0), 200.0)
    assert peak.at(at(1, 0.5)) == 0.0
    assert peak.at(at(1, 2.0)) == 200.0
    assert peak.at(datetime(2026, 4, 1, 1, tzinfo=UTC)) == 0.0


def test_after_a_start_a_long_month_is_read_a_day_at_a_time(store: Store) -> None:
    drew(store, at(5, 12.0), 300.0)
    peak = MonthPeak(store, tree(1))
    found = [peak.at(at(8)) for _ in range(9)]
    assert timedelta(days=1) == AT_ONCE
    assert found == [0.0] * 4 + [300.0] * 5


def test_quarters_are_of_utc() -> None:
    assert quarter_of(datetime.fromisoformat("2026-03-29T03:44:59+02:00")) == at(29, 1.5)

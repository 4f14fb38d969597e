"""Energy rows in the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from scheduler.bill import EnergyRow, make_bill
from scheduler.store import Counter, Store
from tests.store_builders import NOON

QUARTER = timedelta(minutes=15)


def a_row(slot: int = 0, **more: object) -> EnergyRow:
    values = {
        "kind": "gpu",
        "slot_start": NOON + slot * QUARTER,
        "slot_end": NOON + (slot + 1) * QUARTER,
        "job_id": "job_1",
        "run_id": "run_1",
        "gpu_uuid": "GPU-a",
        "energy_j": 3.6e6 / 7,
        "integral_j": 3.5e6 / 7,
        "price_per_mwh": -12.5,
        "running_s": 900.0,
        "work_s": 800.0,
        "cap_w_s": 9e4,
        "samples": 3.0,
        "counter_j": 1e9 + 0.125 + slot,
        "counter_at": NOON + (slot + 1) * QUARTER,
    }
    return EnergyRow(**{**values, **more})  # type: ignore[arg-type]


def idle(slot: int = 0, **more: object) -> EnergyRow:
    return a_row(slot, kind="idle", job_id=None, run_id=None, running_s=0.0, work_s=0.0, cap_w_s=0.0, **more)


def host(slot: int = 0) -> EnergyRow:
    return replace(idle(slot), kind="host", gpu_uuid=None, counter_j=None, counter_at=None)


def test_rows_come_back_to_the_last_bit(store: Store) -> None:
    rows = [host(), idle(gpu_uuid="GPU-b"), a_row(), a_row(1)]
    store.energy.upsert(rows)
    assert store.energy.rows() == rows


def test_writing_totals_again_replaces_them(store: Store) -> None:
    store.energy.upsert([a_row(), a_row(1)])
    store.energy.upsert([a_row(energy_j=1.0, price_per_mwh=None), a_row(2)])
    store.energy.upsert([])
    assert store.energy.rows() == [a_row(energy_j=1.0, price_per_mwh=None), a_row(1), a_row(2)]


def test_bills_per_run_job_and_site_add_up(store: Store) -> None:
    rows = [
        a_row(),
        a_row(run_id="run_2", job_id="job_1"),
        a_row(1, run_id="run_3", job_id="job_2"),
        idle(),
        host(),
        host(9),
    ]
    store.energy.upsert(rows)
    assert store.energy.for_run("run_1") == make_bill([rows[0]])
    assert store.energy.for_job("job_1") == make_bill(rows[:2])
    site = store.energy.site(NOON, NOON + 9 * QUARTER)
    parts = site["gpu"].energy_kwh + site["idle"].energy_kwh + site["host"].energy_kwh
    assert site["site"].energy_kwh == pytest.approx(parts, rel=1e-12)
    assert site["site"].energy_kwh == pytest.approx(5 / 7)
    assert store.energy.for_job("job_none").energy_kwh == 0


def test_rows_are_cut_out_by_half_open_time(store: Store) -> None:
    store.energy.upsert([a_row(n) for n in range(4)])
    found = store.energy.rows(job_id="job_1", run_id="run_1", start=NOON + QUARTER, end=NOON + 3 * QUARTER)
    assert found == [a_row(1), a_row(2)]


def test_a_restart_finds_counters_and_open_rows(store: Store) -> None:
    store.energy.upsert([a_row(n) for n in range(3)] + [idle(3), idle(0, gpu_uuid="GPU-b"), host()])
    counters = store.energy.last_counters()
    assert counters == {
        "GPU-a": Counter(1e9 + 0.125 + 3, NOON + 4 * QUARTER),
        "GPU-b": Counter(1e9 + 0.125, NOON + QUARTER),
    }
    moment = NOON + 1.5 * QUARTER
    assert store.energy.open_rows(moment) == [a_row(1), a_row(2), idle(3)]
    assert store.energy.open_rows(NOON + QUARTER)[0] == a_row(1)


def test_unpriced_rows_and_pruning(store: Store) -> None:
    store.energy.upsert([a_row(0, price_per_mwh=None), a_row(1), a_row(2, price_per_mwh=None)])
    assert store.energy.unpriced(NOON + QUARTER) == [a_row(2, price_per_mwh=None)]
    assert store.energy.prune(NOON + QUARTER) == 1
    assert len(store.energy.rows()) == 2

"""The slowdown ledger and the floor it allows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from scheduler.bill import EnergyRow
from scheduler.ledger import Ledger, allowed_floor_share
from scheduler.model import Flex

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def ledger(*minutes: float, start_min: float = 0) -> Ledger:
    """One minute at each of these shares of full speed."""
    account = Ledger()
    for index, share in enumerate(minutes):
        account = account.add(at(start_min + index), 60.0, share)
    return account


def test_slowdown_is_counted_over_running_time() -> None:
    account = Ledger()
    assert account.used_share == 0
    account = account.add(at(0), 60, 0.8).add(at(500), 60, 1.0)
    assert account.used_share == pytest.approx(0.1)
    assert account.running_s == 120


def test_the_last_hour_forgets_what_is_older() -> None:
    account = ledger(*[0.5] * 30, *[1.0] * 60)
    assert account.used_share == pytest.approx(1 / 6)
    assert account.used_share_last_hour(at(90)) == 0
    assert ledger(*[0.5] * 30, *[1.0] * 15).used_share_last_hour(at(45)) == pytest.approx(1 / 3)
    assert ledger(*[0.5] * 30).used_share_last_hour(at(500)) == 0


def test_the_account_stays_small() -> None:
    account = Ledger()
    for second in range(3 * 3600):
        account = account.add(NOON + timedelta(seconds=second), 1.0, 0.9)
    assert len(account.minutes) <= 61
    assert account.used_share == pytest.approx(0.1)
    assert account.used_share_last_hour(at(180)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("flex", "shares", "guard", "floor"),
    [
        (Flex.NONE, (), 0.02, 1.0),
        (Flex.NONE, (1.2,) * 9, 0.02, 1.0),
        (Flex.LOW, (), 0.0, 0.90),
        (Flex.LOW, (), 0.02, 0.92),
        (Flex.LOW, (), 0.5, 1.0),
        (Flex.LOW, (1.0,) * 600, 0.02, 0.92),
        (Flex.LOW, (0.93,) * 60, 0.02, 0.92),
        (Flex.LOW, (0.91,) * 60, 0.02, 0.96),
        (Flex.LOW, (0.90,) * 60, 0.02, 1.0),
        (Flex.LOW, (0.50,) * 60, 0.02, 1.0),
        (Flex.LOW, (0.90,) * 60, 0.0, 0.90),
        (Flex.LOW, (0.89,) * 60, 0.0, 1.0),
        (Flex.MID, (0.9,) * 60, 0.02, 0.77),
        (Flex.HIGH, (0.9,) * 60, 0.02, 0.52),
    ],
    ids=[
        "none gives nothing",
        "none gives nothing even when ahead",
        "fresh, no guard",
        "fresh, guarded",
        "a guard above the tier gives nothing",
        "savings are not spent",
        "within the tier",
        "into the guard: half way up",
        "at the tier: full speed",
        "far over it: full speed",
        "exactly at the tier without guard",
        "over the tier without guard",
        "mid",
        "high",
    ],
)
def test_floors(flex: Flex, shares: tuple[float, ...], guard: float, floor: float) -> None:
    assert allowed_floor_share(flex, ledger(*shares), guard) == pytest.approx(floor)


def test_a_bad_hour_raises_the_floor_even_when_the_life_is_good() -> None:
    account = ledger(*[1.0] * 600, *[0.79] * 60)
    now = at(660)
    assert account.used_share < 0.08
    assert allowed_floor_share(Flex.LOW, account, 0.02) == pytest.approx(0.92)
    assert allowed_floor_share(Flex.LOW, account, 0.02, now) == 1.0
    assert allowed_floor_share(Flex.LOW, account, 0.02, now + timedelta(hours=2)) == pytest.approx(0.92)


def test_keeping_to_the_floor_keeps_the_contract_whatever_came_before() -> None:
    """A job at exactly its floor for a day: within the tier over its life, and in every hour."""
    account, worst_hour = Ledger(), 0.0
    for minute in range(24 * 60):
        floor = allowed_floor_share(Flex.MID, account, 0.02, at(minute))
        account = account.add(at(minute), 60.0, floor)
        worst_hour = max(worst_hour, account.used_share_last_hour(at(minute + 1)))
        assert account.used_share <= Flex.MID.share
    assert worst_hour <= 2 * Flex.MID.share


def test_a_wrong_curve_is_made_good() -> None:
    """It runs 5 % slower than ordered: the floor rises until the mean is back inside the tier."""
    account = Ledger()
    for minute in range(24 * 60):
        floor = allowed_floor_share(Flex.MID, account, 0.02, at(minute))
        account = account.add(at(minute), 60.0, floor * 0.95)
    assert account.used_share <= Flex.MID.share


def test_an_account_is_rebuilt_from_energy_rows() -> None:
    row = EnergyRow(
        kind="gpu",
        slot_start=NOON,
        slot_end=at(15),
        job_id="job_1",
        run_id="run_1",
        gpu_uuid="GPU-a",
        running_s=900,
        work_s=450,
    )
    rows = [
        row,
        replace(row, gpu_uuid="GPU-b"),
        replace(row, slot_start=at(60), slot_end=at(75), run_id="run_2", work_s=900),
        replace(row, kind="idle", run_id=None, running_s=0, work_s=0),
    ]
    account = Ledger.from_rows(rows, at(75))
    assert (account.running_s, account.work_s) == (1800, 1350)
    assert account.used_share == pytest.approx(0.25)
    assert account.used_share_last_hour(at(75)) == 0
    assert Ledger.from_rows([], NOON) == Ledger()

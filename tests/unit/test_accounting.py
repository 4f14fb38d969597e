"""What a GPU counts as: the table of promise 3."""

from __future__ import annotations

import math

import pytest

from power.accounting import Accounted, AccountingRules, Load, account
from power.device import GpuReading
from tests.capd_builders import gpu_info, reading

INFO = gpu_info(0)  # 100 .. 300 W
RULES = AccountingRules(stale_s=3.0, idle_mark_w=120.0, idle_margin_w=15.0)


def counted(
    seen: GpuReading | None,
    *,
    age_s: float = 0.5,
    confirmed_cap_w: float | None = None,
    has_run: bool = False,
) -> Accounted:
    return account(INFO, seen, age_s=age_s, confirmed_cap_w=confirmed_cap_w, has_run=has_run, rules=RULES)


BUSY = (4711,)


@pytest.mark.parametrize(
    ("seen", "has_run", "expected"),
    [
        # a load counts at its cap, however little it draws
        (reading(power_w=90.0, enforced_cap_w=200.0, pids=BUSY), True, Accounted(200.0, Load.LOADED)),
        (reading(power_w=None, enforced_cap_w=200.0, pids=BUSY), True, Accounted(200.0, Load.LOADED)),
        # a run that has no process yet, or none any more, still holds its watts
        (reading(power_w=40.0, enforced_cap_w=200.0), True, Accounted(200.0, Load.LOADED)),
        # a draw measurably above the cap is believed, noise is not
        (reading(power_w=240.0, enforced_cap_w=200.0, pids=BUSY), True, Accounted(240.0, Load.LOADED)),
        (reading(power_w=204.0, enforced_cap_w=200.0, pids=BUSY), True, Accounted(200.0, Load.LOADED)),
        # proven empty: measured idle and a margin
        (reading(power_w=40.0, enforced_cap_w=200.0), False, Accounted(55.0, Load.EMPTY)),
        # somebody else's process brings the cap back
        (reading(power_w=40.0, enforced_cap_w=200.0, pids=BUSY), False, Accounted(200.0, Load.FOREIGN)),
        # not proven: no list of processes, too high a draw, a draw of zero, busy, no draw at all
        (reading(power_w=40.0, enforced_cap_w=200.0, pids=None), False, Accounted(200.0, Load.LOADED)),
        (reading(power_w=130.0, enforced_cap_w=200.0), False, Accounted(200.0, Load.LOADED)),
        (reading(power_w=0.0, enforced_cap_w=200.0), False, Accounted(200.0, Load.LOADED)),
        (reading(power_w=40.0, utilization=0.9, enforced_cap_w=200.0), False, Accounted(200.0, Load.LOADED)),
        (reading(power_w=None, enforced_cap_w=200.0), False, Accounted(200.0, Load.LOADED)),
        # no readable limit
        (reading(power_w=90.0, enforced_cap_w=None, pids=BUSY), True, Accounted(300.0, Load.LOADED)),
        # implausible: nothing at full use, far above the board, not a number
        (reading(power_w=0.0, utilization=1.0, pids=BUSY), True, Accounted(300.0, Load.UNKNOWN)),
        (reading(power_w=3000.0, enforced_cap_w=150.0), True, Accounted(300.0, Load.UNKNOWN)),
        (reading(power_w=math.nan, enforced_cap_w=150.0), False, Accounted(300.0, Load.UNKNOWN)),
        (reading(power_w=-5.0, enforced_cap_w=150.0), False, Accounted(300.0, Load.UNKNOWN)),
        # lost
        (None, True, Accounted(300.0, Load.UNKNOWN)),
        (None, False, Accounted(300.0, Load.UNKNOWN)),
    ],
)
def test_counts(seen: GpuReading | None, has_run: bool, expected: Accounted) -> None:
    assert counted(seen, has_run=has_run) == expected


@pytest.mark.parametrize("age_s", [3.01, 1e9, -1.0, math.nan])
def test_stale_counts_at_the_maximum(age_s: float) -> None:
    assert counted(reading(enforced_cap_w=150.0), age_s=age_s) == Accounted(300.0, Load.UNKNOWN)


def test_confirmed_cap_stands_in_where_the_limit_cannot_be_read() -> None:
    seen = reading(enforced_cap_w=None, pids=BUSY)
    assert counted(seen, confirmed_cap_w=150.0, has_run=True).watts == 150.0


def test_a_limit_somebody_raised_counts() -> None:
    seen = reading(enforced_cap_w=280.0, pids=BUSY)
    assert counted(seen, confirmed_cap_w=150.0, has_run=True).watts == 280.0


def test_a_raise_counts_before_it_is_in_force() -> None:
    seen = reading(enforced_cap_w=150.0, pids=BUSY)
    assert counted(seen, confirmed_cap_w=250.0, has_run=True).watts == 250.0


def test_foreign_is_a_property() -> None:
    assert counted(reading(pids=BUSY)).foreign
    assert not counted(reading(pids=BUSY), has_run=True).foreign

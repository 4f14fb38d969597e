"""What a GPU counts as: the table of promise 3."""

from __future__ import annotations

import math

import numpy as np
import pytest

from power.accounting import LOADS, AccountingRules, Load, account
from power.device import GpuReading
from power.readings import Readings
from tests.capd_builders import reading

RULES = AccountingRules(stale_s=3.0, idle_mark_w=120.0, idle_margin_w=15.0)


def counted(
    seen: GpuReading | None,
    *,
    age_s: float = 0.5,
    confirmed_cap_w: float | None = None,
    has_run: bool = False,
) -> tuple[float, Load]:
    """(watts, load) of one board of 100 .. 300 W."""
    figure = account(
        Readings.of([(seen, -age_s)]),
        min_cap_w=np.array([100.0]),
        max_cap_w=np.array([300.0]),
        confirmed_cap_w=np.array([math.nan if confirmed_cap_w is None else confirmed_cap_w]),
        has_run=np.array([has_run]),
        now_s=0.0,
        rules=RULES,
    )
    return float(figure.watts[0]), LOADS[figure.load[0]]


BUSY = (4711,)


@pytest.mark.parametrize(
    ("seen", "has_run", "expected"),
    [
        # a load counts at its cap, however little it draws
        (reading(power_w=90.0, enforced_cap_w=200.0, pids=BUSY), True, (200.0, Load.LOADED)),
        (reading(power_w=None, enforced_cap_w=200.0, pids=BUSY), True, (200.0, Load.LOADED)),
        # a run that has no process yet, or none any more, still holds its watts
        (reading(power_w=40.0, enforced_cap_w=200.0), True, (200.0, Load.LOADED)),
        # a draw measurably above the cap is believed, noise is not
        (reading(power_w=240.0, enforced_cap_w=200.0, pids=BUSY), True, (240.0, Load.LOADED)),
        (reading(power_w=204.0, enforced_cap_w=200.0, pids=BUSY), True, (200.0, Load.LOADED)),
        # proven empty: measured idle and a margin
        (reading(power_w=40.0, enforced_cap_w=200.0), False, (55.0, Load.EMPTY)),
        # somebody else's process brings the cap back
        (reading(power_w=40.0, enforced_cap_w=200.0, pids=BUSY), False, (200.0, Load.FOREIGN)),
        # not proven: no list of processes, too high a draw, a draw of zero, busy, no draw at all
        (reading(power_w=40.0, enforced_cap_w=200.0, pids=None), False, (200.0, Load.LOADED)),
        (reading(power_w=130.0, enforced_cap_w=200.0), False, (200.0, Load.LOADED)),
        (reading(power_w=0.0, enforced_cap_w=200.0), False, (200.0, Load.LOADED)),
        (reading(power_w=40.0, utilization=0.9, enforced_cap_w=200.0), False, (200.0, Load.LOADED)),
        (reading(power_w=None, enforced_cap_w=200.0), False, (200.0, Load.LOADED)),
        # no readable limit
        (reading(power_w=90.0, enforced_cap_w=None, pids=BUSY), True, (300.0, Load.LOADED)),
        # implausible: nothing at full use, far above the board, not a number
        (reading(power_w=0.0, utilization=1.0, pids=BUSY), True, (300.0, Load.UNKNOWN)),
        (reading(power_w=3000.0, enforced_cap_w=150.0), True, (300.0, Load.UNKNOWN)),
        (reading(power_w=math.nan, enforced_cap_w=150.0), False, (300.0, Load.UNKNOWN)),
        (reading(power_w=-5.0, enforced_cap_w=150.0), False, (300.0, Load.UNKNOWN)),
        # lost
        (None, True, (300.0, Load.UNKNOWN)),
        (None, False, (300.0, Load.UNKNOWN)),
    ],
)
def test_counts(seen: GpuReading | None, has_run: bool, expected: tuple[float, Load]) -> None:
    assert counted(seen, has_run=has_run) == expected


@pytest.mark.parametrize("age_s", [3.01, 1e9, -1.0, math.nan])
def test_stale_counts_at_the_maximum(age_s: float) -> None:
    assert counted(reading(enforced_cap_w=150.0), age_s=age_s) == (300.0, Load.UNKNOWN)


def test_confirmed_cap_stands_in_where_the_limit_cannot_be_read() -> None:
    seen = reading(enforced_cap_w=None, pids=BUSY)
    assert counted(seen, confirmed_cap_w=150.0, has_run=True)[0] == 150.0


def test_a_limit_somebody_raised_counts() -> None:
    seen = reading(enforced_cap_w=280.0, pids=BUSY)
    assert counted(seen, confirmed_cap_w=150.0, has_run=True)[0] == 280.0


def test_a_raise_counts_before_it_is_in_force() -> None:
    seen = reading(enforced_cap_w=150.0, pids=BUSY)
    assert counted(seen, confirmed_cap_w=250.0, has_run=True)[0] == 250.0


def test_a_row_counts_as_it_would_alone() -> None:
    looks = [(reading(power_w=40.0), 0.0), (None, 0.0), (reading(pids=BUSY, enforced_cap_w=120.0), 0.0)]
    figure = account(
        Readings.of(looks),
        min_cap_w=np.full(3, 100.0),
        max_cap_w=np.full(3, 300.0),
        confirmed_cap_w=np.full(3, math.nan),
        has_run=np.zeros(3, dtype=bool),
        now_s=0.5,
        rules=RULES,
    )
    alone = [counted(seen, age_s=0.5) for seen, _ in looks]
    assert list(zip(figure.watts.tolist(), (LOADS[code] for code in figure.load), strict=True)) == alone
    assert figure.are(Load.FOREIGN).tolist() == [False, False, True]

"""What a plan keeps back: drawn as an hour per slot, `!` where the plan held the site's draw down."""

from __future__ import annotations

import pytest

from scheduler.decision import Certificate
from scheduler.horizon import Horizon, Outlook
from scheduler.place import place
from scheduler.snapshot import Snapshot
from scheduler.windows import Plan, PlannedJob, ShadowPrice, Window
from tests.builders import NOW, gpus, hours, job, prices, snapshot


def world(row: str, *, published_h: int = 6) -> Snapshot:
    """One deferrable job on an empty GPU. Prices beyond `published_h` are only expected."""
    series = prices(row)
    known = series.between(NOW, NOW + hours(published_h))
    waits = job("a", pausable=True, deadline_h=12.0, estimate_s=3600.0)
    ahead = Horizon(prices=Outlook(expected=series, high=series))
    return snapshot(gpus(1), waits, prices=known, price=series.at(NOW), horizon=ahead)


def planned(start_h: float, marks: str, *, saved: float = 0.0) -> Plan:
    slots = tuple(
        ShadowPrice(
            start=NOW + hours(h),
            end=NOW + hours(h + 1),
            price_per_mwh=50.0,
            gpu_h=0.0,
            peak_w=0.01 if mark == "!" else 0.0,
        )
        for h, mark in enumerate(marks)
    )
    window = Window(start=NOW + hours(start_h), end=NOW + hours(start_h + 1), share=1.0)
    one = PlannedJob(windows=(window,), expected_cost=1.0, cost_now=1.0 + saved)
    certificate = Certificate(step="plan", value=1.0, bound=1.0, solve_s=0.0)
    return Plan(made_at=NOW, jobs={"a": one}, shadow=slots, certificate=certificate)


@pytest.mark.parametrize(
    ("row", "plan", "says"),
    [
        ("60 50 10 50 50 50", planned(2, "......", saved=0.5), "10.00/MWh"),  # cheaper then
        ("60 60 60 60 60 60", planned(2, "......"), None),  # late for lack of room: there is room now
        ("60 60 60 60 60 60", planned(2, "!....."), "the month's peak"),
        ("60 60 60 60 60 60", planned(2, "...!.."), None),  # held down only after it would have started
        ("60 60 60 60 60 60", planned(0, "!....."), None),  # meant to run now
    ],
)
def test_who_is_kept_back(row: str, plan: Plan, says: str | None) -> None:
    decision = place(world(row), time_limit_s=1.0, plan=plan)
    assert [start.job_id for start in decision.starts] == ([] if says else ["a"])
    assert all(says in wait.detail for wait in decision.waits if says)


def test_a_price_that_is_only_expected_counts() -> None:
    decision = place(
        world("60 60 60 60 10 60", published_h=2), time_limit_s=1.0, plan=planned(4, "......", saved=0.5)
    )
    assert decision.starts == ()
    assert "10.00/MWh" in decision.waits[0].detail

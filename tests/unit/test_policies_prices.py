"""Policies that look at prices: who waits for a cheaper hour, until when, and who is stopped for one."""

from __future__ import annotations

from typing import Any

import pytest

from power.grid.forecast import Outlook
from scheduler.decision import Decision
from scheduler.horizon import Horizon
from scheduler.model import Job
from scheduler.policy.named import open_policy
from scheduler.policy.policy import Policy
from scheduler.policy.price_threshold import SeenPrices
from scheduler.snapshot import JobView, Snapshot
from tests.builders import NOW, gpus, hours, job, prices, running, snapshot, view

HOUR_S = 3600.0


def world(*jobs: Job | JobView, curve: str, at_h: float = 0.0, **more: Any) -> Snapshot:
    """Four GPUs; prices by the hour, `curve` from NOW on, seen `at_h` hours later."""
    now, series = NOW + hours(at_h), prices(curve)
    known = series.between(now, now + hours(1000))
    return snapshot(gpus(4), *jobs, now=now, price=series.at(now), prices=known, **more)


def started(policy: Policy | str, what: Snapshot) -> list[str]:
    opened = open_policy(policy) if isinstance(policy, str) else policy
    return [start.job_id for start in opened.place(what, time_limit_s=1.0).starts]


def patient(name: str = "patient", *, lasts_h: float | None = 2.0, due_h: float | None = None) -> Job:
    """May be paused; submitted at NOW."""
    return job(
        name, pausable=True, deadline_h=due_h, estimate_s=None if lasts_h is None else lasts_h * HOUR_S
    )


# --- price_threshold ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_h", "lasts_h", "due_h", "starts"),
    [
        (0.0, 2.0, None, ["other"]),
        (11.0, 2.0, None, ["other"]),
        (11.8, 2.0, None, ["other", "patient"]),  # twelve hours end before it is asked again
        (12.5, 2.0, None, ["other", "patient"]),
        (5.0, 2.0, 8.0, ["other"]),  # due in three hours, needs two
        (5.9, 2.0, 8.0, ["other", "patient"]),  # the last moment
        (5.9, None, 8.0, ["other"]),  # of unknown length: only the twelve hours count
        (12.0, None, 8.0, ["other", "patient"]),
    ],
)
def test_above_the_threshold_jobs_that_can_wait_do_until_their_time_is_up(
    at_h: float, lasts_h: float | None, due_h: float | None, starts: list[str]
) -> None:
    dear = world(
        patient(lasts_h=lasts_h, due_h=due_h), job("other", minutes_ago=5), curve="100 " * 24, at_h=at_h
    )
    assert started("price_threshold:above=90,delay_h=12", dear) == starts


@pytest.mark.parametrize(("price", "starts"), [("89", ["patient"]), ("90", ["patient"]), ("91", [])])
def test_at_the_threshold_and_below_everybody_starts(price: str, starts: list[str]) -> None:
    assert started("price_threshold:above=90", world(patient(), curve=price)) == starts


def test_without_a_price_nobody_waits() -> None:
    unknown = world(patient(), curve="- 100 100", at_h=0.0)
    assert started("price_threshold:above=90", unknown) == ["patient"]


def test_who_waits_for_a_price_holds_nobody_up() -> None:
    wide = job("wide", gpus=4, pausable=True, minutes_ago=30)
    assert started("price_threshold:above=90", world(wide, job("a"), curve="100")) == ["a"]


def test_without_a_threshold_it_is_the_median_of_what_was_published_so_far() -> None:
    policy = open_policy("price_threshold")
    assert started(policy, world(patient(), curve="50 10 100")) == ["patient"]  # the median is 50
    assert started(policy, world(patient(), curve="50 10 100", at_h=2.0)) == []
    # What was seen before counts on, and each slot once: 10 50 60 70 100.
    assert started(policy, world(patient(), curve="50 10 60 100 70", at_h=2.0)) == ["patient"]


@pytest.mark.parametrize(
    ("published", "median"),
    [(["30"], 30.0), (["30 10 20"], 20.0), (["30 10", "30 10 20 90 90"], 30.0), ([""], None)],
)
def test_the_median_of_seen_prices(published: list[str], median: float | None) -> None:
    seen = SeenPrices()
    for curve in published:
        found = seen.median_per_mwh(prices(curve))
    assert found == median


# --- wait_awhile --------------------------------------------------------------------------------------------


CURVE = "50 20 70 10 60 30 80 90"  # hours 0 .. 7


@pytest.mark.parametrize(
    ("lasts_h", "due_h", "runs_in_hours"),
    [
        (0.9, 8.0, [3]),
        (1.8, 8.0, [1, 3]),
        (2.8, 8.0, [1, 3, 5]),
        (1.8, 3.0, [0, 1]),  # only what lies before its deadline
        (3.9, 4.0, [0, 1, 2, 3]),  # no time to lose
    ],
)
def test_a_job_starts_in_its_cheapest_hours_before_the_deadline(
    lasts_h: float, due_h: float, runs_in_hours: list[int]
) -> None:
    """Asked in each hour anew, as if nothing had been done before: hours after the deadline left out."""
    starts = [
        hour
        for hour in range(int(due_h))
        if hour + lasts_h <= due_h  # later it is late whatever it does
        and started("wait_awhile", world(patient(lasts_h=lasts_h, due_h=due_h), curve=CURVE, at_h=hour))
    ]
    last_start_h = due_h - lasts_h
    assert set(runs_in_hours) & set(starts) == {hour for hour in runs_in_hours if hour <= last_start_h}
    assert started("wait_awhile", world(patient(lasts_h=lasts_h, due_h=due_h), curve=CURVE)) == (
        ["patient"] if 0 in runs_in_hours else []
    )


def run_through(lasts_h: float, due_h: float, *, curve: str, step_h: float = 0.25) -> list[float]:
    """Hours at which the job runs when the policy is asked every quarter of an hour; it works in between."""
    policy, left_h, since_h, ran = open_policy("wait_awhile"), lasts_h, None, list[float]()
    for step in range(int(len(curve.split()) / step_h)):
        at_h = step * step_h
        what = patient(due_h=due_h)
        if since_h is not None:
            what = running(what, 0, minutes_ago=-60 * since_h)
        answer = policy.place(
            world(view(what, remaining_s=left_h * HOUR_S), curve=curve, at_h=at_h), time_limit_s=1.0
        )
        if answer.starts:
            since_h = at_h
        if answer.preempts:
            since_h = None
        if since_h is not None:
            ran.append(at_h)
            left_h -= step_h
        if left_h <= 0:
            return ran
    raise AssertionError(f"the job is not done: {left_h} h left")


def quarters(*whole_hours: int) -> list[float]:
    return [hour + quarter / 4 for hour in whole_hours for quarter in range(4)]


@pytest.mark.parametrize(
    ("lasts_h", "due_h", "ran"),
    [
        (1.0, 8.0, quarters(3)),
        (2.0, 8.0, quarters(1, 3)),  # stopped in hour 2, and started again
        (3.0, 8.0, quarters(1, 3, 5)),
        (1.5, 8.0, [*quarters(1), 3.0, 3.25]),  # a run lasts a slot at least
        (1.0, 2.75, quarters(1)),
        (2.0, 2.5, quarters(0, 1)),  # no time to lose: it runs through
    ],
)
def test_a_job_is_stopped_in_dear_hours_and_done_by_its_deadline(
    lasts_h: float, due_h: float, ran: list[float]
) -> None:
    assert run_through(lasts_h, due_h, curve=CURVE) == ran


def place(what: Snapshot) -> Decision:
    return open_policy("wait_awhile").place(what, time_limit_s=1.0)


def at_work(*, minutes: float, due_h: float, left_h: float, **more: Any) -> JobView:
    what = job("a", pausable=True, deadline_h=due_h, **more)
    return view(running(what, 0, minutes_ago=minutes), remaining_s=left_h * HOUR_S)


@pytest.mark.parametrize(
    ("a", "stopped"),
    [
        (at_work(minutes=60, due_h=8, left_h=1), True),
        (at_work(minutes=59, due_h=8, left_h=1), False),  # a run lasts at least a slot
        (at_work(minutes=60, due_h=1.2, left_h=1), False),  # runs through: its deadline is near
        (at_work(minutes=60, due_h=8, left_h=0), False),  # has outlived its owner's guess
        (at_work(minutes=60, due_h=8, left_h=1, max_pause_s=600.0), False),
        (at_work(minutes=60, due_h=8, left_h=1, requeue=False), False),
    ],
)
def test_who_is_stopped_in_a_dear_hour(a: JobView, stopped: bool) -> None:
    answer = place(world(a, curve="90 20 20 20 20 20 20 20 20"))
    assert [preempt.job_id for preempt in answer.preempts] == (["a"] if stopped else [])


def test_the_cause_of_a_stop_has_the_price() -> None:
    (preempt,) = place(world(at_work(minutes=60, due_h=8, left_h=1), curve="90 20 20")).preempts
    assert "90.00/MWh" in preempt.cause


def test_others_start_as_by_backfill_and_so_does_everybody_without_a_price() -> None:
    assert started("wait_awhile", world(job("a"), patient(due_h=None), curve="90 20")) == ["a", "patient"]
    blind = snapshot(gpus(4), patient(due_h=30.0), price=None)
    assert started("wait_awhile", blind) == ["patient"]


def test_behind_the_published_prices_the_forecast_counts_and_behind_that_the_mean() -> None:
    later = Horizon(prices=Outlook(expected=prices("50 60 60 10 60")))
    due = patient(lasts_h=0.9, due_h=5.0)
    assert started("wait_awhile", world(due, curve="50 60 60")) == ["patient"]  # 56.7 on average: not cheaper
    assert started("wait_awhile", world(due, curve="50 60 60", horizon=later)) == []
    assert started("wait_awhile", world(due, curve="50 10 10")) == []

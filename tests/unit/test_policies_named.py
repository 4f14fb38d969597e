"""Policies by name: what can be opened, what is refused and why; and ours, switch by switch."""

from __future__ import annotations

from typing import Any

import pytest

from power.series import Series
from scheduler.model import WaitReason
from scheduler.policy.named import POLICIES, open_policy
from scheduler.policy.policy import UnknownPolicy
from scheduler.snapshot import Snapshot
from tests.builders import NOW, gpus, hours, job, prices, running, snapshot


@pytest.mark.parametrize(
    "text",
    [
        *POLICIES,
        "uniform_cap:share=0.7",
        "price_threshold:above=90,delay_h=12",
        "max_throughput:round_s=360,objective=fair",
        "wattmill:caps=off,shift=off,pause=off,pack=off",
        "wattmill:plan_every_s=900,plan_limit_s=2,place_limit_s=0.5",
    ],
)
def test_every_policy_opens_under_its_own_name_and_decides(text: str) -> None:
    policy = open_policy(text)
    assert policy.name == text
    assert policy.looks_every_s > 0
    world = snapshot(gpus(2), running(job("a", flex="high"), 0), job("b", flex="high"))
    assert [start.job_id for start in policy.place(world, time_limit_s=1.0).starts] == ["b"]
    assert [cap.job_id for cap in policy.caps(world).caps] == ["a"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "fifo, backfill"),
        ("best", "no policy 'best'; there are fifo, backfill, uniform_cap"),
        ("fifo:share=1", "has no option 'share'; it has none"),
        ("uniform_cap:cap=0.7", "has no option 'cap'; it has share="),
        ("uniform_cap:share", "option share"),
        ("uniform_cap:share=high", "option share"),
        ("uniform_cap:share=1.2", "share must be above 0 and at most 1, got 1.2"),
        ("uniform_cap:share=0.7,share=0.8", "given twice"),
        ("price_threshold:above=nan", "above must be a finite price"),
        ("price_threshold:delay_h=-1", "delay_h must be at least 0"),
        ("max_throughput:round_s=0", "round_s must be above 0"),
        ("max_throughput:objective=best", "objective must be one of sum, fair"),
        ("wattmill:caps=no", "must be `on` or `off`, got 'no'"),
        ("wattmill:plan_every_s=0", "plan_every_s must be above 0"),
    ],
)
def test_what_cannot_be_opened_says_what_can(text: str, says: str) -> None:
    with pytest.raises(UnknownPolicy) as refused:
        open_policy(text)
    assert says in str(refused.value)


def test_a_speed_below_zero_is_refused() -> None:
    with pytest.raises(UnknownPolicy, match="speeds"):
        open_policy("max_throughput", speeds={("a", "A40"): -1.0})


# --- ours ---------------------------------------------------------------------------------------------------


def day(*jobs: Any, at_h: float = 0.0, curve: str = "200 200 200 20 20 20 20 20", **more: Any) -> Snapshot:
    now, series = NOW + hours(at_h), prices(curve)
    return snapshot(
        gpus(4), *jobs, now=now, price=series.at(now), prices=series.between(now, NOW + hours(99)), **more
    )


def patient(name: str = "patient") -> Any:
    return job(name, pausable=True, deadline_h=7.5, estimate_s=3600.0)


def test_it_plans_and_the_plan_holds_a_job_back_for_its_cheap_hours() -> None:
    policy = open_policy("wattmill")
    first = policy.place(day(patient()), time_limit_s=1.0)
    assert [certificate.step for certificate in first.certificates] == ["plan", "place"]
    assert not first.starts
    again = policy.place(day(patient(), at_h=0.5), time_limit_s=1.0)
    assert [certificate.step for certificate in again.certificates] == ["place"]  # the plan still serves
    assert not again.starts
    then = policy.place(day(patient(), at_h=3.0), time_limit_s=1.0)
    assert [start.job_id for start in then.starts] == ["patient"]


def test_without_shift_it_starts_at_once() -> None:
    first = open_policy("wattmill:shift=off").place(day(patient()), time_limit_s=1.0)
    assert [start.job_id for start in first.starts] == ["patient"]
    assert [certificate.step for certificate in first.certificates] == ["place"]


@pytest.mark.parametrize(
    ("later", "steps"),
    [
        ({"at_h": 0.9}, ["place"]),
        ({"at_h": 1.0}, ["plan", "place"]),  # too old
        ({"at_h": 0.1, "curve": "200 200 200 20 20 20 20 20 30"}, ["plan", "place"]),  # more is published
    ],
)
def test_a_plan_is_made_anew_when_prices_are_published_or_it_is_old(
    later: dict[str, Any], steps: list[str]
) -> None:
    policy = open_policy("wattmill:plan_every_s=3600")
    policy.place(day(patient()), time_limit_s=1.0)
    after = policy.place(day(patient(), **later), time_limit_s=1.0)
    assert [certificate.step for certificate in after.certificates] == steps


def test_a_job_that_no_plan_knows_waits_for_the_next_one_unless_it_is_late() -> None:
    policy = open_policy("wattmill")
    policy.place(day(patient(), curve="50 " * 8), time_limit_s=1.0)
    new = patient("new")
    late = job("late", pausable=True, deadline_h=1.5, estimate_s=3600.0)
    after = policy.place(day(new, late, curve="50 " * 8, at_h=0.1), time_limit_s=1.0)
    assert [start.job_id for start in after.starts] == ["late"]


def test_without_caps_no_price_lowers_a_cap_and_limits_still_do() -> None:
    busy = running(job("a", flex="high", priority="low"), 0)
    dear = snapshot(gpus(1), busy, price=5000.0)
    (cap,) = open_policy("wattmill").caps(dear).caps
    (free,) = open_policy("wattmill:caps=off").caps(dear).caps
    assert cap.cap_w < free.cap_w == 300.0
    (short,) = (
        open_policy("wattmill:caps=off").caps(snapshot(gpus(1), busy, price=5000.0, limit_w=200.0)).caps
    )
    assert short.cap_w == pytest.approx(200.0, abs=0.01)


def test_without_pause_nobody_is_paused_for_a_price() -> None:
    busy = running(job("a", pausable=True, ceiling=60.0), 0)
    dear = snapshot(gpus(1), busy, price=90.0, prices=Series())
    (pause,) = open_policy("wattmill").place(dear, time_limit_s=1.0).pauses
    assert pause.reason is WaitReason.PRICE
    assert open_policy("wattmill:pause=off").place(dear, time_limit_s=1.0).pauses == ()


def test_without_packing_the_certificate_names_the_simpler_method() -> None:
    answer = open_policy("wattmill:pack=off").place(snapshot(gpus(2), job("a")), time_limit_s=1.0)
    assert [certificate.fallback for certificate in answer.certificates][-1] == (
        "greedy: packing is switched off"
    )

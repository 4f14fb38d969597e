"""What the demonstration concludes from what it saw: promises, words, bill and screen."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from api.demo import prices, scenario
from api.demo.judge import JobSeen, Seen, judge, relative_speeds, seen
from api.demo.receipt import mean_over, receipt
from api.demo.story import happenings, status_line
from api.demo.view import bill, live, spark, verdicts
from power.series import Series

SITE = scenario.Site(backend="simulated", count=8, model="A40", max_cap_w=300.0)
SPEED = scenario.Speed(steps_per_s=6.0, cores=2)
HOUR = timedelta(hours=1)


def series() -> Series:
    values = enumerate(prices.PRICES_PER_MWH)
    return Series.from_starts((prices.FIRST_HOUR + hour * HOUR, value) for hour, value in values)


# --- verdicts ---------------------------------------------------------------------------------------------


def look(hour: float, *jobs: JobSeen, **more: Any) -> Seen:
    at = prices.FIRST_HOUR + timedelta(hours=hour)
    price = series().at(at)
    fields: dict[str, Any] = {"limit_w": 1900.0, "accounted_w": 1700.0, "draw_w": 1400.0}
    return Seen(at=at, price_per_mwh=price, jobs=jobs, **{**fields, **more})


def running(role: str, samples_per_s: float, condition: str = "NOMINAL", **more: Any) -> JobSeen:
    return JobSeen(role=role, state="RUNNING", samples_per_s=samples_per_s, condition=condition, **more)


def story(*, rigid_in_spike: float = 80.0, flexible_in_spike: float = 60.0) -> list[Seen]:
    """Before, in and after the spike, as a machine with shared cores shows it."""
    before = [
        look(13 + i / 10, running("rigid", 50.0), running("flexible", 90.0), running("pausable", 50.0))
        for i in range(10)
    ]
    capped = [
        look(
            16.5 + i / 10,
            running("rigid", rigid_in_spike),
            running("flexible", flexible_in_spike, "CAPPED_PRICE"),
            JobSeen(role="pausable", state="PAUSED"),
        )
        for i in range(10)
    ]
    after = [
        look(21, running("rigid", 50.0), running("flexible", 90.0), JobSeen(role="pausable", state="RUNNING"))
    ]
    return [*before, *capped, *after]


ENDS = dict.fromkeys(("rigid", "flexible", "pausable"), "SUCCEEDED")


def broken(looks: list[Seen], ends: dict[str, str] = ENDS) -> list[str]:
    return [verdict.promise for verdict in judge(looks, ends) if not verdict.kept]


def test_a_good_run_keeps_every_promise() -> None:
    assert broken(story()) == []


def test_a_faster_neighbour_is_not_a_slower_job_but_the_ratio_is_judged() -> None:
    before, capped = relative_speeds(story(rigid_in_spike=80.0, flexible_in_spike=90.0))
    assert before[0] == pytest.approx(1.8)
    assert capped[0] == pytest.approx(1.125)
    assert broken(story(rigid_in_spike=50.0, flexible_in_spike=88.0)) == [
        "the flexible job slowed down with its cap"
    ]


@pytest.mark.parametrize(
    ("change", "promise"),
    [
        ({"over_domain": "site: draw_w 1950 W of 1900 W"}, "never over the budget"),
        ({"limit_w": None}, "never over the budget"),
    ],
)
def test_one_look_over_the_budget_breaks_it(change: dict[str, Any], promise: str) -> None:
    looks = story()
    looks[-1] = replace(looks[-1], **change)
    assert broken(looks) == [promise]


def test_a_job_that_failed_or_never_paused_breaks_its_promise() -> None:
    assert broken(story(), {**ENDS, "rigid": "FAILED"}) == ["every job finished"]
    never = [replace(one, jobs=tuple(j for j in one.jobs if j.state != "PAUSED")) for one in story()]
    assert broken(never) == ["the pausable job paused above 250 EUR/MWh and came back"]
    assert "never over the budget" in broken([])


def test_a_capped_rigid_job_breaks_its_promise() -> None:
    looks = story()
    looks[-1] = replace(looks[-1], jobs=(running("rigid", 20.0, "CAPPED_PRICE"), *looks[-1].jobs[1:]))
    assert "the rigid job was left alone" in broken(looks)


def test_a_cap_that_cannot_be_set_or_does_not_bind_is_not_held_against_the_job() -> None:
    locked = [replace(one, settable=False) for one in story(flexible_in_spike=144.0)]
    assert broken(locked) == []
    idle_gpu = [
        replace(one, jobs=tuple(replace(j, draw_w=80.0, cap_w=139.0) for j in one.jobs))
        for one in story(flexible_in_spike=144.0)
    ]
    assert broken(idle_gpu) == []
    verdict = next(v for v in judge(idle_gpu, ENDS) if v.shown_by.startswith("not judged"))
    assert "139 W does not bind" in verdict.shown_by


def test_a_look_is_made_of_state_and_jobs() -> None:
    domain = {"name": "site", "parent": None, "limit_w": 100.0, "accounted_w": 101.0, "draw_w": 90.0}
    power = {"job_id": "job_1", "condition": "CAPPED_PRICE", "cap_w": 140.0, "samples_per_s": 7.0}
    state = {
        "at": "2023-09-11T17:00:00+00:00",
        "price_per_mwh": 524.27,
        "carbon_g_per_kwh": None,
        "degraded": [],
        "domains": [domain],
        "gpus": [{"settable": True}],
        "jobs": [power],
    }
    jobs = [{"id": f"job_{n}", "state": "RUNNING", "gpus": 2, "condition": "NOMINAL"} for n in (2, 1)]
    found = seen(state, jobs, {"job_1": "flexible"})
    assert found.over_domain == "site: accounted_w 101 W of 100 W"
    assert [(j.role, j.condition, j.cap_w, j.samples_per_s) for j in found.jobs] == [
        ("flexible", "CAPPED_PRICE", 140.0, 7.0)
    ]


def test_changes_are_told_once_and_in_words() -> None:
    before = look(15.9, running("flexible", 90.0, cap_w=300.0))
    after = look(16.1, running("flexible", 60.0, "CAPPED_PRICE", cap_w=139.0))
    assert list(happenings(before, after)) == [
        "price 266.71 EUR/MWh",
        "flexible: capped by the price",
        "flexible: cap 300 to 139 W per GPU",
    ]
    assert list(happenings(after, after)) == []
    assert "flexible 139W 60/s" in status_line(after)


# --- the bill ---------------------------------------------------------------------------------------------


def test_a_mean_over_part_hours_is_weighted_by_time() -> None:
    start = prices.FIRST_HOUR + timedelta(minutes=30)
    expected = (0.5 * 96.03 + 1.0 * 93.05) / 1.5
    assert mean_over(prices.PRICES_PER_MWH, start, start + 1.5 * HOUR) == pytest.approx(expected)
    assert mean_over(prices.PRICES_PER_MWH, start, start + 48 * HOUR) is None
    assert mean_over(prices.PRICES_PER_MWH, start, start) is None


def test_the_estimate_is_the_same_work_at_the_prices_it_would_have_met() -> None:
    """Two GPUs, five hours at half speed from 12:00: uncapped that is two and a half hours at 250 W each."""
    total = {
        "energy_kwh": 1.4,
        "cost": 0.4,
        "co2_g": 700.0,
        "gpu_hours": 10.0,
        "average_cap_w": 139.0,
        "slowdown_used": 0.5,
        "start": "2023-09-11T12:00:00Z",
    }
    job = {"gpus": 2, "paused_s": 0.0, "attempts": 1, "run": {"started_at": "2023-09-11T12:00:00Z"}}
    made = receipt("flexible", job, total, uncapped_w=250.0)
    start = prices.FIRST_HOUR + 12 * HOUR
    mean = mean_over(prices.PRICES_PER_MWH, start, start + 2.5 * HOUR)
    assert mean is not None
    assert made.estimated_kwh == pytest.approx(2 * 0.25 * 2.5)
    assert made.estimated_cost == pytest.approx(1.25 / 1000 * mean)
    assert made.co2_kg == pytest.approx(0.7)
    assert receipt("flexible", job, total, uncapped_w=None).estimated_cost is None


def test_the_screen_fits_eighty_columns_and_says_what_is_estimated() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    jobs = scenario.plan_jobs(SPEED, gpus=8)
    console.print(live(story(), jobs, ["16:00  price 266.71 EUR/MWh"], "console: http://127.0.0.1:1"))
    total = {
        "energy_kwh": 1.4,
        "cost": 0.4,
        "co2_g": 700.0,
        "gpu_hours": 10.0,
        "average_cap_w": 139.0,
        "slowdown_used": 0.5,
        "start": "2023-09-11T12:00:00Z",
    }
    job = {"gpus": 2, "paused_s": 7200.0}
    receipts = [receipt(role, job, total, uncapped_w=250.0) for role in ENDS]
    console.print(bill(receipts, "EUR", 2))
    console.print(verdicts(judge(story(), ENDS)))
    shown = console.export_text()
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "* Estimate, no measurement" in shown
    assert "BROKEN" not in shown
    assert "pauses above 250 EUR" in shown


def test_blocks_show_low_and_high() -> None:
    assert spark([0.0, 5.0, 10.0], 0.0, 10.0) == "▁▄█"
    assert spark([-3.0, 99.0], 0.0, 10.0) == "▁█"

"""A simulated site: what happens to jobs, joules and watts, by hand-computed figures."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from power.series import Series, Slot
from scheduler.policy.named import open_policy
from scheduler.simulation.model import Outcome, Scenario, StopTimes
from scheduler.simulation.published import DayAhead
from scheduler.simulation.run import simulate
from scheduler.simulation.silicon import Silicon
from scheduler.simulation.work import Phase, Work
from tests.trace_builders import START, Noted, cluster, limit, scenario, trace

AT_ONCE = StopTimes(checkpoint_s=0.0, restart_s=0.0, launch_s=0.0)


def run(made: Scenario, policy: str = "greedy") -> Outcome:
    return simulate(made, open_policy(policy))


# --- jobs ---------------------------------------------------------------------------------------------------


def test_jobs_run_one_after_the_other_where_gpus_are_short() -> None:
    outcome = run(scenario("a 4x600@0, b 4x300@0", stop_times=AT_ONCE))
    assert outcome.jobs.first_start_s.tolist() == pytest.approx([0, 600], abs=0.01)
    assert outcome.jobs.ended_s.tolist() == pytest.approx([600, 900], abs=0.01)
    assert outcome.jobs.done_s.tolist() == pytest.approx([600, 300])


def test_a_launch_takes_time_before_work_begins() -> None:
    outcome = run(scenario("a 1x600@0", stop_times=StopTimes(launch_s=25.0)))
    assert outcome.jobs.ended_s[0] == pytest.approx(625.0)
    assert outcome.jobs.running_s[0] == pytest.approx(600.0)


def test_a_stopped_job_keeps_its_work_and_pays_for_stop_and_restart() -> None:
    """A job that outranks it needs the GPUs: checkpoint 30 s, wait, restart 60 s, then what is left."""
    made = scenario("a 4x3600@0, b 4x600@1200", stop_times=StopTimes(launch_s=0.0))
    low, high = made.jobs
    jobs = (
        replace(low, spec=replace(low.spec, priority="low")),
        replace(high, spec=replace(high.spec, priority="high")),
    )
    outcome = run(replace(made, jobs=jobs), "wattmill")
    assert outcome.jobs.stops.tolist() == [1, 0]
    assert 1200 <= outcome.jobs.ended_s[1] - 600 < 1300
    idle_s = outcome.jobs.ended_s[0] - 3600
    assert 600 + 30 + 60 <= idle_s < 600 + 30 + 60 + 60
    assert outcome.jobs.done_s[0] == pytest.approx(3600)


def test_a_price_above_its_ceiling_freezes_a_job_and_it_goes_on_afterwards() -> None:
    made = scenario("a 1x5400@0 high ceiling 60", day="50 90 50", stop_times=AT_ONCE)
    outcome = run(made, "wattmill")
    assert outcome.jobs.ended_s[0] > 2 * 3600
    assert outcome.jobs.running_s[0] == pytest.approx(5400, rel=0.05)


def test_a_job_that_never_fits_is_left_over() -> None:
    outcome = run(scenario("a 8x600@0, b 1x600@0", patience_s=3700.0))
    assert outcome.power.until_s == 86400.0 + 3700.0  # it goes on for all of the patience, to the second
    assert np.isnan(outcome.jobs.ended_s).tolist() == [True, False]


# --- watts and joules ---------------------------------------------------------------------------------------


def test_joules_are_watts_times_seconds_at_the_true_draw() -> None:
    made = scenario("a 2x600@0", stop_times=AT_ONCE)
    outcome = run(made)
    silicon = Silicon.of(made)
    each_w = silicon.power_w(silicon.row[0], np.array([300.0]))[0]
    assert outcome.jobs.energy_j[0] == pytest.approx(2 * each_w * 600)
    assert outcome.jobs.cost[0] == pytest.approx(2 * each_w * 600 / 3.6e9 * 50)
    power = outcome.power
    busy_j = (power.busy_draw_w * outcome.spans_s).sum()
    assert busy_j == pytest.approx(outcome.jobs.energy_j.sum())


def test_the_meter_shows_idle_boards_base_loads_and_overhead() -> None:
    outcome = run(scenario("a 1x600@0", cluster=cluster(4, base_load_w=400.0, pue=1.25)))
    power = outcome.power
    assert power.meter_w == pytest.approx((power.gpu_draw_w + 400.0) * 1.25)
    assert (power.gpu_draw_w - power.busy_draw_w).min() == pytest.approx(3 * 31.0)


def test_the_truth_is_not_what_decisions_believe() -> None:
    made = scenario("a 1x600@0, b 1x600@0")
    noted = Noted(open_policy("greedy"))
    simulate(made, noted)
    snapshot, _ = noted.placed[0]
    silicon = Silicon.of(made)
    believed = snapshot.jobs[0].curve
    assert believed.demand_w != silicon.curves.curves[silicon.row[0, 0]].demand_w


def test_a_limit_holds_to_the_watt_and_lifts_again() -> None:
    """Four A40s want 4 x 300 W; from the first to the second hour the site has 700 W."""
    made = scenario("a 2x7200@0 mid, b 2x7200@0 high", budgets=(limit(700.0, from_h=1, until_h=2),))
    outcome = run(made)
    power, hour = outcome.power, outcome.power.at_s // 3600
    assert power.excess_caps_w.max() == 0.0
    assert power.caps_w[hour == 0].max() > 1000
    assert power.caps_w[hour == 1].max() <= 700.0
    assert power.caps_w[power.at_s == 7200].max() > 1000


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.sampled_from([1, 2, 4]), st.integers(60, 4000)), min_size=1, max_size=8),
    watts=st.integers(750, 1300),
    flex=st.sampled_from(["none", "low", "mid", "high"]),
)
def test_no_limit_is_ever_exceeded_and_all_work_adds_up(
    sizes: list[tuple[int, int]], watts: int, flex: str
) -> None:
    drawing = ", ".join(f"j{i} {g}x{s}@{i * 200} {flex}" for i, (g, s) in enumerate(sizes))
    budgets = (limit(float(watts)), limit(float(watts) * 0.6, from_h=0.5, until_h=1))
    outcome = run(scenario(drawing, budgets=budgets, patience_s=86400.0))
    assert outcome.power.excess_caps_w.max() == 0.0
    ended = ~np.isnan(outcome.jobs.ended_s)
    work_s = np.array([job.work_s for job in outcome.scenario.jobs])
    assert outcome.jobs.done_s[ended] == pytest.approx(work_s[ended])
    assert (outcome.jobs.running_s >= outcome.jobs.done_s - 1e-6).all()
    busy_j = (outcome.power.busy_draw_w * outcome.spans_s).sum()
    assert busy_j == pytest.approx(outcome.jobs.energy_j.sum(), rel=1e-9)


def test_headroom_is_kept_under_limits_now_and_to_come() -> None:
    made = scenario("a 2x600@0 high", budgets=(limit(900.0), limit(700.0, from_h=2)), headroom_w=50.0)
    noted = Noted(open_policy("greedy"))
    simulate(made, noted)
    seen = noted.placed[0][0]
    assert seen.limits_w["site"] == 850.0
    assert [budget.limit_w for budget in seen.horizon.budgets] == [850.0, 650.0]


# --- what is known when -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-01-15T00:00", "2026-01-15T22:00"),
        ("2026-01-15T11:59", "2026-01-15T22:00"),
        ("2026-01-15T12:00", "2026-01-16T22:00"),
        ("2026-01-15T22:00", "2026-01-16T22:00"),
        ("2026-01-16T11:59", "2026-01-16T22:00"),
    ],
)
def test_prices_of_the_next_day_are_known_from_noon_on(now: str, until: str) -> None:
    feed = DayAhead(Series())
    at, end = (datetime.fromisoformat(text).replace(tzinfo=START.tzinfo) for text in (now, until))
    assert feed.known_until(at) == end


def test_nobody_sees_prices_that_are_not_published() -> None:
    """Other prices behind the end of what is published: not one decision before then is another."""
    drawing = "\n".join(f"j{i} {1 + i % 3}x{1800 + 500 * i}@{i * 900} high by 30h" for i in range(20))
    made = scenario(drawing, gpus=8, day=" ".join(str(40 + 30 * ((h * 7) % 5)) for h in range(60)))
    published = DayAhead(made.prices).known_until(made.start)
    slots = [
        slot if slot.start < published else Slot(slot.start, slot.end, 500.0 - slot.value)
        for slot in made.prices
    ]
    other = replace(made, prices=Series(tuple(slots)))
    before_s = 0.0
    seen = []
    for world in (made, other):
        noted = Noted(open_policy("wattmill"))
        simulate(world, noted)
        next_out = DayAhead(world.prices).next_publication(made.start)
        before_s = (next_out - made.start).total_seconds()
        seen.append(
            [
                (snapshot.now, decision.starts, decision.pauses, decision.preempts)
                for snapshot, decision in noted.placed
                if snapshot.now < next_out
            ]
        )
    assert before_s > 3600
    assert len(seen[0]) > 10
    assert seen[0] == seen[1]


def test_nobody_sees_how_long_a_job_really_takes() -> None:
    """The same guesses, other truths: the first placement is the same."""
    made = scenario("a 2x600@0, b 4x5000@0, c 2x900@0")
    other = replace(made, jobs=tuple(replace(job, work_s=job.work_s * 3) for job in made.jobs))
    seen = []
    for world in (made, other):
        noted = Noted(open_policy("wattmill"))
        simulate(world, noted)
        seen.append(noted.placed[0][1].starts)
    assert seen[0] == seen[1]


def test_the_same_seed_gives_the_same_outcome() -> None:
    drawing = "\n".join(f"j{i} {1 + i % 4}x{600 + 300 * i}@{i * 250} mid by 20h" for i in range(15))
    made = scenario(drawing, gpus=8, day="80 20 60 10 90", budgets=(limit(1500.0, from_h=1, until_h=4),))
    first, second = run(made, "wattmill"), run(made, "wattmill")
    for name, column in vars(first.jobs).items():
        assert np.array_equal(column, getattr(second.jobs, name), equal_nan=True), name
    for name in ("at_s", "meter_w", "caps_w"):
        assert np.array_equal(getattr(first.power, name), getattr(second.power, name)), name
    third = run(replace(made, seed=1), "wattmill")
    assert third.jobs.energy_j.sum() != first.jobs.energy_j.sum()


def test_a_trace_is_drawn_in_order_of_submission() -> None:
    jobs = trace("b 1x60@50, a 2x60@0 low by 2h")
    assert [job.id for job in jobs] == ["a", "b"]
    assert jobs[0].spec.contract.deadline == START + timedelta(hours=2)


# --- columns ------------------------------------------------------------------------------------------------


def test_of_those_that_hold_gpus_the_ones_whose_time_is_up_are_due() -> None:
    work = Work(scenario("a 1x600@0, b 1x600@0, c 1x600@0, d 1x600@0"))
    for row in range(4):
        work.submit(row)
        work.start(row, works_at_s=20.0 + row)
    assert work.due().tolist() == []
    assert work.next_change_s() == 20.0
    work.advance(21.0, price_per_mwh=math.nan, carbon_g_per_kwh=math.nan)
    assert work.due().tolist() == [0, 1]
    work.begin_work(np.array([0, 1]))
    work.pace[:2] = [1.0, 0.5]
    work.freeze(3, until_s=700.0)
    work.leave(2, gone_at_s=500.0)
    assert work.next_change_s() == 500.0
    work.advance(621.0, price_per_mwh=math.nan, carbon_g_per_kwh=math.nan)
    assert work.due().tolist() == [0, 2]
    work.end(0)
    work.put_back(2)
    assert [work.count(phase) for phase in Phase] == [0, 1, 0, 1, 1, 0, 1]


def test_limits_that_change_are_written_down_from_that_moment_on() -> None:
    budgets = (limit(900.0, from_h=1, until_h=2), limit(700.0, from_h=2, until_h=3))
    power = run(scenario("a 2x14400@0 high", budgets=budgets)).power
    hour = power.at_s // 3600
    assert [set(power.limit_w[hour == number].tolist()) for number in range(4)] == [
        {math.inf},
        {900.0},
        {700.0},
        {math.inf},
    ]


def test_an_unknown_price_or_carbon_adds_nothing_to_a_bill() -> None:
    made = scenario("a 1x600@0", stop_times=AT_ONCE)
    outcome = run(replace(made, prices=Series()))
    assert outcome.jobs.energy_j[0] > 0
    assert outcome.jobs.cost.tolist() == outcome.jobs.co2_kg.tolist() == [0.0]

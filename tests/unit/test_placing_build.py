"""A snapshot as a placement problem: small worlds whose arrays can be checked by hand."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from scheduler.decision import Certificate
from scheduler.model import JobState
from scheduler.placing.build import build_problem
from scheduler.placing.distinct import distinct
from scheduler.placing.greedy import choose, upper_bound
from scheduler.placing.problem import ANY_SPLIT, Act
from scheduler.snapshot import Snapshot
from scheduler.windows import Plan, PlannedJob, ShadowPrice, Window
from tests.builders import NOW, frozen, gpus, hours, job, prices, running, snapshot, view
from tests.placing_check import faults, value_of
from tests.properties.worlds import snapshots

TIGHT = 700.0  # four A40s could take 1200 W


def test_pools_are_kind_by_node_and_count_free_and_coming() -> None:
    boards = gpus(2) + gpus(2, first=2, model="Tesla V100", max_cap_w=250.0)
    leaving = running(job("x"), 3, state=JobState.STOPPING)
    pools = build_problem(snapshot(boards, leaving, job("a"), nodes=1)).problem.pools
    assert pools.free.tolist() == [2, 1]
    assert pools.coming.tolist() == [0, 1]
    assert pools.size.tolist() == [2, 2]
    assert pools.max_cap_w.tolist() == [300.0, 250.0]


def test_one_gpu_that_cannot_be_set_makes_its_pool_count_at_the_maximum() -> None:
    boards = gpus(1) + gpus(1, first=1, settable=False)
    problem = build_problem(snapshot(boards, job("a"), nodes=1)).problem
    assert problem.pools.settable.tolist() == [False]
    assert problem.pools.loaded_w(np.array([0]), np.array([120.0])).tolist() == [255.0]


def test_a_gpu_that_is_kept_for_another_job_is_not_free_and_counts_what_is_promised() -> None:
    kept = gpus(1, reserved_for="late", accounted_w=200.0)
    world = snapshot(kept + gpus(1, first=1), view(job("late"), eligible=False), job("a"), limit_w=1000.0)
    problem = build_problem(world).problem
    assert problem.pools.free.tolist() == [1]
    assert problem.room_w[0] == 1000.0 - 200.0 - 45.0


def test_room_is_after_overhead_base_loads_and_what_stays() -> None:
    world = snapshot(gpus(2), job("a"), limit_w=1000.0, base_load_w=100.0)
    assert build_problem(world).problem.room_w[0] == 1000.0 - 100.0 - 2 * 45.0


@pytest.mark.parametrize(
    ("limit_w", "caps"),
    [
        (None, 1),  # watts cannot run short: the best alone
        (TIGHT, 5),
    ],
)
def test_levels_are_offered_where_watts_could_run_short(limit_w: float | None, caps: int) -> None:
    offers = build_problem(snapshot(gpus(4), job("a", flex="high"), limit_w=limit_w)).problem.offers
    assert len(offers.cap_w) == caps <= 6
    assert (np.diff(offers.cap_w) > 0).all()
    assert (np.diff(offers.worth) > 0).all()  # no level that costs more and brings less
    assert offers.top.tolist() == [False] * (caps - 1) + [True]


def test_jobs_that_are_alike_are_one_group_oldest_first() -> None:
    world = snapshot(gpus(4), job("a", minutes_ago=1), job("b", minutes_ago=9), job("c", priority="high"))
    groups = build_problem(world).problem.groups
    assert sorted(groups.count.tolist()) == [1, 2]
    pair = groups.count.tolist().index(2)
    assert groups.member[groups.member_start[pair] : groups.member_start[pair + 1]].tolist() == [1, 0]


def test_a_gang_larger_than_any_node_may_be_split() -> None:
    groups = build_problem(snapshot(gpus(4), job("a", gpus=3), job("b", gpus=2), nodes=2)).problem.groups
    assert dict(zip(groups.gpus.tolist(), groups.nodes.tolist(), strict=True)) == {3: ANY_SPLIT, 2: 1}


def test_what_no_free_or_stoppable_gpu_could_hold_is_left_out() -> None:
    world = snapshot(gpus(4), running(job("r", gpus=3)), job("a", gpus=2), nodes=1)
    assert len(build_problem(world).problem.groups) == 0
    lower = snapshot(gpus(4), running(job("r", gpus=3, priority="low")), job("a", gpus=2), nodes=1)
    assert len(build_problem(lower).problem.groups) == 1


ACTS = {
    "runs on": (running(job("r"), 0), ["RUN"]),
    "below a higher priority": (running(job("r", priority="low"), 0), ["PREEMPT", "RUN"]),
    "below it and pausable": (
        running(job("r", priority="low", pausable=True), 0),
        ["PREEMPT", "PAUSE", "RUN"],
    ),
    "too young to be stopped": (running(job("r", priority="low"), 0, minutes_ago=0.5), ["RUN"]),
    "above its ceiling": (running(job("r", pausable=True, ceiling=10.0), 0), ["PAUSE"]),
    "frozen": (frozen(job("r", pausable=True), 0), ["PAUSE"]),
}


@pytest.mark.parametrize("case", ACTS)
def test_what_may_become_of_a_resident(case: str) -> None:
    what, acts = ACTS[case]
    one = view(what, eligible=False)  # nobody may thaw it
    problem = build_problem(snapshot(gpus(2), one, job("a"))).problem
    assert list(dict.fromkeys(Act(int(act)).name for act in problem.options.act)) == acts


def test_the_present_cap_is_an_option_and_marked() -> None:
    world = snapshot(gpus(2), running(job("r", flex="high"), 0, cap_w=217.0), limit_w=400.0)
    options = build_problem(world).problem.options
    assert options.cap_w[options.unchanged].tolist() == [217.0]
    assert options.cap_w[options.least].tolist() == [111.0]


def test_a_domain_below_the_floors_opens_what_breaks_contracts_and_nothing_starts_there() -> None:
    world = snapshot(gpus(3), running(job("r"), 0), running(job("s"), 1), job("c"), limit_w=400.0)
    posed = build_problem(world)
    assert posed.short.tolist() == [True, False]
    assert int(Act.EMERGENCY) in posed.problem.options.act
    assert posed.problem.pools.free.tolist() == [0]


def _plan(job_id: str, *, start_h: float, gpu_h: float = 0.0, watt_h: float = 0.0) -> Plan:
    window = Window(start=NOW + hours(start_h), end=NOW + hours(start_h + 1), share=1.0)
    slot = ShadowPrice(
        start=NOW, end=NOW + hours(1), price_per_mwh=60.0, gpu_h=gpu_h, watt_h={"site": watt_h}
    )
    return Plan(
        made_at=NOW,
        jobs={job_id: PlannedJob(windows=(window,), expected_cost=2.3, cost_now=4.1)},
        shadow=(slot,),
        certificate=Certificate(step="plan", value=0.0, bound=0.0, solve_s=0.0),
    )


def _waiting_world() -> Snapshot:
    return snapshot(gpus(2), job("a"), job("p", pausable=True), price=60.0, prices=prices("60 50 10"))


def test_the_plan_keeps_a_job_back_for_a_cheaper_window_and_says_what_starting_now_would_cost() -> None:
    world = _waiting_world()
    held = build_problem(world, _plan("p", start_h=2)).price_held
    assert list(held) == [world.jobs.row_of["p"]]
    assert held[world.jobs.row_of["p"]] == (
        "waits for 10.00/MWh at 2026-01-15 14:00 UTC instead of 60.00/MWh now; that saves 1.8000:"
        " starting now would cost 4.1000, then 2.3000"
    )


def test_a_late_window_that_is_not_cheaper_keeps_nobody_back() -> None:
    dear = snapshot(gpus(2), job("p", pausable=True), price=5.0, prices=prices("5 50 10"))
    assert build_problem(dear, _plan("p", start_h=2)).price_held == {}


def test_the_plans_shadow_prices_are_held_against_everybody_it_did_not_put_here() -> None:
    world = _waiting_world()
    plain = build_problem(world).problem
    priced = build_problem(world, _plan("p", start_h=0, gpu_h=0.25, watt_h=0.001)).problem
    lost = {
        int(plain.groups.member[group]): float(plain.offers.worth[plain.offers.group == group].max())
        for group in range(len(plain.groups))
    }
    by_row = {
        int(priced.groups.member[group]): float(priced.offers.worth[priced.offers.group == group].max())
        for group in range(len(priced.groups))
    }
    (a, p) = (world.jobs.row_of["a"], world.jobs.row_of["p"])
    both = next(iter(lost.values()))
    assert by_row[p] == pytest.approx(both)
    assert by_row[a] < both - 0.25 - 0.1  # a quarter for the GPU, a tenth of a cent for each watt


def test_a_new_plan_takes_the_place_of_the_old_one() -> None:
    world = _waiting_world()
    assert build_problem(world, _plan("p", start_h=2)).price_held
    later = world.but(now=NOW + timedelta(hours=2), price_per_mwh=10.0)
    assert build_problem(later, _plan("p", start_h=2)).price_held == {}


def test_rows_are_alike_only_if_every_column_is() -> None:
    first, code = distinct(np.array([1, 1, 2, 1]), np.array([np.nan, np.nan, np.nan, 0.5]))
    assert code[0] == code[1] != code[2]
    assert len(set(code.tolist())) == len(first) == 3


@settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck))
@given(snapshots())
def test_the_greedy_choice_keeps_every_rule_and_its_bound(world: Snapshot) -> None:
    problem = build_problem(world).problem
    choice = choose(problem)
    assert faults(problem, choice) == []
    assert value_of(problem, choice) == pytest.approx(choice.value)
    assert choice.value <= upper_bound(problem) + 1e-9
    assert problem.options.least.sum() == problem.options.unchanged.sum() == len(problem.residents)

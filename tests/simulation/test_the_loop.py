"""The real loop over pretended silicon: stories with a seed, judged by what the boards really may draw."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from scheduler.config import Config, Control, DomainConfig
from scheduler.model import Contract, Flex, Intent, JobSpec, JobState
from tests.simulation.world import World, budget

BASE_W = 200.0
ACT_WITHIN_S = 5


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(
        folder=tmp_path,
        config=Config(
            domains=[
                DomainConfig(name="site", base_load_w=BASE_W, limit_w=1400.0),
                DomainConfig(name="node", parent="site"),
            ],
            control=Control(place_period_s=2.0, min_run_s=0.0),
        ),
    )


def spec(gpus: int = 1, flex: str = "none", **more: object) -> JobSpec:
    contract = {k: more.pop(k) for k in ("pausable", "price_ceiling_per_mwh") if k in more}
    made = Contract(flex=Flex(flex), **contract)  # type: ignore[arg-type]
    return JobSpec(argv=("train",), gpus=gpus, contract=made, **more)  # type: ignore[arg-type]


def test_from_submit_to_bill(world: World) -> None:
    job_id = world.submit(spec(gpus=2), work_s=20)
    world.turn(40)
    assert world.job_state(job_id) is JobState.SUCCEEDED
    world.turn(6)  # the meter writes every five seconds
    bill = world.store.energy.for_job(job_id)
    assert bill.energy_kwh * 3.6e6 == pytest.approx(2 * 250 * 20, rel=0.15)
    assert bill.cost == pytest.approx(bill.energy_kwh / 1e3 * 50.0)


def test_what_the_boards_drew_is_on_the_bill_to_the_joule(world: World) -> None:
    for gpus in (1, 2, 1):
        world.submit(spec(gpus=gpus, flex="mid"), work_s=15)
    world.turn(50)
    rows = world.store.energy.rows()
    billed_j = sum(row.energy_j for row in rows if row.kind != "host")
    last_j = sum(counter.counter_j for counter in world.store.energy.last_counters().values())
    first_j = 0.0  # the boards began at zero, and the first sample was taken before they had drawn anything
    assert billed_j == pytest.approx(last_j - first_j, rel=1e-9)


def test_a_budget_cut_holds_within_seconds_and_the_rigid_job_keeps_its_speed(world: World) -> None:
    rigid = world.submit(spec(priority="high"), work_s=1e6)
    world.submit(spec(gpus=2, flex="high"), work_s=1e6)
    world.turn(6)
    world.limit(BASE_W + 300 + 2 * 160 + 50)
    world.turn(ACT_WITHIN_S)
    assert world.truth_w() <= BASE_W + 300 + 2 * 160 + 50
    state = next(j for j in world.state["jobs"] if j["job_id"] == rigid)  # type: ignore[index]
    assert state["throughput_share"] > 0.995


def test_a_budget_below_every_floor_pauses_and_brings_back(world: World) -> None:
    jobs = [world.submit(spec(flex="low", pausable=True), work_s=1e6) for _ in range(4)]
    world.turn(6)
    assert all(world.job_state(job_id) is JobState.RUNNING for job_id in jobs)
    world.limit(BASE_W + 2 * 100 + 2 * 45)
    world.turn(12)
    assert world.truth_w() <= BASE_W + 2 * 100 + 2 * 45
    world.limit(1400.0)
    world.turn(25)
    assert all(world.job_state(job_id) is JobState.RUNNING for job_id in jobs)


def test_a_target_ends_by_itself(world: World) -> None:
    world.submit(spec(gpus=2, flex="high"), work_s=1e6)
    world.turn(6)
    world.store.budgets.add(budget("site", BASE_W + 450, world, seconds=20))
    world.turn(8)
    assert world.truth_w() <= BASE_W + 450
    world.turn(30)
    assert world.truth_w() > BASE_W + 450


def test_a_price_above_the_ceiling_pauses_only_who_asked_for_it(world: World) -> None:
    shy = world.submit(spec(pausable=True, price_ceiling_per_mwh=100), work_s=1e6)
    bold = world.submit(spec(), work_s=1e6)
    world.turn(5)
    world.price = 500.0
    world.turn(6)
    assert (world.job_state(shy), world.job_state(bold)) == (JobState.PAUSED, JobState.RUNNING)
    world.price = 10.0
    world.turn(6)
    assert world.job_state(shy) is JobState.RUNNING


def test_a_gpu_that_ignores_its_limit_keeps_others_from_rising(world: World) -> None:
    world.submit(spec(gpus=2, flex="high"), work_s=1e6)
    world.turn(6)
    world.boards["gpu-0"].refuses = world.boards["gpu-1"].refuses = True
    world.limit(BASE_W + 500)
    world.turn(6)
    started = len(world.launched)
    world.submit(spec(flex="high"), work_s=1e6)
    world.turn(10)
    assert len(world.launched) == started  # what was not confirmed frees no watts


@pytest.mark.parametrize("kill_at", range(12))
def test_a_controller_killed_at_any_turn_loses_no_job_and_starts_none_twice(
    world: World, kill_at: int
) -> None:
    jobs = [world.submit(spec(gpus=g, flex="low"), work_s=6) for g in (1, 2, 1, 4)]
    world.turn(kill_at)
    world.new_controller()
    world.turn(60)
    assert all(world.job_state(job_id) is JobState.SUCCEEDED for job_id in jobs)
    assert sorted(world.launched) == sorted(jobs)


@pytest.mark.parametrize("seed", range(4))
def test_random_days_stay_under_every_limit(world: World, seed: int) -> None:
    """Submits, cancels, pauses, budget cuts and price spikes at random; every second is looked at."""
    dice = random.Random(seed)
    jobs: list[str] = []
    limit_w, cut_s = 1400.0, -100
    for second in range(120):
        if dice.random() < 0.15:
            flex = dice.choice(["none", "low", "mid", "high"])
            asked = spec(
                gpus=dice.choice([1, 1, 2, 4]),
                flex=flex,
                pausable=dice.random() < 0.5,
                priority=dice.choice(["low", "standard", "high"]),
            )
            jobs.append(world.submit(asked, work_s=dice.uniform(3, 40)))
        if jobs and dice.random() < 0.10:
            world.wish(
                dice.choice(jobs), dice.choice([Intent.CANCEL, Intent.PAUSE, Intent.RUN, Intent.REQUEUE])
            )
        if dice.random() < 0.05:
            before_w, limit_w = limit_w, dice.uniform(BASE_W + 250, 1400.0)
            cut_s = second if limit_w < before_w else cut_s
            world.limit(limit_w)
        world.price = dice.choice([world.price] * 20 + [-20.0, 50.0, 900.0])
        world.turn()
        if second - cut_s > 2 * ACT_WITHIN_S:
            assert world.truth_w() <= limit_w + 1e-6, f"second {second} of seed {seed}"
    for job_id in jobs:
        world.wish(job_id, Intent.RUN)
    world.limit(1400.0)
    world.price = 10.0
    for _ in range(60):
        world.turn(10)
        if not world.store.jobs.active():
            break
    assert {world.job_state(job_id) for job_id in jobs} <= {JobState.SUCCEEDED, JobState.CANCELLED}

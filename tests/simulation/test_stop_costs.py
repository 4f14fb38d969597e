"""What a stop costs is guessed until one was seen; then it is what was measured, by any controller."""

from __future__ import annotations

from pathlib import Path

import pytest

from power.clock import FakeClock
from scheduler.config import Config, Control, DomainConfig
from scheduler.model import Intent, JobSpec, JobState
from tests.builders import NOW
from tests.simulation.world import World

GUESS_S = 600.0
LOOK_S = 1.0  # the loop looks once a second, so it is that much wrong at either end
STOP_S, START_S = 12.0, 20.0


def a_world(folder: Path, rate: float = 1.0) -> World:
    return World(
        folder=folder,
        config=Config(
            domains=[DomainConfig(name="site", limit_w=1400.0)],
            control=Control(place_period_s=2.0, min_run_s=0.0, restart_cost_s=GUESS_S),
        ),
        clock=FakeClock(NOW, rate=rate),
    )


def a_slow_job(world: World, workload: str | None = None, *, reports: bool = True) -> str:
    """Takes 12 s to stop and, where it reports at all, 20 s to its first step."""
    job_id = world.submit(JobSpec(argv=("train",), gpus=2, workload=workload), work_s=1e6)
    world.seconds_to_stop[job_id] = STOP_S
    if reports:
        world.seconds_to_report[job_id] = START_S
    return job_id


def stopped_once(world: World, job_id: str) -> None:
    """Lets it run, makes it go, and lets it run again until its first step."""
    world.turn(30)
    before = world.launched.count(job_id)
    world.wish(job_id, Intent.REQUEUE)
    world.turn(40)
    assert world.job_state(job_id) is JobState.RUNNING
    assert world.launched.count(job_id) == before + 1


def cost_s(world: World, job_id: str) -> float:
    return world.view(job_id).restart_cost_s


@pytest.mark.parametrize("workload", ["gpt", None])
def test_after_one_stop_and_start_the_measured_cost_replaces_the_guess(
    tmp_path: Path, workload: str | None
) -> None:
    world = a_world(tmp_path)
    job_id = a_slow_job(world, workload)
    world.turn(2)
    assert cost_s(world, job_id) == GUESS_S
    stopped_once(world, job_id)
    assert cost_s(world, job_id) == pytest.approx(STOP_S + START_S, abs=4 * LOOK_S)


def test_a_job_that_reports_nothing_is_started_when_it_runs(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    job_id = a_slow_job(world, reports=False)
    stopped_once(world, job_id)
    assert cost_s(world, job_id) == pytest.approx(STOP_S, abs=4 * LOOK_S)


def test_jobs_of_one_workload_learn_from_each_other_and_from_no_other(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    stopped_once(world, a_slow_job(world, "gpt"))
    like, unlike = a_slow_job(world, "gpt"), a_slow_job(world, "bert")
    world.turn(2)
    assert cost_s(world, like) == pytest.approx(STOP_S + START_S, abs=4 * LOOK_S)
    assert cost_s(world, unlike) == GUESS_S


@pytest.mark.parametrize("workload", ["gpt", None])
def test_a_new_controller_knows_what_the_last_one_learned(tmp_path: Path, workload: str | None) -> None:
    world = a_world(tmp_path)
    job_id = a_slow_job(world, workload)
    stopped_once(world, job_id)
    before_s = cost_s(world, job_id)
    world.turn(6)  # what was learned is written every five seconds
    world.new_controller()
    world.turn(2)
    assert cost_s(world, job_id) == before_s


def test_costs_are_in_grid_seconds(tmp_path: Path) -> None:
    world = a_world(tmp_path, rate=60.0)
    job_id = a_slow_job(world)
    stopped_once(world, job_id)
    assert cost_s(world, job_id) == pytest.approx(60.0 * (STOP_S + START_S), abs=60.0 * 4 * LOOK_S)


def test_work_that_no_checkpoint_keeps_is_lost_and_a_new_controller_still_says_so(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    job_id = a_slow_job(world)
    world.turn(60)
    assert world.view(job_id).lost_work_s == pytest.approx(60.0, abs=5.0)
    world.new_controller()
    world.turn(2)
    assert world.view(job_id).lost_work_s == pytest.approx(62.0, abs=5.0)


def test_who_once_answered_a_stop_with_a_checkpoint_is_taken_to_lose_no_work(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    job_id = a_slow_job(world)
    world.savers.add(job_id)
    world.turn(6)
    assert world.view(job_id).lost_work_s > 0
    stopped_once(world, job_id)
    assert world.view(job_id).lost_work_s == 0
    world.savers.clear()  # and who does not, loses it again
    stopped_once(world, job_id)
    assert world.view(job_id).lost_work_s > 15


def test_the_state_says_what_a_stop_would_lose(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    job_id = a_slow_job(world)
    world.turn(60)
    assert world.state is not None
    (row,) = world.state["jobs"]
    assert row["stop_lost_s"] == pytest.approx(GUESS_S / 2 + START_S + 60.0, abs=6.0)
    per_gpu_h = world.view(job_id).value_per_gpu_h
    assert row["stop_cost"] == pytest.approx(row["stop_lost_s"] / 3600.0 * 2 * per_gpu_h)


def test_a_frozen_job_loses_no_more_while_it_stands_still(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    job_id = a_slow_job(world)
    world.turn(30)
    world.wish(job_id, Intent.PAUSE)
    world.turn(5)
    lost_s = world.view(job_id).lost_work_s
    world.turn(20)
    assert world.job_state(job_id) is JobState.PAUSED
    assert world.view(job_id).lost_work_s == lost_s > 25.0


def test_what_was_learned_of_a_single_job_goes_with_it(tmp_path: Path) -> None:
    world = a_world(tmp_path)
    job_id, other = a_slow_job(world), a_slow_job(world, "gpt")
    world.turn(40)
    assert set(world.store.stop_costs.all()) == {("", job_id), ("gpt", "")}
    for each in (job_id, other):
        world.wish(each, Intent.CANCEL)
    world.turn(30)
    assert world.job_state(job_id) is JobState.CANCELLED
    assert set(world.store.stop_costs.all()) == {("gpt", "")}

"""A job that others make room for gets that room, and nobody is held up or stopped twice meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.config import Config, Control, DomainConfig
from scheduler.model import Contract, Flex, JobSpec, JobState
from tests.simulation.world import World

GRACE_S = 6


class SlowToLeave(World):
    """Jobs take GRACE_S seconds to save their work before they go."""

    def _live_run(self, run, seconds):  # type: ignore[no-untyped-def]
        asked = vars(run).setdefault("asked_s", 0.0)
        if run.wanted == "stop" and asked < GRACE_S:
            run.asked_s = asked + seconds
            return
        super()._live_run(run, seconds)


@pytest.fixture
def world(tmp_path: Path) -> SlowToLeave:
    return SlowToLeave(
        folder=tmp_path,
        config=Config(
            domains=[DomainConfig(name="site"), DomainConfig(name="node", parent="site")],
            control=Control(place_period_s=2.0, min_run_s=0.0),
        ),
    )


def spec(gpus: int, priority: str) -> JobSpec:
    return JobSpec(argv=("train",), gpus=gpus, contract=Contract(flex=Flex.HIGH), priority=priority)


def test_an_heir_starts_on_the_gpus_that_were_freed_for_it_and_small_jobs_do_not_steal_them(
    world: SlowToLeave,
) -> None:
    low = [world.submit(spec(2, "low"), work_s=1e6) for _ in range(2)]
    world.turn(6)
    heir = world.submit(spec(4, "high"), work_s=20)
    world.turn(2)
    thieves = [world.submit(spec(1, "standard"), work_s=5) for _ in range(3)]
    world.turn(GRACE_S + 12)
    assert world.launched[:3] == [*low, heir]
    assert sum(run.wanted == "stop" for run in world.runs.values()) == 2
    world.turn(40)
    assert {world.job_state(job_id) for job_id in (heir, *thieves)} == {JobState.SUCCEEDED}


def test_others_are_placed_while_a_start_waits_for_its_gpus(world: SlowToLeave) -> None:
    world.submit(spec(3, "low"), work_s=1e6)
    world.turn(6)
    heir = world.submit(spec(3, "high"), work_s=1e6)
    world.turn(2)
    assert world.cycle._actor.pending.kept
    small = world.submit(spec(1, "standard"), work_s=1e6)
    world.turn(2)
    assert {kept.job_id for kept in world.cycle._actor.pending.kept.values()} == {heir, small}
    world.turn(GRACE_S + 10)
    assert {world.job_state(heir), world.job_state(small)} == {JobState.RUNNING}
    assert sum(run.wanted == "stop" for run in world.runs.values()) == 1

"""Rare values and unlucky moments: none may end the loop, lose a job or leave one where nothing moves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from power.capd.client import CapResult
from scheduler.config import Config, Control, DomainConfig
from scheduler.decision import Decision, Resume
from scheduler.engines.engine import EngineError, RunPhase, Wanted
from scheduler.model import Contract, Flex, Intent, JobSpec, JobState
from scheduler.plant import Plant
from scheduler.site import build_tree
from scheduler.store import StoreUnavailable
from scheduler.windows import Plan
from tests.simulation.world import World

BASE_W = 200.0


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


def spec(gpus: int = 1, *, flex: Flex = Flex.HIGH, pausable: bool = False, **more: object) -> JobSpec:
    contract = Contract(flex=flex, pausable=pausable)
    return JobSpec(argv=("train",), gpus=gpus, contract=contract, **more)  # type: ignore[arg-type]


def lose_gpu(world: World, uuid: str) -> None:
    """The driver no longer shows it, and the controller starts anew."""
    del world.boards[uuid]
    world.tree = build_tree(world.config.domains, [board.info for board in world.boards.values()])
    world.new_controller()


class _OldAnswer:
    """A solver whose answer speaks of a job that has ended since."""

    plan: Plan | None = None

    def __init__(self, answer: Decision) -> None:
        self._answer = answer

    def submit(self, snapshot: object) -> None: ...

    def poll(self) -> Decision | None:
        return self._answer


def test_an_answer_about_a_job_that_has_ended_is_dropped(world: World) -> None:
    job_id = world.submit(spec(), work_s=1e6)
    world.turn(4)
    world.cycle._plant = _with_placer(world, _OldAnswer(_resume("job_gone")))
    world.turn(3)
    assert world.job_state(job_id) is JobState.RUNNING


def _resume(job_id: str) -> Decision:
    return Decision(resumes=(Resume(job_id=job_id, cap_w=200.0),))


def _with_placer(world: World, placer: _OldAnswer) -> Plant:
    return replace(world.cycle._plant, placer=placer)


def test_a_gang_that_lost_a_gpu_is_capped_on_those_it_has(world: World) -> None:
    world.submit(spec(gpus=4), work_s=1e6)
    world.turn(5)
    lose_gpu(world, "gpu-0")
    world.limit(BASE_W + 3 * 150)
    world._live_run = lambda run, seconds: None  # type: ignore[method-assign]
    world.turn(6)
    assert world.truth_w() <= BASE_W + 3 * 150


def test_a_drain_with_a_gpu_that_is_gone(world: World) -> None:
    world.submit(spec(gpus=2), work_s=1e6)
    world.turn(5)
    lose_gpu(world, "gpu-0")
    world._live_run = lambda run, seconds: None  # type: ignore[method-assign]
    world.store.nodes.cordon("gpu-3", drain=True)
    world.turn(3)


def test_a_thaw_that_was_written_but_not_carried_out_is_made_up_for(world: World) -> None:
    job_id = world.submit(spec(pausable=True), work_s=1e6)
    world.turn(4)
    world.wish(job_id, Intent.PAUSE)
    world.turn(4)
    assert world.job_state(job_id) is JobState.PAUSED
    honest = world.want

    def deaf(run_id: str, wanted: Wanted, *, checkpoint_now: bool = False) -> None:
        if wanted is Wanted.RUN:
            world.want = honest  # type: ignore[method-assign]
            raise EngineError("the disk was full for a moment")
        honest(run_id, wanted)

    world.want = deaf  # type: ignore[method-assign]
    world.wish(job_id, Intent.RUN)
    world.turn(6)
    assert world.job_state(job_id) is JobState.RUNNING
    assert [run.phase for run in world.runs.values()] == [RunPhase.RUNNING]


def test_a_checkpoint_asked_of_a_paused_job_does_not_thaw_it(world: World) -> None:
    job_id = world.submit(spec(pausable=True), work_s=1e6)
    world.turn(4)
    world.wish(job_id, Intent.PAUSE)
    world.turn(4)
    world.wish(job_id, Intent.CHECKPOINT)
    world.turn(1)
    assert [run.phase for run in world.runs.values()] == [RunPhase.FROZEN]


def test_a_requeue_while_the_database_is_away_loses_no_job(world: World) -> None:
    job_id = world.submit(spec(), work_s=1e6)
    world.turn(4)
    world.wish(job_id, Intent.REQUEUE)
    honest = world.store.jobs.save

    def away(*_args: object, **_named: object) -> None:
        raise StoreUnavailable("locked")

    world.store.jobs.save = away  # type: ignore[method-assign]
    world.turn(3)
    world.store.jobs.save = honest  # type: ignore[method-assign]
    world.turn(8)
    assert world.job_state(job_id) is JobState.RUNNING
    assert world.launched == [job_id, job_id]


def test_a_paused_job_that_must_leave_its_gpus_can_be_resumed_from_the_queue(world: World) -> None:
    job_id = world.submit(spec(pausable=True), work_s=1e6)
    world.turn(4)
    world.wish(job_id, Intent.PAUSE)
    world.turn(4)
    world.limit(BASE_W + 4 * 45)  # not even the least cap fits
    world.turn(6)
    world.limit(1400.0)
    world.wish(job_id, Intent.RUN)
    world.turn(30)
    assert world.job_state(job_id) is JobState.RUNNING


def test_a_job_that_made_room_often_is_still_tried_again_when_its_run_is_lost(world: World) -> None:
    job_id = world.submit(spec(), work_s=1e6)
    for _ in range(5):
        world.turn(4)
        world.wish(job_id, Intent.REQUEUE)
    world.turn(4)
    run = list(world.runs.values())[-1]
    run.phase = RunPhase.LOST
    world._live_run = lambda run, seconds: None  # type: ignore[method-assign]
    world.turn(1)
    assert world.job_state(job_id) is JobState.QUEUED


def test_gpus_without_a_settable_limit_still_run_jobs_at_their_fixed_one(world: World) -> None:
    def fixed(caps: Sequence[tuple[str, float]], *_more: object) -> list[CapResult]:
        return [CapResult(uuid=u, asked_w=w, read_back_w=None, error="not_supported") for u, w in caps]

    world.set_caps = fixed  # type: ignore[method-assign]
    job_id = world.submit(spec(), work_s=1e6)
    world.turn(30)
    assert world.job_state(job_id) is JobState.RUNNING

"""What a new controller finds in the accounts of one that was killed: no joule lost, none billed twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scheduler.config import Config, Control, DomainConfig
from scheduler.engines.engine import RunPhase, RunStatus
from scheduler.model import JobSpec, JobState
from scheduler.site import build_tree
from tests.simulation.world import DEMAND_W, IDLE_W, World

GAP_S = 120


@dataclass
class Unwatched(World):
    """A world that can go on without a controller, and remembers when its runs ended."""

    ended: dict[str, datetime] = field(default_factory=dict)

    def alone(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1.0)
            self._live(1.0)
            for run_id, run in self.runs.items():
                if run.phase is RunPhase.EXITED:
                    self.ended.setdefault(run_id, self.clock.now())

    def observe(self) -> Mapping[str, RunStatus]:
        def ago(run_id: str) -> timedelta:
            return self.clock.now() - self.ended[run_id]

        return {
            run_id: replace(
                status, ended_at=datetime.now(UTC) - ago(run_id) if run_id in self.ended else None
            )
            for run_id, status in super().observe().items()
        }


@pytest.fixture
def world(tmp_path: Path) -> Unwatched:
    config = Config(
        domains=[DomainConfig(name="site", base_load_w=100.0)],
        control=Control(place_period_s=2.0, min_run_s=0.0),
    )
    return Unwatched(folder=tmp_path, config=config, gpus=2)


def joules(world: World, kind: str) -> float:
    return sum(row.energy_j for row in world.store.energy.rows() if row.kind == kind)


def last_j(world: World) -> float:
    return sum(counter.counter_j for counter in world.store.energy.last_counters().values())


def test_a_run_that_goes_on_is_billed_for_the_gap(world: Unwatched) -> None:
    job_id = world.submit(JobSpec(argv=("train",), gpus=1), work_s=1e6)
    world.turn(12)
    before_s = world.store.energy.for_job(job_id).gpu_hours * 3600
    world.alone(GAP_S)
    world.new_controller()
    world.turn(7)
    bill = world.store.energy.for_job(job_id)
    assert bill.gpu_hours * 3600 - before_s == pytest.approx(GAP_S, abs=15)
    assert bill.energy_kwh * 3.6e6 == pytest.approx(bill.gpu_hours * 3600 * DEMAND_W, rel=0.02)
    assert joules(world, "gpu") + joules(world, "idle") == pytest.approx(last_j(world), rel=1e-9)
    hosts = [row for row in world.store.energy.rows() if row.kind == "host"]
    assert sum(row.energy_j for row in hosts) == pytest.approx(100.0 * (12 + GAP_S + 7), abs=600)


def test_a_run_that_ended_unwatched_does_not_pay_for_the_idle_time_after_it(world: Unwatched) -> None:
    job_id = world.submit(JobSpec(argv=("train",), gpus=1), work_s=30)
    world.turn(12)
    world.alone(GAP_S)
    world.new_controller()
    world.turn(7)
    assert world.job_state(job_id) is JobState.SUCCEEDED
    bill = world.store.energy.for_job(job_id)
    assert bill.energy_kwh * 3.6e6 == pytest.approx(30 * DEMAND_W, rel=0.1)
    assert bill.gpu_hours * 3600 == pytest.approx(30, abs=3)
    assert joules(world, "idle") > GAP_S * IDLE_W
    assert joules(world, "gpu") + joules(world, "idle") == pytest.approx(last_j(world), rel=1e-9)


def test_a_gpu_that_was_taken_away_long_ago_does_not_stretch_the_hosts_bill(world: Unwatched) -> None:
    world.turn(7)
    world.boards.pop("gpu-1")
    world.tree = build_tree(world.config.domains, [board.info for board in world.boards.values()])
    world.new_controller()
    world.turn(60)
    world.new_controller()
    world.turn(7)
    hosts = [row for row in world.store.energy.rows() if row.kind == "host"]
    assert sum(row.energy_j for row in hosts) == pytest.approx(100.0 * 74, abs=700)

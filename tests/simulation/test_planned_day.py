"""The real loop with prices of a whole day: work that can wait is planned, and started in its hour."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from power.grid.feed import Kind
from power.series import Series
from scheduler.config import Config, Control, DomainConfig
from scheduler.model import Contract, JobSpec, JobState, WaitReason
from scheduler.signal_view import SeriesView
from tests.builders import NOW, hours, prices
from tests.simulation.world import World


@dataclass
class PricedWorld(World):
    """Prices by the hour instead of one for ever."""

    row: Series = field(default_factory=lambda: prices("60 50 10 20 80 90"))

    def current(self, kind: Kind, now: object = None) -> SeriesView:
        if kind is Kind.CARBON:
            return super().current(kind, now)
        value = self.row.at(self.clock.now())
        return SeriesView(kind=kind, series=self.row, value_now=value, source="test", state="ok")


@pytest.fixture
def world(tmp_path: Path) -> PricedWorld:
    domains = [DomainConfig(name="site", limit_w=5000.0), DomainConfig(name="node", parent="site")]
    control = Control(place_period_s=2.0, min_run_s=0.0)
    return PricedWorld(folder=tmp_path, config=Config(domains=domains, control=control))


def can_wait(gpus: int = 1) -> JobSpec:
    contract = Contract(pausable=True, deadline=NOW + hours(6))
    return JobSpec(argv=("train",), gpus=gpus, contract=contract, estimate_s=3600.0)


def test_it_waits_for_its_hour_while_others_start(world: PricedWorld) -> None:
    waits = world.submit(can_wait())
    rigid = world.submit(JobSpec(argv=("train",), gpus=1), work_s=30.0)
    world.turn(5)
    assert world.job_state(rigid) in (JobState.STARTING, JobState.RUNNING)
    held = world.store.jobs.get(waits)
    assert (held.state, held.wait_reason) == (JobState.QUEUED, WaitReason.PRICE)
    world.clock.advance(hours(2).total_seconds())
    world.turn(4)
    assert world.job_state(waits) is JobState.RUNNING


def test_the_plan_is_published_once_and_the_state_says_how_old_it_is(world: PricedWorld) -> None:
    job_id = world.submit(can_wait())
    world.turn(3)
    assert world.plan is not None
    (planned,) = world.plan["jobs"]
    assert (planned["job_id"], planned["start"]) == (job_id, (NOW + hours(2)).isoformat())
    assert planned["expected_cost"] < planned["cost_now"]
    first = world.plan
    world.clock.advance(60.0)
    world.turn()
    assert world.plan is first
    assert world.state is not None
    assert world.state["plan_jobs"] == 1
    assert 60.0 <= (world.state["plan_age_s"] or 0.0) < 70.0
    world.clock.advance(300.0)
    world.turn(3)
    assert world.plan is not first


def test_decisions_tell_of_every_plan_and_its_placement(world: PricedWorld) -> None:
    world.submit(can_wait())
    world.turn(4)
    world.clock.advance(timedelta(minutes=6).total_seconds())
    world.turn(4)
    kept = world.store.decisions.page(50).items
    steps = [[c["step"] for c in decision.summary["certificates"]] for decision in kept]
    assert sum("plan" in row for row in steps) == 2
    assert all("place" in row for row in steps if "plan" in row)

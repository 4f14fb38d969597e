"""One look at the world, before any thought: values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from power.budget import Budget
from scheduler.decision import Wait
from scheduler.engines.engine import RunPhase, RunStatus
from scheduler.model import Job, JobState
from scheduler.policy.price_rule import PriceRule
from scheduler.signal_view import SeriesView
from telemetry.sample import GpuSample


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What people wrote into the database."""

    jobs: tuple[Job, ...] = ()
    budgets: tuple[Budget, ...] = ()
    rules: tuple[PriceRule, ...] = ()
    cordoned: frozenset[str] = frozenset()  # GPU UUIDs and node names that take no new runs
    draining: frozenset[str] = frozenset()  # those that are to be emptied too
    dependencies: Mapping[str, JobState] = field(default_factory=dict)
    holders: Mapping[str, Job] = field(init=False, repr=False, compare=False)  # by GPU

    def __post_init__(self) -> None:
        object.__setattr__(self, "holders", _holders(self.jobs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Everything that was seen in one cycle. `degraded` names what could not be seen."""

    cycle: int
    now: datetime
    monotonic_s: float
    samples: Mapping[str, GpuSample]  # by UUID
    statuses: Mapping[str, RunStatus]  # by run id
    wishes: Wishes
    price: SeriesView
    carbon: SeriesView
    active_rules: tuple[PriceRule, ...]
    degraded: tuple[str, ...]
    gated: tuple[Wait, ...] = ()  # jobs that may not be considered, and why

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Every job that is not terminal, in order of submission."""
        return self.wishes.jobs

    def holder(self, uuid: str) -> Job | None:
        """The job whose run holds this GPU; the oldest, should two claim it."""
        return self.wishes.holders.get(uuid)

    def frozen(self, run_id: str) -> bool:
        status = self.statuses.get(run_id)
        return status is not None and status.phase is RunPhase.FROZEN


def _holders(jobs: Iterable[Job]) -> dict[str, Job]:
    holders: dict[str, Job] = {}
    for job in jobs:
        for uuid in job.run.gpu_uuids if job.run is not None else ():
            holders.setdefault(uuid, job)
    return holders

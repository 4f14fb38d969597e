"""Everything the loop touches, as ports: swap them and the same loop is a simulation or a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from power.budget import PowerTree
from power.capd.client import CapResult
from power.clock import Clock
from power.grid.feed import Kind
from scheduler.config import Config
from scheduler.counts import Counts
from scheduler.decision import Decision
from scheduler.engines.engine import Engine
from scheduler.plan_state import PlanState
from scheduler.published import PublishedState
from scheduler.signal_view import SeriesView
from scheduler.snapshot import Snapshot
from scheduler.store import Store
from scheduler.windows import Plan
from telemetry.sample import GpuSample


class Telemetry(Protocol):
    def sample(self) -> tuple[GpuSample, ...]:
        """One sample of every GPU; one that cannot be read says so in its sample."""
        ...


class CapSetter(Protocol):
    """The enforcer's client. Raises `power.capd.client.CapdUnavailable`."""

    epoch: int | None  # under which this controller leads

    def renew(self) -> None:
        """Keep leading, or lead anew."""
        ...

    def set_caps(self, caps: Sequence[tuple[str, float]]) -> list[CapResult]: ...


class Signals(Protocol):
    def current(self, kind: Kind, now: datetime | None = None) -> SeriesView:
        """The series in use, with source and age."""
        ...

    def reload(self) -> None:
        """Take over what another process stored; fails into a named state, never raises."""
        ...

    def counters(self) -> dict[str, float]:
        """Metrics of the feeds by name."""
        ...


class Placer(Protocol):
    """Solves placements beside the loop, and the plans that they obey."""

    @property
    def plan(self) -> Plan | None:
        """The newest plan; another object whenever there is news of it."""
        ...

    def submit(self, snapshot: Snapshot) -> None:
        """Ask for a placement, and for a plan where another is needed."""
        ...

    def poll(self) -> Decision | None:
        """The placement, once, when there is one."""
        ...


class Publisher(Protocol):
    def publish(self, state: PublishedState) -> None: ...

    def publish_plan(self, state: PlanState) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    config: Config
    clock: Clock
    backend: str  # nvml | simulated
    tree: PowerTree
    telemetry: Telemetry
    caps: CapSetter
    engine: Engine
    signals: Signals
    placer: Placer
    publisher: Publisher
    store: Store
    counts: Counts = field(default_factory=Counts)

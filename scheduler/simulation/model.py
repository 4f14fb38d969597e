"""What a simulation is made of and what comes out of it. Seconds count from the start of the scenario."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from power.arrays import Floats, Ints
from power.budget import Budget, PowerTree
from power.device import GpuInfo
from power.series import Series
from scheduler.decision import Certificate
from scheduler.model import JobSpec


class BadInput(ValueError):
    """A trace, a cluster or an option cannot be used; the message says where, what and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedJob:
    """One job of a trace. `spec` is what its owner asks for and says of it; that alone a policy sees.

    `work_s` is how long it really runs at full speed. `spec.estimate_s`, if any, is its owner's guess of it.
    """

    id: str
    spec: JobSpec
    submitted_at: datetime
    work_s: float


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """GPUs and the power domains they hang on. `name` for reports."""

    name: str
    tree: PowerTree
    boards: tuple[GpuInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """How often what is decided, in simulated seconds. Caps are decided whenever something changed."""

    place_s: float = 60.0  # placements: at most this often
    settle_s: float = 2.0  # a lowered cap holds after this long


@dataclass(frozen=True, slots=True, kw_only=True)
class StopTimes:
    """What a stop and the next start really take, in seconds of all GPUs of the job."""

    checkpoint_s: float = 30.0  # from the ask to stop until the exit; work until the ask is saved
    restart_s: float = 60.0  # from a start after the first until work goes on
    launch_s: float = 20.0  # from the first start until work begins


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Everything but the policy. `jobs` in order of submission, all from `start` on; the simulation goes on
    behind `end` until every job has ended, or until `end` + `patience_s`.

    `prices` (money per MWh) and `carbon` (g/kWh, may be empty) are what will have been; a policy sees of them
    what is published by then. `value_per_gpu_h` by priority class.
    """

    jobs: tuple[SimulatedJob, ...]
    cluster: Cluster
    prices: Series
    carbon: Series = field(default_factory=Series)
    budgets: tuple[Budget, ...] = ()
    start: datetime
    end: datetime
    patience_s: float = 14 * 86400.0
    seed: int = 0
    cadence: Cadence = field(default_factory=Cadence)
    stop_times: StopTimes = field(default_factory=StopTimes)
    headroom_w: float = 0.0
    carbon_cost_per_tonne: float = 0.0
    value_per_gpu_h: dict[str, float] = field(
        default_factory=lambda: {"low": 0.5, "standard": 1.5, "high": 4.0}
    )
    notes: tuple[str, ...] = ()  # what of the trace is not simulated, in words with figures


@dataclass(frozen=True, kw_only=True)
class JobOutcomes:
    """A row per job of the scenario, in its order. NaN = never."""

    first_start_s: Floats
    ended_s: Floats  # when its work was done
    running_s: Floats  # seconds in which it worked (launching, saving and frozen time not counted)
    done_s: Floats  # work done, in seconds at full speed
    stops: Ints  # times it was stopped after a start and put back
    energy_j: Floats  # all its GPUs, from start to exit
    cost: Floats  # of that energy
    co2_kg: Floats


@dataclass(frozen=True, kw_only=True)
class PowerTrace:
    """The site over time: row i holds from `at_s[i]` until `at_s[i + 1]` (the last: until `until_s`).

    Watts are at the meter (base loads and overhead included), of the whole site; `limit_w` is infinite where
    there is none. `excess_caps_w` and `excess_draw_w` are the largest excess over any domain's limit: of the
    counted caps, and as expected of the draw of single seconds.
    """

    at_s: Floats
    until_s: float
    gpu_draw_w: Floats  # all GPUs
    busy_draw_w: Floats  # those that hold a job
    meter_w: Floats
    caps_w: Floats  # what GPUs count as in decisions, at the meter
    limit_w: Floats
    excess_caps_w: Floats
    excess_draw_w: Floats
    price_per_mwh: Floats
    carbon_g_per_kwh: Floats  # NaN = unknown
    busy_gpus: Ints
    waiting_jobs: Ints


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a scenario under one policy. `certificates` of placements and plans, as decided."""

    policy: str
    scenario: Scenario
    jobs: JobOutcomes
    power: PowerTrace
    turns: int
    wall_s: float
    certificates: tuple[Certificate, ...] = ()

    @property
    def spans_s(self) -> Floats:
        """How long each row of `power` holds."""
        return np.diff(self.power.at_s, append=self.power.until_s)

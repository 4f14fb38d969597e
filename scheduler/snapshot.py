"""What a decision sees: one frozen picture of GPUs, jobs, limits and prices. Built by `observe.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from power.budget import PowerTree
from power.curve import CapCurve
from power.series import Series
from scheduler.model import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuView:
    """One GPU as the decision must account it.

    `accounted_w` is the worst case now: its confirmed cap under load, idle + margin when proven empty,
    its maximum when unknown, stale or lost. `settable` is False where the limit cannot be changed.
    """

    uuid: str
    model: str
    min_cap_w: float
    max_cap_w: float
    confirmed_cap_w: float | None
    accounted_w: float
    idle_w: float  # measured idle + margin: what it counts when proven empty
    draw_w: float | None
    settable: bool
    healthy: bool
    cordoned: bool
    run_id: str | None  # the run that holds it
    foreign: bool = False  # processes on it that are not ours
    settling: bool = False  # a run of ours left it moments ago: its watts and processes are on their way out

    @property
    def free(self) -> bool:
        """May take a new run."""
        return self.healthy and not self.cordoned and self.run_id is None and not self.foreign


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job with what the decision needs beside it.

    `curve` is per GPU; `floor_share` is the least throughput (0..1 of uncapped) its contract allows now;
    `value_per_gpu_h` is what an hour of one GPU at full speed is worth; `restart_cost_s` is what stopping
    and starting it again loses (measured, else the config's guess), in grid seconds.
    """

    job: Job
    curve: CapCurve
    floor_share: float
    value_per_gpu_h: float
    priority_rank: int  # higher = more important; contracts break in reverse of it
    restart_cost_s: float
    frozen: bool = False  # paused in place, still on its GPUs
    remaining_s: float | None = None  # grid seconds at full speed, if known
    rule_cap_share: float | None = None  # a price rule in force lowers its throughput to this share
    rule_pause: str | None = None  # a price rule in force pauses it: the rule's name
    eligible: bool = True  # queued: nothing but GPUs, watts and price stands in its way


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything a decision may look at. No clock, no I/O."""

    cycle: int
    now: datetime
    tree: PowerTree
    limits_w: Mapping[str, float]  # per domain, now
    gpus: tuple[GpuView, ...]
    jobs: tuple[JobView, ...]  # every job that is not terminal
    price_per_mwh: float | None  # now; None = no price known
    carbon_g_per_kwh: float | None
    carbon_cost_per_tonne: float
    prices: Series = Series()  # from now on, published
    degraded: tuple[str, ...] = ()  # named states: no_prices, telemetry_stale, ...
    min_run_s: float = 60.0  # do not preempt a run younger than this (real seconds are the cycle's affair)

    def energy_price_per_mwh(self) -> float:
        """Electricity plus carbon, money per MWh; 0 when no price is known (price-blind)."""
        carbon = (self.carbon_g_per_kwh or 0.0) / 1e3 * self.carbon_cost_per_tonne
        return (self.price_per_mwh or 0.0) + carbon

    def gpu(self, uuid: str) -> GpuView:
        return next(g for g in self.gpus if g.uuid == uuid)

    def job(self, job_id: str) -> JobView:
        return next(j for j in self.jobs if j.job.id == job_id)

"""What the controller tells the world each second: one JSON file, written whole, read by the API.

A file and not a socket: it survives either side, and a stale one shows its age.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from typing_extensions import TypedDict  # pydantic cannot read the one in typing before Python 3.12


class DomainState(TypedDict):
    name: str
    parent: str | None
    limit_w: float | None  # None = no limit
    base_load_w: float
    accounted_w: float  # worst case: base loads and GPUs at their confirmed caps
    draw_w: float | None  # measured GPUs plus base loads


class GpuState(TypedDict):
    uuid: str
    index: int
    model: str
    node: str  # the domain it hangs on
    power_w: float | None
    cap_w: float | None  # confirmed, read back
    min_cap_w: float
    max_cap_w: float
    accounted_w: float
    utilization: float | None
    memory_used_bytes: int | None
    temperature_c: float | None
    sm_clock_hz: float | None
    throttle_reasons: list[str]
    pids: list[int] | None
    job_id: str | None
    run_id: str | None
    settable: bool
    healthy: bool
    cordoned: bool
    foreign: bool
    sample_age_s: float | None
    error: str | None


class JobPowerState(TypedDict):
    job_id: str
    run_id: str
    cap_w: float
    draw_w: float | None  # all its GPUs
    throughput_share: float  # of uncapped, by the curve at this cap
    samples_per_s: float | None
    step: int | None
    total_steps: int | None
    promised_share: float  # slowdown its flex tier allows
    used_share: float  # slowdown so far
    stop_lost_s: float  # grid seconds of work that stopping it now would lose, its next start included
    stop_cost: float  # the same in money: all its GPUs, at what their work is worth
    frozen: bool
    condition: str
    cause: str


class CertificateState(TypedDict):
    step: str
    value: float
    bound: float | None  # None = nobody knows one
    gap: float
    solve_s: float
    fallback: str | None
    scope: str | None  # the part of the site that was looked at; None = all of it
    at: str


class PublishedState(TypedDict):
    at: str  # grid time, RFC 3339
    real_at: str  # wall clock, RFC 3339: its age is what `readyz` judges
    cycle: int
    controller_pid: int
    backend: str  # nvml | simulated
    clock_rate: float
    currency: str
    degraded: list[str]
    price_per_mwh: float | None
    price_source: str | None
    price_age_s: float | None
    carbon_g_per_kwh: float | None
    carbon_source: str | None
    carbon_age_s: float | None
    active_rules: list[str]
    domains: list[DomainState]
    gpus: list[GpuState]
    jobs: list[JobPowerState]
    certificates: list[CertificateState]
    plan_age_s: float | None  # grid seconds; None = there is no plan
    plan_jobs: int | None  # how many it gives a window
    capd: dict[str, object]  # alive, epoch, lease_age_s, drifts
    counters: dict[str, float]  # metric name -> value, see telemetry/metrics.py


def publish(path: Path, state: Mapping[str, object]) -> None:
    """Replace the file in one step. Raises OSError."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(state, allow_nan=False))
    os.replace(partial, path)


def read_published(path: Path) -> PublishedState | None:
    """The newest state, or None before the controller's first cycle."""
    try:
        state: PublishedState = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return state

"""The demonstration's plan: the day, the site, the rules and the three jobs. Pure: values in, values out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from api.demo.prices import FIRST_HOUR, PRICES_PER_MWH

START = FIRST_HOUR + timedelta(hours=10)
SPIKE_START = FIRST_HOUR + timedelta(hours=16)
SPIKE_END = FIRST_HOUR + timedelta(hours=20)
REPLAY_END = FIRST_HOUR + timedelta(hours=len(PRICES_PER_MWH))

DEFAULT_RATE = 300.0  # grid seconds per real second: an hour passes in 12 s, the spike in 48 s
FASTEST_RATE = 360.0  # the time above the ceiling, three hours, still lasts 30 real seconds
CAP_ABOVE_PER_MWH = 200.0
RELEASE_BELOW_PER_MWH = 150.0
CAPPED_SHARE = 0.55  # of uncapped throughput
CEILING_PER_MWH = 250.0
BASE_LOAD_W = 300.0
TAIL_S = 28.0  # real seconds of work planned after the spike
STARTUP_S = 20.0  # real seconds from the clock's start until the jobs train
RUN_LIMIT_S = 900.0  # real; jobs that take longer are cancelled and count as failed
GANG_SHARE = 0.8  # of a lone process's steps: ranks wait for each other
WORKLOAD = "bert"  # its measured power curve stands in for the example's on a simulated GPU
SIMULATED_COUNT = 8
LEAST_REAL_GPUS = 3  # the three jobs must run side by side


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The GPUs the demo runs on."""

    backend: str  # nvml | simulated
    count: int
    model: str
    max_cap_w: float

    @property
    def limit_w(self) -> float:
        """A budget with little to spare: the jobs at full caps, the idle rest, the host, and a tenth."""
        busy = min(self.count, 4)
        idle_w = 0.2 * self.max_cap_w * (self.count - busy)
        return round((BASE_LOAD_W + busy * self.max_cap_w + idle_w) * 1.1, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoJob:
    """One of the three; `role` is how it meets the spike: rigid, flexible or pausable."""

    role: str
    gpus: int
    steps: int
    flex: str
    pausable: bool = False
    price_ceiling_per_mwh: float | None = None

    @property
    def promise(self) -> str:
        if self.pausable:
            return f"pauses above {self.price_ceiling_per_mwh:.0f} EUR"
        return {"none": "never slower", "high": "up to 50 % slower"}[self.flex]


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast this machine trains, measured: steps per second of a process with a core to itself."""

    steps_per_s: float
    cores: float


def plan_jobs(speed: Speed, *, gpus: int, rate: float = DEFAULT_RATE) -> tuple[DemoJob, ...]:
    """The three jobs, with enough steps to meet the whole spike and to finish soon after it.

    Processes share the cores: a capped or paused one leaves its part to the rest.
    """
    gang = 2 if gpus >= 4 else 1
    before_s = max(5.0, (SPIKE_START - START).total_seconds() / rate - STARTUP_S)
    spike_s = (SPIKE_END - SPIKE_START).total_seconds() / rate
    after_s = TAIL_S
    shared = _core_share(speed.cores, 2 + gang)
    in_spike = _core_share(speed.cores, 1 + gang * CAPPED_SHARE)
    full_s = (before_s + after_s) * shared
    rigid = full_s + spike_s * in_spike
    flexible = (full_s + spike_s * in_spike * CAPPED_SHARE) * (1.0 if gang == 1 else GANG_SHARE)
    steps = [max(20, round(seconds * speed.steps_per_s)) for seconds in (rigid, flexible, full_s)]
    return (
        DemoJob(role="rigid", gpus=1, steps=steps[0], flex="none"),
        DemoJob(role="flexible", gpus=gang, steps=steps[1], flex="high"),
        DemoJob(
            role="pausable",
            gpus=1,
            steps=steps[2],
            flex="low",
            pausable=True,
            price_ceiling_per_mwh=CEILING_PER_MWH,
        ),
    )


def _core_share(cores: float, processes: float) -> float:
    """The part of a core that each of `processes` busy processes gets."""
    return min(1.0, cores / processes)


def job_body(job: DemoJob, argv: Sequence[str]) -> dict[str, Any]:
    """What `POST /v1/jobs` takes. One thread per process, or three jobs fight over the cores."""
    body: dict[str, Any] = {
        "name": job.role,
        "argv": list(argv),
        "gpus": job.gpus,
        "flex": job.flex,
        "pausable": job.pausable,
        "priority": "high" if job.role == "rigid" else "standard",
        "workload": WORKLOAD,
        "env": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        "requeue": False,
    }
    if job.price_ceiling_per_mwh is not None:
        body["price_ceiling_per_mwh"] = job.price_ceiling_per_mwh
    return body


def price_rule() -> dict[str, Any]:
    """The rule that caps the flexible job in the spike, with hysteresis."""
    return {
        "name": "evening-spike",
        "above_per_mwh": CAP_ABOVE_PER_MWH,
        "release_below_per_mwh": RELEASE_BELOW_PER_MWH,
        "min_dwell_s": 900.0,
        "action": "cap",
        "throughput_share": CAPPED_SHARE,
        "applies_to": ["mid", "high"],
        "enabled": True,
    }


def config_toml(
    site: Site,
    *,
    data_dir: str,
    price_csv: str,
    carbon_csv: str,
    port: int,
    rate: float,
    real_start: datetime,
) -> str:
    """The demo's `wattmill.toml`. JSON strings are TOML strings, so paths are quoted by `json.dumps`."""
    sections: Mapping[str, Mapping[str, Any]] = {
        "site": {"currency": "EUR"},
        "server": {"port": port},
        "storage": {"data_dir": data_dir},
        "gpus": {"backend": site.backend, "simulated_count": site.count, "simulated_model": site.model}
        if site.backend == "simulated"
        else {"backend": site.backend},
        "control": {"place_period_s": 2.0, "min_run_s": 5.0, "restart_cost_s": 900.0},
        "clock": {"rate": rate, "grid_start": START.isoformat(), "real_start": real_start.isoformat()},
        "price": {"poll_s": 3600.0, "jitter_s": 0.0, "max_age_s": 1e9},
        "carbon": {"poll_s": 3600.0, "jitter_s": 0.0, "max_age_s": 1e9, "plausible_min": 0.0},
    }
    lines = []
    for name, values in sections.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
    for signal, path in (("price", price_csv), ("carbon", carbon_csv)):
        lines += [f"[[{signal}.feeds]]", 'type = "csv"', f"path = {json.dumps(path)}", ""]
    lines += ["[[domains]]", 'name = "site"', f"limit_w = {site.limit_w}", ""]
    lines += ["[[domains]]", 'name = "node"', 'parent = "site"', f"base_load_w = {BASE_LOAD_W}", ""]
    return "\n".join(lines)

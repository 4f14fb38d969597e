"""Outcomes of simulations that read like drawings: `outcome(ran("a", from_h=0, to_h=1), price="100 200")`.

Four GPUs on one node. What a job drew is stated, and the site's watts follow from it; what is expected is for
the test to state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from power.arrays import Floats
from power.budget import Domain, PowerTree
from power.device import GpuInfo
from power.series import Series
from scheduler.decision import Certificate
from scheduler.model import JobSpec
from scheduler.simulation.bound import Bound
from scheduler.simulation.measures import Measures, measure
from scheduler.simulation.model import Cluster, JobOutcomes, Outcome, PowerTrace, Scenario, SimulatedJob
from tests.builders import NOW, hours, job, prices

GPUS = 4
IDLE_W = 50.0
BASE_W = 100.0
PUE = 1.25
HOUR_S = 3600.0
NEVER = float("nan")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One job and what became of it. Hours from the start; `to_h` None = still running at the end."""

    id: str
    spec: JobSpec
    work_h: float
    submitted_h: float
    from_h: float | None
    to_h: float | None
    done_h: float
    draw_w: float
    stops: int


def ran(
    id: str = "a",
    *,
    from_h: float | None = 0.0,
    to_h: float | None = 1.0,
    submitted_h: float = 0.0,
    work_h: float = 1.0,
    done_h: float | None = None,
    draw_w: float = 300.0,
    stops: int = 0,
    **spec: Any,
) -> Ran:
    """A job that ran at one speed; `from_h` None = it never started. `draw_w` is of all its GPUs."""
    done = done_h if done_h is not None else (0.0 if from_h is None else work_h)
    return Ran(
        id=id,
        spec=job(id, **spec).spec,
        work_h=work_h,
        submitted_h=submitted_h,
        from_h=from_h,
        to_h=to_h,
        done_h=done,
        draw_w=draw_w if from_h is not None else 0.0,
        stops=stops,
    )


def cluster() -> Cluster:
    uuids = tuple(f"gpu-{index}" for index in range(GPUS))
    node = Domain(name="node-0", parent="site", base_load_w=BASE_W, gpu_uuids=uuids)
    boards = tuple(
        GpuInfo(
            uuid=uuid,
            index=index,
            model="NVIDIA A40",
            min_cap_w=100.0,
            max_cap_w=300.0,
            default_cap_w=300.0,
            memory_bytes=48 * 2**30,
        )
        for index, uuid in enumerate(uuids)
    )
    return Cluster(name="four", tree=PowerTree.of([Domain(name="site", pue=PUE), node]), boards=boards)


def outcome(
    *jobs: Ran,
    policy: str = "wattmill",
    until_h: float = 3.0,
    price: str = "100 200 50",
    carbon: str = "400 300 -",
    limit_w: float = np.inf,
    limit_from_h: float = 0.0,
    excess_caps_w: float = 0.0,
    wall_s: float = 1.0,
    certificates: tuple[Certificate, ...] = (),
) -> Outcome:
    """The books of these jobs. `price` and `carbon` are a word per hour, `-` is a gap."""
    scenario = _scenario(jobs, price, carbon)
    at_h = _borders(jobs, until_h, limit_from_h, scenario)
    held = np.array([[_holds(it, at, until_h) for it in jobs] for at in at_h]).reshape(len(at_h), len(jobs))
    row_limit_w = np.where(at_h >= limit_from_h, limit_w, np.inf)
    power = _power(jobs, scenario, at_h, held, row_limit_w, until_h=until_h, excess_caps_w=excess_caps_w)
    return Outcome(
        policy=policy,
        scenario=scenario,
        jobs=_accounts(jobs, held, power),
        power=power,
        turns=len(at_h),
        wall_s=wall_s,
        certificates=certificates,
    )


def _scenario(jobs: tuple[Ran, ...], price: str, carbon: str) -> Scenario:
    submitted = tuple(
        SimulatedJob(
            id=it.id, spec=it.spec, submitted_at=NOW + hours(it.submitted_h), work_s=it.work_h * HOUR_S
        )
        for it in jobs
    )
    return Scenario(
        jobs=submitted,
        cluster=cluster(),
        prices=prices(price),
        carbon=prices(carbon),
        start=NOW,
        end=NOW + hours(24),
        seed=7,
    )


def _power(
    jobs: tuple[Ran, ...],
    scenario: Scenario,
    at_h: Floats,
    held: Floats,
    limit_w: Floats,
    *,
    until_h: float,
    excess_caps_w: float,
) -> PowerTrace:
    busy_w = held @ np.array([it.draw_w for it in jobs])
    busy_gpus = held.astype(np.int64) @ np.array([it.spec.gpus for it in jobs], dtype=np.int64)
    gpu_w = busy_w + IDLE_W * (GPUS - busy_gpus)
    meter_w = (gpu_w + BASE_W) * PUE
    return PowerTrace(
        at_s=at_h * HOUR_S,
        until_s=until_h * HOUR_S,
        gpu_draw_w=gpu_w,
        busy_draw_w=busy_w,
        meter_w=meter_w,
        caps_w=meter_w + 10.0,
        limit_w=limit_w,
        excess_caps_w=np.where(np.isfinite(limit_w), excess_caps_w, 0.0),
        excess_draw_w=np.maximum(0.0, meter_w - limit_w),
        price_per_mwh=_at(scenario.prices, at_h),
        carbon_g_per_kwh=_at(scenario.carbon, at_h),
        busy_gpus=busy_gpus,
        waiting_jobs=np.array([sum(_waits(it, at) for it in jobs) for at in at_h], dtype=np.int64),
    )


def _borders(jobs: tuple[Ran, ...], until_h: float, limit_from_h: float, scenario: Scenario) -> Floats:
    slots = [*scenario.prices, *scenario.carbon]
    edges = [(edge - NOW).total_seconds() / HOUR_S for slot in slots for edge in (slot.start, slot.end)]
    edges += [moment for it in jobs for moment in (it.submitted_h, it.from_h, it.to_h) if moment is not None]
    return np.array(sorted({at for at in [0.0, limit_from_h, *edges] if 0 <= at < until_h}))


def _holds(it: Ran, at_h: float, until_h: float) -> bool:
    return it.from_h is not None and it.from_h <= at_h < (until_h if it.to_h is None else it.to_h)


def _waits(it: Ran, at_h: float) -> bool:
    return it.submitted_h <= at_h and (it.from_h is None or at_h < it.from_h)


def _at(series: Series, at_h: Floats) -> Floats:
    found = [series.at(NOW + hours(at)) for at in at_h.tolist()]
    return np.array([np.nan if value is None else value for value in found])


def _accounts(jobs: tuple[Ran, ...], held: Floats, power: PowerTrace) -> JobOutcomes:
    spans_s = np.diff(power.at_s, append=power.until_s)
    held_s = held.T * spans_s  # jobs x rows
    joules = held_s * np.array([it.draw_w for it in jobs]).reshape(-1, 1)
    ended = [it.to_h if it.from_h is not None and it.to_h is not None else NEVER for it in jobs]
    return JobOutcomes(
        first_start_s=np.array([NEVER if it.from_h is None else it.from_h for it in jobs]) * HOUR_S,
        ended_s=np.array(ended) * HOUR_S,
        running_s=held_s.sum(axis=1),
        done_s=np.array([it.done_h for it in jobs]) * HOUR_S,
        stops=np.array([it.stops for it in jobs], dtype=np.int64),
        energy_j=joules.sum(axis=1),
        cost=joules @ np.nan_to_num(power.price_per_mwh) / 3.6e9,
        co2_kg=joules @ np.nan_to_num(power.carbon_g_per_kwh) / 3.6e9,
    )


def least(cost: float = 60.0, solve_s: float = 1.0) -> Bound:
    """A bound as one might be found."""
    return Bound(
        cost=cost,
        site_cost=160.0,
        energy_kwh=1.0,
        mean_jct_s=3000.0,
        held_gain=0.0,
        gap=None,
        solve_s=solve_s,
        notes=("perfect foresight",),
    )


def figures(gpu_cost: float = 80.0, cost: float = 180.0, mean_jct_s: float = 3600.0, **more: Any) -> Measures:
    """The figures of one job that ran at once, but for those that are named."""
    plainly = measure(outcome(ran("a")))
    return replace(plainly, gpu_cost=gpu_cost, cost=cost, mean_jct_s=mean_jct_s, **more)

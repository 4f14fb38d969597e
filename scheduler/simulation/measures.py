"""What a simulation came to, in figures. Pure.

Money, joules and watt-seconds are exact sums over the rows of a `PowerTrace`, whose rows end where a price or
a carbon figure does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.tariff import JOULES_PER_KWH
from scheduler.model import Flex, JobSpec
from scheduler.simulation.model import Outcome

SHORTEST_WORK_S: Final = 10.0  # bounded slowdown of Feitelson and Rudolph (JSSPP 1998), with their 10 s
ROUNDING_SHARE: Final = 1e-6  # of throughput: what sums of floats may be off by
# A curve is never known exactly: this much of each flex tier the daemon by default holds back for it
# (`control.contract_guard_share`), and a job that lost no more beyond its tier was throttled in good faith.
BELIEF_TOLERANCE_SHARE: Final = 0.02
S_PER_H: Final = 3600.0
CANNOT_WAIT: Final = "cannot_wait"
CAN_WAIT: Final = "can_wait"


@dataclass(frozen=True, kw_only=True)
class JobFigures:
    """A row per job of the scenario, in its order. Seconds count from the scenario's start.

    `jct_s` is the completion time, submission to end; of a job that did not end it counts to the end of the
    simulation. `slowdown` is jct_s / work_s, both taken as at least 10 s; for a job that did not end it is at
    least 1, as what it will come to is not known. `throughput_loss` is 1 - done_s / running_s, 0 for a job
    that never worked, and below 0 for one that ran faster than expected.
    """

    gpus: Ints
    work_s: Floats
    submitted_s: Floats
    finished: Bools
    jct_s: Floats
    slowdown: Floats
    throughput_loss: Floats
    tier_share: Floats
    deadline_s: Floats  # NaN = none
    deadline_missed: Bools  # ended after it, or not ended by then
    can_wait: Bools

    def broken(self, tolerance_share: float) -> Bools:
        """Jobs that lost more throughput than their flex tier and this share on top."""
        rows: Bools = self.throughput_loss > self.tier_share + tolerance_share
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMeasures:
    """Some of the jobs: those of a flex tier, or those that can or cannot wait. NaN where there are none."""

    jobs: int
    mean_jct_s: float
    mean_slowdown: float
    mean_throughput_loss: float
    max_throughput_loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """One policy on one scenario. Money in the currency of the prices; NaN = there is nothing to measure.

    `cost`, `energy_kwh` and `co2_kg` are of the site's meter: busy and idle GPUs, hosts, overhead. Those with
    `gpu_` are of busy GPUs alone, at their boards. Electricity only: emissions are not priced in.
    Energy while no price (no carbon figure) is known is told in `unpriced_kwh` (`unknown_carbon_kwh`), and is
    no part of the money (of the CO2); `co2_kg` is NaN where no figure is known at all.

    `work_gpu_h` is work done in GPU-hours at full speed, of finished and unfinished jobs.
    `gpu_utilization` is busy GPU-seconds over the seconds of all GPUs, both while at least one job held GPUs
    or waited; a GPU is busy from the start of a job on it to the job's exit. `work_per_h` is work done in
    GPU-hours per hour of that same time.

    `contracts_broken` counts jobs whose throughput loss exceeds their flex tier by more than rounding,
    `contracts_broken_beyond_tolerance` those that exceed it by more than `BELIEF_TOLERANCE_SHARE` as well.
    `deadlines_missed` of `deadlines`; `deadlines_open` are of jobs that had not ended and were not yet due.
    `budget_excess_..._ws` are watt-seconds over the limit of the domain that was furthest over its own.
    """

    cost: float
    gpu_cost: float
    energy_kwh: float
    gpu_energy_kwh: float
    co2_kg: float
    gpu_co2_kg: float
    unpriced_kwh: float
    unknown_carbon_kwh: float
    work_gpu_h: float
    cost_per_gpu_hour_of_work: float
    gpu_cost_per_gpu_hour_of_work: float
    useful_work_per_kwh: float  # GPU-hours at full speed per kWh at the meter
    useful_work_per_gpu_kwh: float  # and per kWh of busy GPUs
    gpu_utilization: float
    work_per_h: float
    simulated_h: float
    limited_h: float  # with a limit on the site
    makespan_s: float  # until the last job ended; to the end of the simulation where one did not
    jobs: int
    unfinished: int
    unfinished_jobs: tuple[str, ...]
    mean_jct_s: float
    p50_jct_s: float
    p95_jct_s: float
    p99_jct_s: float
    mean_slowdown: float
    p95_slowdown: float
    p99_slowdown: float
    deadlines: int
    deadlines_missed: int
    deadlines_open: int
    contracts_broken: int
    contracts_broken_beyond_tolerance: int
    max_excess_throughput_loss: float  # the most that a job lost beyond its tier; 0 = none did
    budget_excess_caps_ws: float
    budget_excess_draw_1s_ws: float
    preemptions: int
    groups: Mapping[str, GroupMeasures]  # none, low, mid, high, cannot_wait, can_wait


def can_wait(spec: JobSpec) -> bool:
    """As the contract defines it: pausable, of known length, with a deadline or a price ceiling."""
    contract = spec.contract
    bounded = contract.deadline is not None or contract.price_ceiling_per_mwh is not None
    return contract.pausable and spec.estimate_s is not None and bounded


def job_figures(outcome: Outcome) -> JobFigures:
    """Completion times, slowdowns and kept promises, job by job."""
    jobs, ended = outcome.scenario.jobs, outcome.jobs
    start = outcome.scenario.start
    submitted_s = np.array([(job.submitted_at - start).total_seconds() for job in jobs], dtype=np.float64)
    deadlines = [job.spec.contract.deadline for job in jobs]
    deadline_s = np.array(
        [np.nan if due is None else (due - start).total_seconds() for due in deadlines], dtype=np.float64
    )
    work_s = np.array([job.work_s for job in jobs], dtype=np.float64)
    finished = np.isfinite(ended.ended_s)
    end_s = np.where(finished, ended.ended_s, outcome.power.until_s)
    jct_s = end_s - submitted_s
    slowdown = np.maximum(jct_s, SHORTEST_WORK_S) / np.maximum(work_s, SHORTEST_WORK_S)
    worked = ended.running_s > 0
    done_share = np.divide(ended.done_s, ended.running_s, out=np.ones_like(work_s), where=worked)
    return JobFigures(
        gpus=np.array([job.spec.gpus for job in jobs], dtype=np.int64),
        work_s=work_s,
        submitted_s=submitted_s,
        finished=finished,
        jct_s=jct_s,
        slowdown=np.where(finished, slowdown, np.maximum(slowdown, 1.0)),
        throughput_loss=1.0 - done_share,
        tier_share=np.array([job.spec.contract.flex.share for job in jobs], dtype=np.float64),
        deadline_s=deadline_s,
        deadline_missed=np.where(finished, end_s > deadline_s, end_s >= deadline_s),
        can_wait=np.array([can_wait(job.spec) for job in jobs], dtype=np.bool_),
    )


def measure(outcome: Outcome) -> Measures:
    """All figures of one policy's outcome."""
    figures = job_figures(outcome)
    trace, spans_s = outcome.power, outcome.spans_s
    work_gpu_h = float(figures.gpus @ outcome.jobs.done_s) / S_PER_H
    return Measures(
        **_electricity(outcome, work_gpu_h),
        **_use_of_time(outcome, work_gpu_h),
        **_completion(outcome, figures),
        **_promises(figures),
        budget_excess_caps_ws=float(trace.excess_caps_w @ spans_s),
        budget_excess_draw_1s_ws=float(trace.excess_draw_w @ spans_s),
        preemptions=int(outcome.jobs.stops.sum()),
        groups=_groups(outcome, figures),
    )


def known_sum(amounts: Floats, factors: Floats) -> float:
    """Sum of amount x factor over the rows whose factor is known (not NaN); NaN where none is."""
    known = np.isfinite(factors)
    return float(amounts[known] @ factors[known]) if known.any() else float("nan")


def _electricity(outcome: Outcome, work_gpu_h: float) -> dict[str, Any]:
    trace = outcome.power
    site_kwh = trace.meter_w * outcome.spans_s / JOULES_PER_KWH
    gpu_kwh = trace.busy_draw_w * outcome.spans_s / JOULES_PER_KWH
    energy_kwh, gpu_energy_kwh = float(site_kwh.sum()), float(gpu_kwh.sum())
    cost = known_sum(site_kwh / 1e3, trace.price_per_mwh)
    gpu_cost = known_sum(gpu_kwh / 1e3, trace.price_per_mwh)
    return {
        "cost": cost,
        "gpu_cost": gpu_cost,
        "energy_kwh": energy_kwh,
        "gpu_energy_kwh": gpu_energy_kwh,
        "co2_kg": known_sum(site_kwh / 1e3, trace.carbon_g_per_kwh),
        "gpu_co2_kg": known_sum(gpu_kwh / 1e3, trace.carbon_g_per_kwh),
        "unpriced_kwh": float(site_kwh[~np.isfinite(trace.price_per_mwh)].sum()),
        "unknown_carbon_kwh": float(site_kwh[~np.isfinite(trace.carbon_g_per_kwh)].sum()),
        "work_gpu_h": work_gpu_h,
        "cost_per_gpu_hour_of_work": _ratio(cost, work_gpu_h),
        "gpu_cost_per_gpu_hour_of_work": _ratio(gpu_cost, work_gpu_h),
        "useful_work_per_kwh": _ratio(work_gpu_h, energy_kwh),
        "useful_work_per_gpu_kwh": _ratio(work_gpu_h, gpu_energy_kwh),
    }


def _use_of_time(outcome: Outcome, work_gpu_h: float) -> dict[str, Any]:
    trace, spans_s = outcome.power, outcome.spans_s
    wanted = (trace.busy_gpus > 0) | (trace.waiting_jobs > 0)
    wanted_s = float(spans_s[wanted].sum())
    busy_gpu_s = float(trace.busy_gpus @ spans_s)
    return {
        "gpu_utilization": _ratio(busy_gpu_s, wanted_s * len(outcome.scenario.cluster.boards)),
        "work_per_h": _ratio(work_gpu_h, wanted_s / S_PER_H),
        "simulated_h": float(spans_s.sum()) / S_PER_H,
        "limited_h": float(spans_s[np.isfinite(trace.limit_w)].sum()) / S_PER_H,
    }


def _completion(outcome: Outcome, figures: JobFigures) -> dict[str, Any]:
    jobs = outcome.scenario.jobs
    names = tuple(job.id for job, done in zip(jobs, figures.finished.tolist(), strict=True) if not done)
    end_s = figures.submitted_s + figures.jct_s
    return {
        "jobs": len(jobs),
        "unfinished": len(names),
        "unfinished_jobs": names,
        "makespan_s": float(end_s.max()) if len(jobs) else float("nan"),
        "mean_jct_s": _mean(figures.jct_s),
        "p50_jct_s": _percentile(figures.jct_s, 50),
        "p95_jct_s": _percentile(figures.jct_s, 95),
        "p99_jct_s": _percentile(figures.jct_s, 99),
        "mean_slowdown": _mean(figures.slowdown),
        "p95_slowdown": _percentile(figures.slowdown, 95),
        "p99_slowdown": _percentile(figures.slowdown, 99),
    }


def _promises(figures: JobFigures) -> dict[str, Any]:
    due = np.isfinite(figures.deadline_s)
    excess = figures.throughput_loss - figures.tier_share
    beyond_tolerance = figures.broken(BELIEF_TOLERANCE_SHARE + ROUNDING_SHARE)
    return {
        "deadlines": int(due.sum()),
        "deadlines_missed": int(figures.deadline_missed.sum()),
        "deadlines_open": int((due & ~figures.finished & ~figures.deadline_missed).sum()),
        "contracts_broken": int(figures.broken(ROUNDING_SHARE).sum()),
        "contracts_broken_beyond_tolerance": int(beyond_tolerance.sum()),
        "max_excess_throughput_loss": float(excess.max(initial=0.0)),
    }


def _groups(outcome: Outcome, figures: JobFigures) -> dict[str, GroupMeasures]:
    tiers = np.array([job.spec.contract.flex.value for job in outcome.scenario.jobs], dtype=np.str_)
    rows: dict[str, Bools] = {flex.value: tiers == flex.value for flex in Flex}
    rows |= {CANNOT_WAIT: ~figures.can_wait, CAN_WAIT: figures.can_wait}
    return {name: _group(figures, inside) for name, inside in rows.items()}


def _group(figures: JobFigures, inside: Bools) -> GroupMeasures:
    loss = figures.throughput_loss[inside]
    return GroupMeasures(
        jobs=int(inside.sum()),
        mean_jct_s=_mean(figures.jct_s[inside]),
        mean_slowdown=_mean(figures.slowdown[inside]),
        mean_throughput_loss=_mean(loss),
        max_throughput_loss=float(loss.max()) if len(loss) else float("nan"),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _percentile(values: Floats, percent: float) -> float:
    """Linear between the two nearest ranks."""
    return float(np.percentile(values, percent)) if len(values) else float("nan")

"""A job with what the decision needs beside it: curve, contract floor, value, rules. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from power.curve import CapCurve
from power.device import GpuInfo
from scheduler.config import Config
from scheduler.learning import CurveBook
from scheduler.ledger import Ledger, allowed_floor_share
from scheduler.model import Flex, Job, JobSpec, JobState
from scheduler.policy.price_rule import PriceRule, effect
from scheduler.snapshot import JobView
from scheduler.stop_costs import StopFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """What is known of jobs beyond what people asked for."""

    config: Config
    curves: CurveBook
    gpus: Mapping[str, GpuInfo]  # by UUID
    rules: Sequence[PriceRule]  # in force now
    gated: frozenset[str]  # job ids that may not be considered
    frozen_runs: frozenset[str]
    ledgers: Mapping[str, Ledger]
    work_done_s: Mapping[str, float]  # grid seconds at full speed, by job
    now: datetime
    stops: Mapping[str, StopFigures] = field(default_factory=dict)  # by job; not in it: the config's guess


def job_views(jobs: Sequence[Job], facts: JobFacts) -> tuple[JobView, ...]:
    """One view per job, in the same order."""
    return tuple(_view(job, facts) for job in jobs)


def _view(job: Job, facts: JobFacts) -> JobView:
    spec, config = job.spec, facts.config
    cap_share, pausing_rule = effect(facts.rules, spec)
    stop = facts.stops.get(job.id) or StopFigures(config.control.restart_cost_s)
    return JobView(
        job=job,
        curve=_curve(job, facts),
        floor_share=_floor(job, facts),
        value_per_gpu_h=config.priorities.get(spec.priority, config.priorities["standard"]),
        priority_rank=_rank(spec, config),
        restart_cost_s=stop.restart_cost_s,
        lost_work_s=stop.lost_work_s,
        frozen=job.run is not None and job.run.id in facts.frozen_runs,
        remaining_s=_remaining_s(job, facts),
        rule_cap_share=cap_share,
        rule_pause=pausing_rule if spec.contract.pausable else None,
        eligible=job.id not in facts.gated and job.state in (JobState.QUEUED, JobState.PAUSED),
    )


def _curve(job: Job, facts: JobFacts) -> CapCurve:
    """What is believed of the job. One that gives nothing away may demand everything until it is known."""
    board = _board(job, facts.gpus)
    curve = facts.curves.curve(board, job.spec.workload)
    if job.spec.contract.flex is Flex.NONE and not facts.curves.known(board, job.spec.workload):
        return replace(curve, demand_w=curve.tdp_w)
    return curve


def _board(job: Job, gpus: Mapping[str, GpuInfo]) -> GpuInfo:
    """The board it runs on, else the first it could run on."""
    if job.run is not None and job.run.gpu_uuids[0] in gpus:
        return gpus[job.run.gpu_uuids[0]]
    wanted = (job.spec.gpu_type or "").casefold()
    return next((g for g in gpus.values() if wanted in g.model.casefold()), next(iter(gpus.values())))


def _floor(job: Job, facts: JobFacts) -> float:
    ledger = facts.ledgers.get(job.id, Ledger())
    guard = facts.config.control.contract_guard_share
    return allowed_floor_share(job.spec.contract.flex, ledger, guard, facts.now)


def _rank(spec: JobSpec, config: Config) -> int:
    by_value = sorted(config.priorities, key=lambda name: config.priorities[name])
    return by_value.index(spec.priority) if spec.priority in by_value else by_value.index("standard")


def _remaining_s(job: Job, facts: JobFacts) -> float | None:
    if job.spec.estimate_s is None:
        return None
    return max(0.0, job.spec.estimate_s - facts.work_done_s.get(job.id, 0.0))

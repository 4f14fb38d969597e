"""From one cycle's values to the state that everybody may read. Pure."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from scheduler.decision import Certificate, Decision, JobCap
from scheduler.decision_tables import CapTable
from scheduler.ledger import Ledger
from scheduler.meter import Meter
from scheduler.model import Job, JobState
from scheduler.observation import Observation
from scheduler.placing.price_gate import stop_cost
from scheduler.plan_state import certificate_state
from scheduler.plant import Plant
from scheduler.published import (
    DomainState,
    GpuState,
    JobPowerState,
    PublishedState,
)
from scheduler.snapshot import GpuView, Snapshot
from scheduler.windows import Plan
from telemetry.sample import GpuSample


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What one cycle knows at its end."""

    seen: Observation
    snapshot: Snapshot
    kept: Decision
    meter: Meter
    certificates: Sequence[tuple[Certificate, datetime]]  # the newest of each step
    plan: Plan | None
    counters: dict[str, float]
    capd: dict[str, object]


def published_state(plant: Plant, parts: Publication) -> PublishedState:
    """The whole state. Real time is read here alone: it says how fresh the file is."""
    seen = parts.seen
    return PublishedState(
        at=seen.now.isoformat(),
        real_at=datetime.now(UTC).isoformat(),
        cycle=seen.cycle,
        controller_pid=os.getpid(),
        backend=plant.backend,
        clock_rate=plant.clock.rate,
        currency=plant.config.site.currency,
        degraded=list(seen.degraded),
        price_per_mwh=seen.price.value_now,
        price_source=seen.price.source,
        price_age_s=seen.price.age_s,
        carbon_g_per_kwh=seen.carbon.value_now,
        carbon_source=seen.carbon.source,
        carbon_age_s=seen.carbon.age_s,
        active_rules=[rule.name for rule in seen.active_rules],
        domains=_domains(parts.snapshot),
        gpus=[_gpu(seen, parts.snapshot, view) for view in parts.snapshot.gpus],
        jobs=_jobs(parts),
        certificates=[certificate_state(c, at) for c, at in parts.certificates],
        plan_age_s=None if parts.plan is None else (seen.now - parts.plan.made_at).total_seconds(),
        plan_jobs=None if parts.plan is None else len(parts.plan.jobs),
        capd=parts.capd,
        counters=parts.counters,
    )


def _domains(snapshot: Snapshot) -> list[DomainState]:
    """In the order of the configuration. A draw is known where every GPU under the domain says it."""
    tree, index, gpus = snapshot.tree, snapshot.tree.index, snapshot.gpus
    counted_w = index.metered_w(index.under(gpus.leaf, gpus.accounted_w))
    drawn_w = index.metered_w(index.under(gpus.leaf, np.nan_to_num(gpus.draw_w)))
    telling = index.under(gpus.leaf, np.isfinite(gpus.draw_w).astype(np.float64))
    known = telling == index.under(index.leaf, np.ones(len(index.leaf)))
    return [
        DomainState(
            name=domain.name,
            parent=domain.parent,
            limit_w=_finite(snapshot.limits_w[domain.name]),
            base_load_w=float(index.base_under_w[at]),
            accounted_w=float(counted_w[at]),
            draw_w=float(drawn_w[at]) if known[at] else None,
        )
        for domain, at in ((domain, index.column[domain.name]) for domain in tree.domains.values())
    ]


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value


def _gpu(seen: Observation, snapshot: Snapshot, view: GpuView) -> GpuState:
    sample: GpuSample = seen.samples[view.uuid]
    reading, holder = sample.reading, seen.holder(view.uuid)
    return GpuState(
        uuid=view.uuid,
        index=sample.info.index,
        model=view.model,
        node=snapshot.tree.path(view.uuid)[0],
        power_w=view.draw_w,
        cap_w=view.confirmed_cap_w,
        min_cap_w=view.min_cap_w,
        max_cap_w=view.max_cap_w,
        accounted_w=view.accounted_w,
        utilization=reading.utilization if reading else None,
        memory_used_bytes=reading.memory_used_bytes if reading else None,
        temperature_c=reading.temperature_c if reading else None,
        sm_clock_hz=reading.sm_clock_hz if reading else None,
        throttle_reasons=list(reading.throttle_reasons) if reading else [],
        pids=list(reading.pids) if reading and reading.pids is not None else None,
        job_id=holder.id if holder else None,
        run_id=view.run_id,
        settable=view.settable,
        healthy=view.healthy,
        cordoned=view.cordoned,
        foreign=view.foreign,
        sample_age_s=max(0.0, seen.monotonic_s - sample.monotonic_s),
        error=sample.error,
    )


def _jobs(parts: Publication) -> list[JobPowerState]:
    caps = CapTable.for_jobs(parts.snapshot.jobs, parts.kept.caps)
    entry_of = dict(zip(caps.job.tolist(), range(len(caps)), strict=True))
    row_of, costs = parts.snapshot.jobs.row_of, stop_cost(parts.snapshot.jobs)
    states = []
    for job in parts.seen.jobs:
        if job.run is not None and job.state is not JobState.STARTING:
            row = row_of[job.id]
            entry = entry_of.get(row)
            cap = None if entry is None else caps[entry]
            states.append(_job(job, row, cap, float(costs[row]), parts))
    return states


def _job(job: Job, row: int, cap: JobCap | None, cost: float, parts: Publication) -> JobPowerState:
    assert job.run is not None
    snapshot, seen = parts.snapshot, parts.seen
    held = snapshot.gpu_rows(row)
    caps_w, draws_w = snapshot.gpus.confirmed_cap_w[held], snapshot.gpus.draw_w[held]
    cap_w = float(np.nanmin(caps_w)) if np.isfinite(caps_w).any() else job.run.cap_w
    status = seen.statuses.get(job.run.id)
    progress = status.progress if status else None
    ledger = parts.meter.ledgers().get(job.id, Ledger())
    view = snapshot.jobs[row]
    return JobPowerState(
        job_id=job.id,
        run_id=job.run.id,
        cap_w=cap_w,
        draw_w=float(draws_w.sum()) if np.isfinite(draws_w).all() else None,
        throughput_share=snapshot.jobs.curves.curves[snapshot.jobs.curve[row]].throughput(cap_w),
        samples_per_s=progress.samples_per_s if progress else None,
        step=progress.step if progress else None,
        total_steps=progress.total_steps if progress else None,
        promised_share=job.spec.contract.flex.share,
        used_share=ledger.used_share,
        stop_lost_s=view.restart_cost_s + view.lost_work_s,
        stop_cost=cost,
        frozen=seen.frozen(job.run.id),
        condition=str(cap.condition if cap else job.condition),
        cause=cap.cause if cap else job.condition_cause,
    )

"""From one cycle's values to the state that everybody may read. Pure."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from scheduler.decision import Certificate, Decision, JobCap
from scheduler.ledger import Ledger
from scheduler.meter import Meter
from scheduler.model import Job, JobState
from scheduler.observation import Observation
from scheduler.plant import Plant
from scheduler.published import (
    CertificateState,
    DomainState,
    GpuState,
    JobPowerState,
    PublishedState,
)
from scheduler.snapshot import GpuView, Snapshot
from telemetry.sample import GpuSample


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What one cycle knows at its end."""

    seen: Observation
    snapshot: Snapshot
    kept: Decision
    meter: Meter
    certificates: Sequence[tuple[Certificate, datetime]]  # the newest of each step
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
        certificates=[_certificate(c, at) for c, at in parts.certificates],
        capd=parts.capd,
        counters=parts.counters,
    )


def _domains(snapshot: Snapshot) -> list[DomainState]:
    tree = snapshot.tree
    counted = tree.usage_w({g.uuid: g.accounted_w for g in snapshot.gpus})
    drawn = {g.uuid: g.draw_w for g in snapshot.gpus}
    states: list[DomainState] = []
    for domain in tree.domains.values():
        limit_w = snapshot.limits_w[domain.name]
        draws = [drawn.get(uuid) for uuid in tree.gpus_under(domain.name)]
        known = [w for w in draws if w is not None]
        states.append(
            DomainState(
                name=domain.name,
                parent=domain.parent,
                limit_w=None if math.isinf(limit_w) else limit_w,
                base_load_w=tree.base_load_under_w(domain.name),
                accounted_w=counted[domain.name],
                draw_w=sum(known) + tree.base_load_under_w(domain.name) if len(known) == len(draws) else None,
            )
        )
    return states


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
    caps = {cap.job_id: cap for cap in parts.kept.caps}
    return [
        _job(job, caps.get(job.id), parts)
        for job in parts.seen.jobs
        if job.run is not None and job.state is not JobState.STARTING
    ]


def _job(job: Job, cap: JobCap | None, parts: Publication) -> JobPowerState:
    assert job.run is not None
    snapshot, seen = parts.snapshot, parts.seen
    gpus = [g for g in snapshot.gpus if g.uuid in job.run.gpu_uuids]
    caps_w = [g.confirmed_cap_w for g in gpus if g.confirmed_cap_w is not None]
    cap_w = min(caps_w, default=job.run.cap_w)
    draws = [g.draw_w for g in gpus]
    status = seen.statuses.get(job.run.id)
    progress = status.progress if status else None
    ledger = parts.meter.ledgers().get(job.id, Ledger())
    return JobPowerState(
        job_id=job.id,
        run_id=job.run.id,
        cap_w=cap_w,
        draw_w=sum(w for w in draws if w is not None) if all(w is not None for w in draws) else None,
        throughput_share=snapshot.job(job.id).curve.throughput(cap_w),
        samples_per_s=progress.samples_per_s if progress else None,
        step=progress.step if progress else None,
        total_steps=progress.total_steps if progress else None,
        promised_share=job.spec.contract.flex.share,
        used_share=ledger.used_share,
        frozen=seen.frozen(job.run.id),
        condition=str(cap.condition if cap else job.condition),
        cause=cap.cause if cap else job.condition_cause,
    )


def _certificate(certificate: Certificate, at: datetime) -> CertificateState:
    return CertificateState(
        step=certificate.step,
        value=certificate.value,
        bound=certificate.bound,
        gap=certificate.gap,
        solve_s=certificate.solve_s,
        fallback=certificate.fallback,
        at=at.isoformat(),
    )

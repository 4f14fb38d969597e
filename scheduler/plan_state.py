"""The current plan as everybody may read it: one JSON file, written when there is a new one.

Beside the published state and not in it: a plan changes every few minutes, the state every second.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path

from typing_extensions import TypedDict  # pydantic cannot read the one in typing before Python 3.12

from scheduler.decision import Certificate
from scheduler.published import CertificateState
from scheduler.snapshot import Snapshot
from scheduler.windows import Plan, PlannedJob, ShadowPrice


class PlanSlotState(TypedDict):
    start: str
    end: str
    price_per_mwh: float | None  # as published or expected
    price_high_per_mwh: float | None  # exceeded in one case out of ten
    gpu_h: float  # money that one more GPU-hour would be worth
    watt_h: dict[str, float]  # money that one more watt for an hour would be worth, by domain


class PlanWindowState(TypedDict):
    start: str
    end: str
    share: float  # of the time from start to end in which the job runs


class PlannedJobState(TypedDict):
    job_id: str
    start: str | None
    windows: list[PlanWindowState]
    cap_w: float | None  # of each GPU
    expected_cost: float  # energy and carbon of all that remains of it, as planned
    cost_now: float  # the same work started now and run through


class PlanState(TypedDict):
    made_at: str  # grid time, RFC 3339
    certificate: CertificateState
    slots: list[PlanSlotState]
    jobs: list[PlannedJobState]


def plan_state(plan: Plan, snapshot: Snapshot) -> PlanState:
    """`snapshot` is the moment's: its prices stand beside the slots, its time is that of the certificate."""
    return PlanState(
        made_at=plan.made_at.isoformat(),
        certificate=certificate_state(plan.certificate, snapshot.now),
        slots=[_slot(slot, snapshot) for slot in plan.shadow],
        jobs=[_job(job_id, planned) for job_id, planned in plan.jobs.items()],
    )


def certificate_state(certificate: Certificate, at: datetime) -> CertificateState:
    """Plain JSON: a bound that nobody knows is None."""
    return CertificateState(
        step=certificate.step,
        value=certificate.value,
        bound=certificate.bound if math.isfinite(certificate.bound) else None,
        gap=certificate.gap,
        solve_s=certificate.solve_s,
        fallback=certificate.fallback,
        scope=certificate.scope,
        at=at.isoformat(),
    )


def read_plan(path: Path) -> PlanState | None:
    """The newest plan, or None before the first."""
    try:
        state: PlanState = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return state


def _slot(slot: ShadowPrice, snapshot: Snapshot) -> PlanSlotState:
    outlook = snapshot.horizon.prices
    expected = outlook.expected.at(slot.start)
    return PlanSlotState(
        start=slot.start.isoformat(),
        end=slot.end.isoformat(),
        price_per_mwh=snapshot.prices.at(slot.start) if expected is None else expected,
        price_high_per_mwh=outlook.high.at(slot.start),
        gpu_h=slot.gpu_h,
        watt_h=dict(slot.watt_h),
    )


def _job(job_id: str, planned: PlannedJob) -> PlannedJobState:
    return PlannedJobState(
        job_id=job_id,
        start=None if planned.planned_start is None else planned.planned_start.isoformat(),
        windows=[
            PlanWindowState(start=w.start.isoformat(), end=w.end.isoformat(), share=w.share)
            for w in planned.windows
        ],
        cap_w=planned.cap_w,
        expected_cost=planned.expected_cost,
        cost_now=planned.cost_now,
    )

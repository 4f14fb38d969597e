"""What a plan says: when each deferrable job should run, what that costs, and what GPUs and watts are worth.

Values only; `plan.py` computes them, `place.py` obeys them through `plan_hold`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from scheduler.decision import Certificate
from scheduler.model import JobState
from scheduler.snapshot import JobView, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The job runs for `share` (0..1] of this half-open slot."""

    start: datetime
    end: datetime
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """Windows in order of time. Costs are energy and carbon money for all that remains of the job."""

    windows: tuple[Window, ...]
    expected_cost: float
    cost_now: float  # the same work, started now and run through

    @property
    def planned_start(self) -> datetime | None:
        return self.windows[0].start if self.windows else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPrice:
    """What one more GPU-hour, and one more watt for an hour, would be worth in this slot."""

    start: datetime
    end: datetime
    price_per_mwh: float
    gpu_h: float
    watt_h: Mapping[str, float] = field(default_factory=dict)  # by domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A schedule for deferrable jobs, as made at `made_at`."""

    made_at: datetime
    jobs: Mapping[str, PlannedJob]
    shadow: tuple[ShadowPrice, ...]
    certificate: Certificate


def plan_hold(view: JobView, snapshot: Snapshot, plan: Plan) -> str | None:
    """Why a job that has not started should wait for its cheap window, with figures; None = it should not.

    Only a strictly cheaper window holds a job back: a late window for lack of GPUs or watts does not.
    """
    planned = plan.jobs.get(view.job.id)
    if planned is None or view.job.state not in (JobState.QUEUED, JobState.PAUSED):
        return None
    later = next((w for w in planned.windows if w.end > snapshot.now), None)
    if later is None or later.start <= snapshot.now:
        return None
    then, now = snapshot.prices.at(later.start), snapshot.price_per_mwh
    saved = planned.cost_now - planned.expected_cost
    if then is None or now is None or then >= now or saved <= 0:
        return None
    return (
        f"waits for {then:.2f}/MWh at {later.start:%Y-%m-%d %H:%M} UTC instead of {now:.2f}/MWh now;"
        f" that saves {saved:.4f}"
    )

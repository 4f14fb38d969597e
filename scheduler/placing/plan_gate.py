"""What the plan keeps back: jobs whose cheap window is yet to come. In columns, for a whole queue at once.

A strictly cheaper window holds a job back, and so does a later one where the plan had to keep the site's
draw from rising too fast or above the month's peak. A late window for lack of GPUs or watts does not: where
they turn out to be there, the job runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.snapshot import Snapshot
from scheduler.windows import Plan


@dataclass(frozen=True)
class PlanColumns:
    """A plan by row: windows sorted by job and time, seconds since the epoch; costs per job."""

    row_of: dict[str, int]
    job: Ints
    start_s: Floats
    end_s: Floats
    expected_cost: Floats
    cost_now: Floats

    @classmethod
    def of(cls, plan: Plan) -> PlanColumns:
        jobs = list(plan.jobs.values())
        spans = [
            (row, window.start.timestamp(), window.end.timestamp())
            for row, planned in enumerate(jobs)
            for window in planned.windows
        ]
        columns = np.array(spans, dtype=np.float64).reshape(-1, 3).T
        return cls(
            row_of={job_id: row for row, job_id in enumerate(plan.jobs)},
            job=columns[0].astype(np.int64),
            start_s=columns[1],
            end_s=columns[2],
            expected_cost=np.array([planned.expected_cost for planned in jobs], dtype=np.float64),
            cost_now=np.array([planned.cost_now for planned in jobs], dtype=np.float64),
        )

    def next_start_s(self, now_s: float) -> Floats:
        """Per planned job: the start of its first window that has not ended; NaN if there is none."""
        starts = np.full(len(self.expected_cost), np.nan)
        ahead = np.nonzero(self.end_s > now_s)[0][::-1]
        starts[self.job[ahead]] = self.start_s[ahead]  # the earliest is written last
        return starts


class _Same:
    """A plan by identity: it is made anew, never changed."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __hash__(self) -> int:
        return id(self.plan)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.plan is self.plan


@lru_cache(maxsize=2)
def _columns(same: _Same) -> PlanColumns:
    return PlanColumns.of(same.plan)


@dataclass(frozen=True)
class PlanGate:
    """Per entry of `job` (rows of the job table): kept back for a cheaper window, or meant to run now."""

    held: Bools
    planned_now: Bools
    reasons: dict[int, str]  # by job row, of those kept back


def plan_gate(snapshot: Snapshot, plan: Plan | None, job: Ints) -> PlanGate:
    """Nobody is kept back without a plan or a price."""
    nobody = np.zeros(len(job), dtype=bool)
    if plan is None or not plan.jobs:
        return PlanGate(nobody, nobody, {})
    columns, now_s = _columns(_Same(plan)), snapshot.now.timestamp()
    ids = snapshot.jobs.ids
    row = np.array([columns.row_of.get(ids[r], -1) for r in job.tolist()], dtype=np.int64)
    known = row >= 0
    starts_s = np.where(known, np.append(columns.next_start_s(now_s), np.nan)[row], np.nan)
    saved = np.append(columns.cost_now - columns.expected_cost, 0.0)[row]
    cheaper = (saved > 0) & (_prices_then(snapshot, starts_s) < _price(snapshot))
    steered = starts_s > _steered_from_s(plan, now_s)
    later = starts_s > now_s
    held, other = later & cheaper, later & steered & ~cheaper
    reasons = _reasons(snapshot, columns, job[held], row[held], starts_s[held])
    return PlanGate(
        held=np.asarray(held | other, dtype=bool),
        planned_now=np.asarray(starts_s <= now_s, dtype=bool),
        reasons=reasons | _put_off(job[other], starts_s[other]),
    )


def _steered_from_s(plan: Plan, now_s: float) -> float:
    """When the first slot yet to end begins in which the plan held the site's draw down; infinite: none."""
    ahead = (slot for slot in plan.shadow if slot.end.timestamp() > now_s)
    held_down = (slot.start.timestamp() for slot in ahead if max(slot.up_w, slot.peak_w) > 0)
    return next(held_down, np.inf)


def _put_off(job: Ints, starts_s: Floats) -> dict[int, str]:
    return {
        row: f"waits until {datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC: sooner, the site's draw"
        " would rise too fast or above the month's peak"
        for row, moment in zip(job.tolist(), starts_s.tolist(), strict=True)
    }


def _price(snapshot: Snapshot) -> float:
    return -np.inf if snapshot.price_per_mwh is None else snapshot.price_per_mwh


def _prices_then(snapshot: Snapshot, starts_s: Floats) -> Floats:
    """The published or expected price at each moment; infinite where none is known."""
    moments, which = np.unique(starts_s, return_inverse=True)
    found = [
        None if np.isnan(moment) else _price_at(snapshot, datetime.fromtimestamp(moment, UTC))
        for moment in moments.tolist()
    ]
    prices = np.array([np.inf if price is None else price for price in found], dtype=np.float64)
    return np.asarray(prices[which.ravel()], dtype=np.float64)


def _price_at(snapshot: Snapshot, when: datetime) -> float | None:
    published = snapshot.prices.at(when)
    return snapshot.horizon.prices.expected.at(when) if published is None else published


def _reasons(
    snapshot: Snapshot, columns: PlanColumns, job: Ints, row: Ints, starts_s: Floats
) -> dict[int, str]:
    price = snapshot.price_per_mwh
    when = {
        moment: f"{_price_at(snapshot, at):.2f}/MWh at {at:%Y-%m-%d %H:%M} UTC instead of {price:.2f}/MWh now"
        for moment in set(starts_s.tolist())
        for at in (datetime.fromtimestamp(moment, UTC),)
    }
    costs = zip(columns.cost_now[row].tolist(), columns.expected_cost[row].tolist(), strict=True)
    return {
        r: f"waits for {when[moment]}; that saves {now - then:.4f}:"
        f" starting now would cost {now:.4f}, then {then:.4f}"
        for r, moment, (now, then) in zip(job.tolist(), starts_s.tolist(), costs, strict=True)
    }

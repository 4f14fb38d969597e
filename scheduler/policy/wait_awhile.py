"""Runs interrupted for the cheapest hours before each deadline; everything else by EASY backfill.

After Wiesner et al., `Let's Wait Awhile: How Temporal Workload Shifting Can Reduce Carbon Emissions in the
Cloud` (Middleware 2021), its interruptible strategy, with prices in place of carbon: of the slots between now
and the deadline a job takes the cheapest, as many as it needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from power.arrays import Bools, Floats
from power.series import Series, Slot
from scheduler.decision import Decision, Preempt
from scheduler.model import JobState
from scheduler.policy.even_caps import even_caps
from scheduler.policy.queueing import easy, queue
from scheduler.snapshot import Snapshot


@dataclass(frozen=True)
class WaitAwhile:
    """Pausable jobs of known length with a deadline run in their cheapest slots and are stopped in between.

    It knows the published prices and, behind them, the forecast in the snapshot; hours that neither reaches
    count at the mean of those known. Once the time left is all needed, a job runs through; so does one that
    has outlived its owner's guess. A run lasts at least a slot; one that may be stopped only for so long
    (`max_pause_s`), or may not be requeued, is not interrupted.
    """

    name: str = "wait_awhile"
    looks_every_s: ClassVar[float] = 900.0

    def place(self, snapshot: Snapshot, *, time_limit_s: float) -> Decision:
        jobs, curve = snapshot.jobs, _curve(snapshot)
        slot = curve.slot_at(snapshot.now)
        if slot is None:
            return easy(snapshot, queue(snapshot))
        now_s, left_s = snapshot.now.timestamp(), jobs.floats("remaining_s")
        waits = shiftable(snapshot) & (left_s <= cheaper_s(snapshot, slot))
        # Asked again only so much later, and a stop and a start take time too: then it runs through.
        spare_s = jobs.floats("deadline_s") - now_s - left_s - jobs.floats("restart_cost_s")
        waits &= spare_s > self.looks_every_s
        starts = easy(snapshot, queue(snapshot, waits))
        least_s = max(curve.resolution_s() or 0.0, snapshot.min_run_s)
        settled = now_s - jobs.floats("since_s") >= least_s
        free_to_stop = jobs.bools("requeue") & np.isnan(jobs.floats("max_pause_s"))
        running = jobs.in_state(JobState.RUNNING) & ~jobs.bools("frozen")
        stops = np.nonzero(waits & running & settled & free_to_stop)[0].tolist()
        cause = f"the price is {slot.value:.2f}/MWh, and enough cheaper hours are left before its deadline"
        preempts = tuple(Preempt(job_id=jobs.ids[row], cause=cause) for row in stops)
        return Decision(starts=starts.starts, preempts=preempts)

    def caps(self, snapshot: Snapshot) -> Decision:
        return even_caps(snapshot)


def shiftable(snapshot: Snapshot) -> Bools:
    """Per job: may be shifted, has a deadline, and its owner's guess says that work is left."""
    jobs = snapshot.jobs
    known = np.isfinite(jobs.floats("deadline_s")) & (jobs.floats("remaining_s") > 0)
    rows: Bools = jobs.bools("pausable") & known
    return rows


def cheaper_s(snapshot: Snapshot, present: Slot) -> Floats:
    """Per job: seconds before its deadline that are cheaper than the present slot (NaN: no deadline).

    The present slot is among the cheapest that a job needs if these are fewer than it needs.
    """
    now, known = snapshot.now, [slot for slot in _curve(snapshot) if slot.end > snapshot.now]
    starts_s = np.array([max(0.0, (slot.start - now).total_seconds()) for slot in known])
    ends_s = np.array([(slot.end - now).total_seconds() for slot in known])
    per_mwh = np.array([slot.value for slot in known])
    lengths_s = ends_s - starts_s
    counted_s = np.where(per_mwh < present.value, lengths_s, 0.0)
    edges_s = np.stack([starts_s, ends_s], axis=1).ravel()
    so_far_s = np.cumsum(np.stack([np.zeros(len(known)), counted_s], axis=1).ravel())
    due_s = snapshot.jobs.floats("deadline_s") - now.timestamp()
    cheaper: Floats = np.interp(due_s, edges_s, so_far_s)
    if float(np.average(per_mwh, weights=lengths_s)) < present.value:
        cheaper = cheaper + np.maximum(due_s - ends_s[-1], 0.0)
    return cheaper


def _curve(snapshot: Snapshot) -> Series:
    """What is published, and the forecast behind it where the snapshot has one."""
    expected = snapshot.horizon.prices.expected
    return expected if expected.slots else snapshot.prices

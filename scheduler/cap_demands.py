"""The jobs whose caps can be set now, as demands for watts, and what is left for them. Columns; pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.capping import CapDemands, Holdings
from power.curve_table import CurveTable
from power.tree_index import OUTSIDE
from scheduler.model import JobState
from scheduler.snapshot import GpuKind, Snapshot
from scheduler.worth import FULL_SHARE, curve_on

_LIVE = (JobState.STARTING, JobState.RUNNING, JobState.PAUSING, JobState.PAUSED, JobState.STOPPING)


@dataclass(frozen=True)
class Steered:
    """Jobs with at least one GPU whose limit can be set: `row` in the job table, `demands` in the same order.

    A job's floor and ceiling come from contract and rule while it works, from the boards while it rests.
    """

    snapshot: Snapshot
    row: Ints
    gpus: Bools  # of the GPU table: steered
    demands: CapDemands

    @cached_property
    def available_w(self) -> Floats:
        """Watts per domain for the steered GPUs: the limit less base loads and every other GPU."""
        index, gpus = self.snapshot.tree.index, self.snapshot.gpus
        others_w = np.where(self.gpus, 0.0, gpus.accounted_w)
        available: Floats = self.snapshot.domain_gpu_w - index.under(gpus.leaf, others_w)
        return available

    @cached_property
    def at_work(self) -> Bools:
        """Running or starting, and not frozen."""
        jobs = self.snapshot.jobs
        busy = jobs.in_state(JobState.RUNNING, JobState.STARTING) & ~jobs.bools("frozen")
        rows: Bools = busy[self.row]
        return rows


def steered(snapshot: Snapshot) -> Steered:
    """GPUs that are lost, foreign, or cannot be set stay reserved as accounted."""
    gpus, jobs = snapshot.gpus, snapshot.jobs
    live = np.append(jobs.in_state(*_LIVE) & (jobs.ints("run_gpus") > 0), False)  # the last: NOBODY's
    of_job = live[gpus.holder] & gpus.settable & gpus.healthy & (gpus.leaf != OUTSIDE)
    held = _Held.of(snapshot, of_job)
    curves, curve = held.curves(snapshot)
    floor_w, ceiling_w = _ranges_w(snapshot, held, curves, curve)
    row = held.row
    demands = CapDemands(
        curves=curves,
        curve=curve,
        floor_w=floor_w,
        ceiling_w=np.minimum(ceiling_w, held.lowest_top_w),
        value_per_gpu_h=jobs.floats("value_per_gpu_h")[row],
        price_per_mwh=np.full(len(row), snapshot.energy_price_per_mwh()),
        rank=jobs.ints("rank")[row],
        submitted_s=jobs.floats("submitted_s")[row],
        holdings=held.holdings,
    )
    return Steered(snapshot, row, of_job, demands)


@dataclass(frozen=True)
class _Held:
    """Steered GPUs by job: `row` in the job table, `holdings` in the order of `row`; watts per job."""

    row: Ints
    holdings: Holdings
    least_w: Floats  # the highest of its boards' least caps
    top_w: Floats  # the highest of its boards' top caps: at one cap, that board is held down most
    lowest_top_w: Floats

    @classmethod
    def of(cls, snapshot: Snapshot, of_job: Bools) -> _Held:
        gpus = snapshot.gpus
        found = np.nonzero(of_job)[0]
        holder, leaf, kind = gpus.holder[found], gpus.leaf[found], gpus.kind[found]
        # Neighbours in the table mostly share job, node and kind: one entry for each such stretch.
        same = (holder[1:] == holder[:-1]) & (leaf[1:] == leaf[:-1]) & (kind[1:] == kind[:-1])
        first = np.nonzero(np.append(True, ~same))[0][: len(found)]
        count = np.diff(np.append(first, len(found))).astype(np.float64)
        present = np.zeros(len(snapshot.jobs), dtype=bool)
        present[holder[first]] = True
        job = (np.cumsum(present) - 1)[holder[first]]
        row = np.nonzero(present)[0]
        least_w = np.array([k.min_cap_w for k in gpus.kinds], dtype=np.float64)[kind[first]]
        top_w = np.array([k.max_cap_w for k in gpus.kinds], dtype=np.float64)[kind[first]]
        most_least_w, most_top_w, lowest_top_w = (
            np.zeros(len(row)),
            np.zeros(len(row)),
            np.full(len(row), np.inf),
        )
        np.maximum.at(most_least_w, job, least_w)
        np.maximum.at(most_top_w, job, top_w)
        np.minimum.at(lowest_top_w, job, top_w)
        # A lost GPU sets the pace too, once it is back: its limit goes down with the others.
        lost = np.nonzero(np.append(present, False)[gpus.holder] & gpus.settable & ~gpus.healthy)[0]
        np.maximum.at(most_top_w, (np.cumsum(present) - 1)[gpus.holder[lost]], gpus.max_cap_w[lost])
        return cls(row, Holdings(job, leaf[first], count), most_least_w, most_top_w, lowest_top_w)

    def curves(self, snapshot: Snapshot) -> tuple[CurveTable, Ints]:
        """The jobs' curves on their boards: a curve made for another board is scaled, once for all alike."""
        jobs = snapshot.jobs
        table, curve = jobs.curves, jobs.curve[self.row]
        other = np.nonzero((table.tdp_w[curve] != self.top_w) | (table.min_cap_w[curve] != self.least_w))[0]
        if not len(other):
            return table, curve
        wanted = np.stack([curve[other].astype(np.float64), self.least_w[other], self.top_w[other]], axis=1)
        _, first, which = np.unique(wanted, axis=0, return_index=True, return_inverse=True)
        scaled = []
        for index in other[first].tolist():
            kind = GpuKind(model="", min_cap_w=float(self.least_w[index]), max_cap_w=float(self.top_w[index]))
            scaled.append(curve_on(jobs[int(self.row[index])], kind))
        curve = curve.copy()
        curve[other] = len(table.curves) + which.ravel()
        return CurveTable((*table.curves, *scaled)), curve


def _ranges_w(snapshot: Snapshot, held: _Held, curves: CurveTable, curve: Ints) -> tuple[Floats, Floats]:
    """(floor, ceiling) per GPU: by contract and rule at work, the board's least at rest."""
    jobs, row = snapshot.jobs, held.row
    floor_w = _whole_w(curves, curve, np.minimum(jobs.floats("floor_share")[row], FULL_SHARE))
    ceiling_w = curves.tdp_w[curve]
    rule = jobs.floats("rule_cap_share")[row]
    ruled = np.nonzero(~np.isnan(rule))[0]
    ceiling_w[ruled] = np.maximum(floor_w[ruled], _whole_w(curves, curve[ruled], rule[ruled]))
    resting = (jobs.bools("frozen") | jobs.in_state(JobState.PAUSING, JobState.PAUSED))[row]
    stopping = jobs.in_state(JobState.STOPPING)[row] & ~resting
    floor_w = np.where(resting | stopping, held.least_w, floor_w)
    ceiling_w = np.where(resting, held.least_w, ceiling_w)
    for index in np.nonzero(stopping)[0].tolist():
        caps_w = snapshot.gpus.confirmed_cap_w[snapshot.gpu_rows(int(row[index]))]
        ceiling_w[index] = np.max(caps_w, initial=held.least_w[index], where=~np.isnan(caps_w))
    return floor_w, ceiling_w


def _whole_w(curves: CurveTable, curve: Ints, share: Floats) -> Floats:
    """The least cap for a share of the speed, in whole watts where the board has them."""
    cap_w: Floats = np.minimum(np.ceil(curves.cap_for(curve, share) - 1e-6), curves.tdp_w[curve])
    return cap_w

"""A synthetic site that lives: sensors read anew, jobs end and arrive, decisions take effect.

It stands where the GPUs, the engine and the people are; the state that a decision starts from is the fleet's
columns, as in the daemon.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np

from benchmarks.cluster import NOW, PRICE_PER_MWH, Site, draws_w
from power.accounting import AccountingRules
from power.arrays import Floats, Ints
from power.device import GpuInfo
from power.readings import Processes, Readings
from scheduler.decision import Decision, JobCap, Refusal, Start
from scheduler.fleet import Fleet
from scheduler.model import Job, JobState, Run, WaitReason
from scheduler.snapshot import GpuView, JobView, Snapshot
from scheduler.verify import verify

RULES = AccountingRules()
SETTLING_S = 5.0


class World:
    """GPUs by row of the fleet; jobs by id."""

    def __init__(self, site: Site, *, seed: int) -> None:
        self.chance = np.random.default_rng(seed + 1)
        self.site = site
        self.fleet = Fleet(
            site.tree,
            [_info(row, gpu) for row, gpu in enumerate(site.gpus)],
            rules=RULES,
            settling_s=SETTLING_S,
        )
        self.jobs = {view.job.id: view for view in site.jobs}
        self._row_of = {uuid: row for row, uuid in enumerate(self.fleet.uuids)}
        self._cap_w = np.array([gpu.confirmed_cap_w or gpu.max_cap_w for gpu in site.gpus])
        self._idle_w = np.array([gpu.idle_w - RULES.idle_margin_w for gpu in site.gpus])
        self._demand_w = np.zeros(len(site.gpus))
        self._busy = np.zeros(len(site.gpus), dtype=bool)
        self._seconds = 0.0
        for view in site.jobs:
            self.fleet.put_job(view)
            if view.job.run is not None:
                self._load(view)
        self.look()

    # --- what the daemon would see --------------------------------------------------------------------------

    def look(self) -> None:
        """A second passes, and every sensor is read."""
        self._seconds += 1.0
        self.fleet.put_readings(self.readings())

    def readings(self) -> Readings:
        """All GPUs as they stand."""
        drawn_w = np.where(
            self._busy, draws_w(self._cap_w, np.maximum(self._demand_w, 1.0), self.chance), self._idle_w
        )
        return Readings(
            read=np.ones(len(drawn_w), dtype=bool),
            at_s=np.full(len(drawn_w), self._seconds),
            power_w=drawn_w,
            enforced_cap_w=self._cap_w.copy(),
            utilization=np.where(self._busy, 0.98, 0.0),
            processes=np.where(self._busy, Processes.SOME, Processes.NONE).astype(np.int64),
        )

    def snapshot(self) -> Snapshot:
        """The picture from stored state: accounting of all GPUs included."""
        return self.fleet.snapshot(
            monotonic_s=self._seconds,
            cycle=int(self._seconds),
            now=NOW + timedelta(seconds=self._seconds),
            limits_w=self.site.limits_w,
            price_per_mwh=PRICE_PER_MWH,
            carbon_g_per_kwh=None,
            carbon_cost_per_tonne=0.0,
            prices=self.site.prices,
        )

    def running(self) -> int:
        """Jobs that run now."""
        return sum(view.job.state is JobState.RUNNING for view in self.jobs.values())

    # --- what happens ---------------------------------------------------------------------------------------

    def churn(self, changes: int, fresh: list[JobView]) -> None:
        """So many running jobs end, and these arrive."""
        running = [job_id for job_id, view in self.jobs.items() if view.job.state is JobState.RUNNING]
        for at in self.chance.permutation(len(running))[:changes].tolist():
            self.end(running[at])
        for view in fresh:
            self.arrive(view)
        self.look()

    def end(self, job_id: str) -> None:
        """A job is done and its GPUs are empty."""
        view = self.jobs.pop(job_id)
        self._unload(view)
        self.fleet.drop_job(job_id)

    def arrive(self, view: JobView) -> None:
        """A new job, or one that changed."""
        self.jobs[view.job.id] = view
        self.fleet.put_job(view)

    def apply(self, kept: Decision, refused: tuple[Refusal, ...], snapshot: Snapshot) -> int:
        """Carry out what passed; starts that only waited for others to settle lower get a second look.

        Returns how many starts never came about.
        """
        self._set_caps(kept, snapshot)
        for stop in kept.preempts:
            self._stop(stop.job_id)
        for pause in kept.pauses:
            self._freeze(pause.job_id, frozen=True)
        for resume in kept.resumes:
            self._freeze(resume.job_id, frozen=False)
        for start in kept.starts:
            self._start(start)
        late = tuple(r.part for r in refused if isinstance(r.part, Start) and _comes(r.waits_for))
        self.look()
        again, lost = verify(Decision(starts=late), self.snapshot())
        for start in again.starts:
            self._start(start)
        self.look()
        return len(lost)

    def _set_caps(self, kept: Decision, snapshot: Snapshot) -> None:
        caps: list[JobCap] = list(kept.caps)
        by_row = np.full(len(snapshot.jobs), math.nan)
        for cap in caps:
            by_row[snapshot.jobs.row_of[cap.job_id]] = cap.cap_w
        held = snapshot.gpus.holder >= 0
        wanted_w = np.where(held, by_row[snapshot.gpus.holder], math.nan)
        self._cap_w = np.where(np.isfinite(wanted_w), wanted_w, self._cap_w)

    def _start(self, start: Start) -> None:
        view = self.jobs[start.job_id]
        at = NOW + timedelta(seconds=self._seconds)
        run = Run(
            id=f"run_{start.job_id}_{int(self._seconds)}",
            job_id=start.job_id,
            attempt=view.job.attempts + 1,
            gpu_uuids=start.gpu_uuids,
            cap_w=start.cap_w,
            created_at=at,
            started_at=at,
        )
        job = view.job.but(
            state=JobState.RUNNING, state_since=at, run=run, attempts=run.attempt, checkpoint_path="/c/1"
        )
        self.arrive(replace(view, job=job))
        self._load(self.jobs[start.job_id])
        self._cap_w[self._rows(job)] = start.cap_w

    def _stop(self, job_id: str) -> None:
        view = self.jobs[job_id]
        self._unload(view)
        self.arrive(replace(view, job=view.job.but(state=JobState.QUEUED, run=None), frozen=False))

    def _freeze(self, job_id: str, *, frozen: bool) -> None:
        view = self.jobs[job_id]
        state = JobState.PAUSED if frozen else JobState.RUNNING
        self.arrive(replace(view, job=view.job.but(state=state), frozen=frozen))

    def _load(self, view: JobView) -> None:
        rows = self._rows(view.job)
        self._busy[rows] = True
        self._demand_w[rows] = view.curve.demand_w

    def _unload(self, view: JobView) -> None:
        rows = self._rows(view.job)
        self._busy[rows] = False

    def _rows(self, job: Job) -> Ints:
        assert job.run is not None
        return np.array([self._row_of[uuid] for uuid in job.run.gpu_uuids], dtype=np.int64)


def _comes(reason: WaitReason | None) -> bool:
    return reason in (WaitReason.POWER, WaitReason.GPUS)


def _info(row: int, gpu: GpuView) -> GpuInfo:
    return GpuInfo(
        uuid=gpu.uuid,
        index=row,
        model=gpu.model,
        min_cap_w=gpu.min_cap_w,
        max_cap_w=gpu.max_cap_w,
        default_cap_w=gpu.max_cap_w,
        memory_bytes=80 * 2**30,
    )


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ordered: Floats = np.sort(np.array(values))
    return float(ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)])

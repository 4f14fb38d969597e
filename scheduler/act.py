"""Makes a verified decision so. Order: lower, confirm, settle, raise; reserve, cap, confirm, start.

Nothing here decides. What cannot be done now is left for the next cycle, which sees the world as it then is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np

from power.capd.client import CapdUnavailable, CapResult, EpochLost
from scheduler.cap_book import CapBook
from scheduler.decision import Decision, JobCap, Start
from scheduler.decision_tables import CapTable
from scheduler.engines.engine import EngineError, Wanted
from scheduler.launching import launch_spec, reserved_job
from scheduler.lifecycle import move
from scheduler.model import Job, JobState, WaitReason
from scheduler.observation import Observation
from scheduler.pending import PendingStarts
from scheduler.plant import Plant
from scheduler.recording import Recorder
from scheduler.snapshot import Snapshot
from scheduler.verify import Refusals

log = logging.getLogger("wattmill.act")

CONFIRMED_WITHIN_W = 1.0  # limits are whole milliwatts; a read-back further off was not obeyed


class Actor:
    """Applies decisions through the enforcer, the engine and the store."""

    def __init__(self, plant: Plant, book: CapBook) -> None:
        self._plant = plant
        self._book = book
        self._counts = plant.counts
        self._record = Recorder(plant)
        self.pending = PendingStarts(plant.config.control)
        self._capd_alive = False
        self._drifts = 0
        self._renewed_s: float | None = None

    def apply(self, kept: Decision, refused: Refusals, seen: Observation, snapshot: Snapshot) -> None:
        self._notice_drift(snapshot)
        gated = [wait.job_id for wait in seen.gated]
        self.pending.keep(kept, refused.moves, snapshot, held_back=gated, monotonic_s=seen.monotonic_s)
        self._set_caps(kept.caps, snapshot, seen)
        for pause in kept.pauses:
            job = _job(pause.job_id, snapshot)
            if self._record.pausing(job, pause, snapshot, seen.now) and job.run is not None:
                leaves = pause.reason is WaitReason.POWER
                self._want(job.run.id, Wanted.STOP if leaves else Wanted.FREEZE)
                self._counts.add("wattmill_pauses_total")
        for preempt in kept.preempts:
            job = _job(preempt.job_id, snapshot)
            if self._record.preempting(job, preempt.cause, seen.now) and job.run is not None:
                self._want(job.run.id, Wanted.STOP)
                self._counts.add("wattmill_preemptions_total")
        for resume in kept.resumes:
            self._thaw(_job(resume.job_id, snapshot), seen)
        for start in kept.starts:
            self._start(_job(start.job_id, snapshot), start, snapshot, seen)
        self._record.waits(kept.waits, snapshot.jobs)
        stopped = {pause.job_id for pause in kept.pauses} | {stop.job_id for stop in kept.preempts}
        self._record.conditions(kept.caps, stopped, snapshot.jobs, seen.now)
        self._record.decision(kept, refused, seen)

    # --- caps -------------------------------------------------------------------------------------------

    def _set_caps(self, caps: Sequence[JobCap], snapshot: Snapshot, seen: Observation) -> None:
        """Lowers at once; raises only where the GPU's last raise has settled. One call to the enforcer."""
        gpus, table = snapshot.gpus, CapTable.for_jobs(snapshot.jobs, caps)
        of_job = np.full(len(snapshot.jobs) + 1, np.nan)  # the last: nobody's
        of_job[table.job] = np.floor(table.cap_w)
        target_w = np.clip(of_job[gpus.holder], gpus.min_cap_w, gpus.max_cap_w)
        steered = gpus.settable & np.isfinite(target_w)
        unknown = np.isnan(gpus.confirmed_cap_w)
        lowers = steered & (unknown | (target_w < gpus.confirmed_cap_w - 1e-3))
        raises = steered & (target_w > gpus.confirmed_cap_w + 1e-3)
        rows = np.nonzero(lowers)[0].tolist()
        at_s = seen.monotonic_s
        rows += [r for r in np.nonzero(raises)[0].tolist() if self._book.may_raise(gpus.uuids[r], at_s)]
        self._send([(gpus.uuids[row], float(target_w[row])) for row in rows], snapshot, seen)

    def _notice_drift(self, snapshot: Snapshot) -> None:
        """A cap above what was last set: a driver reset, or another writer. This cycle lowers it again."""
        for row in self._book.drifted(snapshot.gpus).tolist():
            self._drifts += 1
            uuid, cap_w = snapshot.gpus.uuids[row], snapshot.gpus.confirmed_cap_w[row]
            log.warning("cap of %s is %.0f W, and not by us", uuid, cap_w)

    def _send(self, wanted: Sequence[tuple[str, float]], snapshot: Snapshot, seen: Observation) -> bool:
        """True when every set was confirmed by its read-back."""
        if not wanted:
            return True
        try:
            results = self._plant.caps.set_caps(sorted(wanted, key=lambda w: w[1]))
        except CapdUnavailable as error:
            self._capd_alive = False
            log.error("enforcer unavailable, caps stay as they are: %s", error)
            return False
        confirmed = [
            self._note(result, snapshot, seen) for result in results
        ]  # every one, not up to the first
        return all(confirmed)

    def _note(self, result: CapResult, snapshot: Snapshot, seen: Observation) -> bool:
        gpus, row = snapshot.gpus, snapshot.gpus.row_of[result.uuid]
        known = not np.isnan(gpus.confirmed_cap_w[row])
        before_w = float(gpus.confirmed_cap_w[row] if known else gpus.max_cap_w[row])
        self._counts.add("wattmill_cap_sets_total")
        if result.read_back_w is not None:
            self._book.note_set(
                result.uuid, before_w=before_w, read_back_w=result.read_back_w, monotonic_s=seen.monotonic_s
            )
        confirmed = (
            result.error is None
            and result.read_back_w is not None
            and abs(result.read_back_w - result.asked_w) <= CONFIRMED_WITHIN_W
        )
        if not confirmed:
            self._counts.add("wattmill_cap_set_errors_total")
            log.warning(
                "cap of %s not confirmed: asked %.0f W, read back %s, %s",
                result.uuid,
                result.asked_w,
                result.read_back_w,
                result.error or "no error given",
            )
        if result.error in ("not_permitted", "not_supported"):
            self._book.note_unsettable(result.uuid)
        return confirmed

    def renew_lease(self) -> tuple[str, ...]:
        """Tell the enforcer that the loop is alive. Returns the named fault, if any."""
        now_s = self._plant.clock.monotonic_s()
        if self._renewed_s is not None and now_s - self._renewed_s < self._plant.config.capd.renew_s:
            return ()
        try:
            self._plant.caps.renew()
        except EpochLost as error:
            # Nothing can be set in this cycle: its caps are read first, the next renewal leads anew.
            log.warning("not leading the enforcer: %s", error)
            self._renewed_s = None
            return ("epoch_lost",)
        except CapdUnavailable as error:
            if self._capd_alive:
                log.error("enforcer unavailable: %s", error)
            self._capd_alive, self._renewed_s = False, None
            return ("capd_down",)
        self._capd_alive = True
        self._renewed_s = now_s
        return ()

    def enforcer_state(self) -> dict[str, object]:
        """What `/v1/status` says of the enforcer."""
        since_s = self._renewed_s
        return {
            "alive": self._capd_alive,
            "drifts": self._drifts,
            "epoch": self._plant.caps.epoch,
            "lease_age_s": None if since_s is None else self._plant.clock.monotonic_s() - since_s,
        }

    # --- runs -------------------------------------------------------------------------------------------

    def _thaw(self, job: Job, seen: Observation) -> None:
        if job.run is None:
            return
        running = move(job, JobState.RUNNING, seen.now)
        if self._record.moved(job, running):
            self._want(job.run.id, Wanted.RUN)
            self._counts.add("wattmill_resumes_total")

    def _start(self, job: Job, start: Start, snapshot: Snapshot, seen: Observation) -> None:
        """Reserve in the database, cap, confirm, launch. Killed in between: the next start sees it all."""
        reserved = reserved_job(job, start, seen.now)
        if not self._record.moved(job, reserved):
            return
        gpus = snapshot.gpus
        settable = [u for u in start.gpu_uuids if gpus.settable[gpus.row_of[u]]]
        if not self._send([(u, math.floor(start.cap_w)) for u in settable], snapshot, seen):
            self._record.not_started(reserved, "its cap was not confirmed by the GPU", seen.now)
            return
        self._counts.add("wattmill_launches_total")
        try:
            self._plant.engine.launch(launch_spec(reserved, self._plant.config))
        except EngineError as error:
            log.error("job %s: %s", job.id, error)
            self._counts.add("wattmill_launch_failures_total")
            self._record.not_started(reserved, str(error), seen.now)

    def _want(self, run_id: str, wanted: Wanted) -> None:
        try:
            self._plant.engine.want(run_id, wanted)
        except EngineError as error:
            log.error("engine: %s", error)


def _job(job_id: str, snapshot: Snapshot) -> Job:
    return snapshot.jobs.jobs[snapshot.jobs.row_of[job_id]]

"""Makes a verified decision so. Order: lower, confirm, settle, raise; reserve, cap, confirm, start.

Nothing here decides. What cannot be done now is left for the next cycle, which sees the world as it then is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from power.capd.client import CapdUnavailable, CapResult, EpochLost
from scheduler.cap_book import CapBook
from scheduler.decision import Decision, JobCap, Refusal, Start
from scheduler.engines.engine import EngineError, Wanted
from scheduler.launching import launch_spec, reserved_job
from scheduler.lifecycle import move
from scheduler.model import Job, JobState, WaitReason
from scheduler.observation import Observation
from scheduler.plant import Plant
from scheduler.recording import Recorder
from scheduler.snapshot import Snapshot

log = logging.getLogger("wattmill.act")

CONFIRMED_WITHIN_W = 1.0  # limits are whole milliwatts; a read-back further off was not obeyed
ROOM_PATIENCE_S = 10.0  # how long a start waits for watts that are being freed for it


@dataclass(frozen=True, slots=True)
class PendingStart:
    """A start that verify found short of watts: its room is kept while the others settle lower."""

    start: Start
    until_s: float  # monotonic


class Actor:
    """Applies decisions through the enforcer, the engine and the store."""

    def __init__(self, plant: Plant, book: CapBook) -> None:
        self._plant = plant
        self._book = book
        self._counts = plant.counts
        self._record = Recorder(plant)
        self._pending: dict[str, PendingStart] = {}
        self._capd_alive = False
        self._drifts = 0
        self._renewed_s: float | None = None

    @property
    def pending_starts(self) -> tuple[Start, ...]:
        return tuple(p.start for p in self._pending.values())

    @property
    def reserved_w(self) -> Mapping[str, float]:
        """Watts per GPU that are promised to a start that waits for room."""
        return {u: p.start.cap_w for p in self._pending.values() for u in p.start.gpu_uuids}

    def apply(
        self, kept: Decision, refused: Sequence[Refusal], seen: Observation, snapshot: Snapshot
    ) -> None:
        self._notice_drift(snapshot)
        self._keep_room(kept, refused, seen)
        self._set_caps(kept.caps, snapshot, seen)
        jobs = {job.id: job for job in seen.jobs}
        for pause in kept.pauses:
            job = jobs[pause.job_id]
            if self._record.pausing(job, pause, snapshot, seen.now) and job.run is not None:
                leaves = pause.reason is WaitReason.POWER
                self._want(job.run.id, Wanted.STOP if leaves else Wanted.FREEZE)
                self._counts.add("wattmill_pauses_total")
        for preempt in kept.preempts:
            job = jobs[preempt.job_id]
            if self._record.preempting(job, preempt.cause, seen.now) and job.run is not None:
                self._want(job.run.id, Wanted.STOP)
                self._counts.add("wattmill_preemptions_total")
        for resume in kept.resumes:
            self._thaw(jobs[resume.job_id], seen)
        for start in kept.starts:
            self._start(jobs[start.job_id], start, snapshot, seen)
        self._record.waits(kept.waits, jobs)
        stopped = {pause.job_id for pause in kept.pauses} | {stop.job_id for stop in kept.preempts}
        going_on = [cap for cap in kept.caps if cap.job_id not in stopped]
        self._record.conditions(going_on, jobs, seen.now)
        self._record.decision(kept, refused, seen)

    def _keep_room(self, kept: Decision, refused: Sequence[Refusal], seen: Observation) -> None:
        """A start refused now may fit in a moment, when the jobs that make room have settled lower."""
        for refusal in refused:
            short = refusal.part
            if isinstance(short, Start) and refusal.waits_for is WaitReason.POWER:
                pending = PendingStart(short, seen.monotonic_s + ROOM_PATIENCE_S)
                self._pending.setdefault(short.job_id, pending)
        started = {start.job_id for start in kept.starts}
        startable = {
            j.id for j in seen.jobs if j.run is None and j.state in (JobState.QUEUED, JobState.PAUSED)
        }
        self._pending = {
            job_id: pending
            for job_id, pending in self._pending.items()
            if job_id in startable - started and seen.monotonic_s < pending.until_s
        }

    # --- caps -------------------------------------------------------------------------------------------

    def _set_caps(self, caps: Sequence[JobCap], snapshot: Snapshot, seen: Observation) -> None:
        """Lowers at once; raises only where the GPU's last raise has settled. One call to the enforcer."""
        runs = {job.id: job.run for job in seen.jobs}
        wanted: list[tuple[str, float]] = []
        for cap in caps:
            run = runs.get(cap.job_id)
            if run is None:
                continue
            target_w = math.floor(cap.cap_w)
            for gpu in (g for g in snapshot.gpus if g.uuid in run.gpu_uuids):
                uuid = gpu.uuid
                target = min(max(float(target_w), gpu.min_cap_w), gpu.max_cap_w)
                if gpu.settable and self._worth_setting(uuid, gpu.confirmed_cap_w, target, seen.monotonic_s):
                    wanted.append((uuid, target))
        self._send(wanted, snapshot, seen)

    def _notice_drift(self, snapshot: Snapshot) -> None:
        """A cap above what was last set: a driver reset, or another writer. This cycle lowers it again."""
        for gpu in snapshot.gpus:
            if gpu.confirmed_cap_w is not None and self._book.drifted(gpu.uuid, gpu.confirmed_cap_w):
                self._drifts += 1
                log.warning("cap of %s is %.0f W, and not by us", gpu.uuid, gpu.confirmed_cap_w)

    def _worth_setting(self, uuid: str, current_w: float | None, target_w: float, monotonic_s: float) -> bool:
        if current_w is None:
            return True
        if target_w < current_w - 1e-3:
            return True
        return target_w > current_w + 1e-3 and self._book.may_raise(uuid, monotonic_s)

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
        gpu = snapshot.gpu(result.uuid)
        before_w = gpu.max_cap_w if gpu.confirmed_cap_w is None else gpu.confirmed_cap_w
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
        settable = [u for u in start.gpu_uuids if snapshot.gpu(u).settable]
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

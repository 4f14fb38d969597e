"""Writes what the actor did: state moves with their events, reasons, conditions and decisions.

Every method returns False instead of raising when the write is stale or the database is away: then nothing
may be done in the world either, and the next cycle looks again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from scheduler.decision import Decision, JobCap, Pause, Refusal, Wait
from scheduler.decision_tables import CONDITIONS, CapTable, WaitTable
from scheduler.job_table import JobTable
from scheduler.joined import Joined
from scheduler.lifecycle import move
from scheduler.model import Job, JobState, WaitReason
from scheduler.observation import Observation
from scheduler.plant import Plant
from scheduler.reconcile import pause
from scheduler.snapshot import Snapshot
from scheduler.store import Event, StaleWrite, StoreUnavailable
from scheduler.verify import Refusals

log = logging.getLogger("wattmill.record")


class Recorder:
    """The store, as the actor uses it."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._last_mark: object = None  # of the decision last kept

    def moved(self, before: Job, after: Job, **data: Any) -> bool:
        """Save one state move with its event."""
        event = Event(
            kind="job.state",
            at=after.state_since,
            job_id=after.id,
            run_id=after.run.id if after.run else None,
            data={"from": str(before.state), "to": str(after.state), **data},
        )
        if not self._save(after, before.state, event):
            return False
        log.info("job %s: %s -> %s %s", after.id, before.state, after.state, data.get("why", ""))
        return True

    def pausing(self, job: Job, what: Pause, snapshot: Snapshot, now: datetime) -> bool:
        if job.state is not JobState.RUNNING:
            return False
        return self.moved(job, pause(job, now, what.reason, what.cause), why=what.cause)

    def preempting(self, job: Job, cause: str, now: datetime) -> bool:
        if job.state not in (JobState.RUNNING, JobState.STARTING, JobState.PAUSED) or job.run is None:
            return False
        stopping = move(job, JobState.STOPPING, now, stop_goal=JobState.QUEUED)
        return self.moved(job, stopping, why=cause)

    def not_started(self, job: Job, why: str, now: datetime) -> None:
        """STARTING came to nothing: stop what may be there, then queue again (`reconcile` does the rest)."""
        stopping = move(job, JobState.STOPPING, now, stop_goal=JobState.QUEUED)
        self.moved(job, stopping, why=why)

    def waits(self, waits: Sequence[Wait], jobs: JobTable) -> None:
        """Write why a job waits, where it is something else than before."""
        for job_id, reason, detail in _told(waits):
            row = jobs.row_of.get(job_id)
            if row is None:
                continue
            job = jobs.jobs[row]
            if job.wait_reason is reason and job.wait_detail == detail:
                continue
            if job.state is JobState.PAUSED and reason is WaitReason.GPUS:
                continue
            event = None
            if job.wait_reason is not reason:
                event = Event(
                    kind="job.waits",
                    at=self._plant.clock.now(),
                    job_id=job.id,
                    data={"reason": str(reason), "detail": detail},
                )
            self._save(job.but(wait_reason=reason, wait_detail=detail), job.state, event)

    def conditions(
        self, caps: Sequence[JobCap], stopped: Collection[str], jobs: JobTable, now: datetime
    ) -> None:
        """Write how a running job is throttled, where that has changed; not of those being stopped."""
        table = CapTable.for_jobs(jobs, caps)
        for entry, (row, code) in enumerate(zip(table.job.tolist(), table.condition.tolist(), strict=True)):
            job = jobs.jobs[row]
            unchanged = job.condition is CONDITIONS[code] or job.state is not JobState.RUNNING
            if unchanged or job.id in stopped:
                continue
            cap = table[entry]
            event = Event(
                kind="job.condition",
                at=now,
                job_id=job.id,
                run_id=job.run.id if job.run else None,
                data={"condition": str(cap.condition), "cap_w": round(cap.cap_w), "cause": cap.cause},
            )
            after = job.but(condition=cap.condition, condition_cause=cap.cause, condition_since=now)
            self._save(after, job.state, event)

    def decision(self, kept: Decision, refused: Refusals, seen: Observation) -> None:
        """Keep a decision that differs from the last one kept, or that tells of a plan."""
        mark = _mark(kept, refused)
        if mark == self._last_mark and all(c.step != "plan" for c in kept.certificates):
            return
        self._last_mark, summary = mark, summarise(kept, refused)
        try:
            self._plant.store.decisions.append(seen.now, seen.cycle, summary)
        except StoreUnavailable as error:
            self._plant.counts.add("wattmill_store_errors_total")
            log.error("decision of cycle %d not kept: %s", seen.cycle, error)

    def _save(self, job: Job, expected: JobState, event: Event | None) -> bool:
        try:
            self._plant.store.jobs.save(job, expected, events=() if event is None else (event,))
        except StaleWrite as error:
            log.warning("%s", error)
            return False
        except StoreUnavailable as error:
            self._plant.counts.add("wattmill_store_errors_total")
            log.error("job %s not written: %s", job.id, error)
            return False
        return True


def _told(waits: Sequence[Wait]) -> Iterator[tuple[str, WaitReason, str]]:
    """(job, reason, detail) of each job; what a later part says of it counts."""
    parts = waits.parts if isinstance(waits, Joined) else (waits,)
    told: set[str] = set()
    for later, part in enumerate(reversed(parts)):
        for job_id, reason, detail in _rows(part):
            if job_id not in told:
                yield job_id, reason, detail
        if later + 1 < len(parts):
            told.update(job_id for job_id, _, _ in _rows(part))


def _rows(waits: Sequence[Wait]) -> Iterator[tuple[str, WaitReason, str]]:
    """Without building one object per job of a table."""
    if not isinstance(waits, WaitTable):
        return ((wait.job_id, wait.reason, wait.detail) for wait in waits)
    answers = list(waits.answers)
    codes = waits.answer.tolist()
    return ((job_id, *answers[code]) for job_id, code in zip(waits.job_ids, codes, strict=True))


def _mark(kept: Decision, refused: Refusals) -> object:
    """What tells one decision from another: everything but certificates and waits; watts rounded to one."""
    moves = (kept.starts, kept.pauses, kept.resumes, kept.preempts, kept.notes)
    dropped = tuple((refusal.action, refusal.job_id, refusal.reason) for refusal in refused.moves)
    return moves, dropped, refused.per_action(), _caps_mark(kept.caps)


def _caps_mark(caps: Sequence[JobCap]) -> object:
    if isinstance(caps, CapTable):
        columns = (caps.job, np.round(caps.cap_w), caps.condition)
        return caps.ids, tuple(column.tobytes() for column in columns)
    return tuple((cap.job_id, round(cap.cap_w), cap.condition) for cap in caps)


def summarise(kept: Decision, refused: Sequence[Refusal]) -> dict[str, Any]:
    """A decision as plain JSON, for `/v1/power/decisions`. Watts rounded to one."""
    return {
        "starts": [
            {"job_id": s.job_id, "gpus": list(s.gpu_uuids), "cap_w": round(s.cap_w)} for s in kept.starts
        ],
        "pauses": [{"job_id": p.job_id, "cause": p.cause} for p in kept.pauses],
        "resumes": [{"job_id": r.job_id, "cap_w": round(r.cap_w)} for r in kept.resumes],
        "preempts": [{"job_id": p.job_id, "cause": p.cause} for p in kept.preempts],
        "caps": [
            {"job_id": c.job_id, "cap_w": round(c.cap_w), "condition": str(c.condition), "cause": c.cause}
            for c in kept.caps
        ],
        "refused": [{"action": r.action, "job_id": r.job_id, "reason": r.reason} for r in refused],
        "notes": list(kept.notes),
        "certificates": [
            {
                "step": c.step,
                "value": c.value,
                "bound": c.bound if math.isfinite(c.bound) else None,
                "gap": c.gap,
                "solve_s": c.solve_s,
                "fallback": c.fallback,
                "scope": c.scope,
            }
            for c in kept.certificates
        ],
    }

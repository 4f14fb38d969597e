"""Writes what the actor did: state moves with their events, reasons, conditions and decisions.

Every method returns False instead of raising when the write is stale or the database is away: then nothing
may be done in the world either, and the next cycle looks again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from scheduler.decision import Decision, JobCap, Pause, Refusal, Wait
from scheduler.lifecycle import move
from scheduler.model import Job, JobState, WaitReason
from scheduler.observation import Observation
from scheduler.plant import Plant
from scheduler.reconcile import pause
from scheduler.snapshot import Snapshot
from scheduler.store import Event, StaleWrite, StoreUnavailable

log = logging.getLogger("wattmill.record")


class Recorder:
    """The store, as the actor uses it."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._last_summary: dict[str, Any] = {}

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

    def waits(self, waits: Sequence[Wait], jobs: Mapping[str, Job]) -> None:
        for wait in waits:
            job = jobs.get(wait.job_id)
            if job is None or (job.wait_reason, job.wait_detail) == (wait.reason, wait.detail):
                continue
            if job.state is JobState.PAUSED and wait.reason is WaitReason.GPUS:
                continue
            event = None
            if job.wait_reason is not wait.reason:
                event = Event(
                    kind="job.waits",
                    at=self._plant.clock.now(),
                    job_id=job.id,
                    data={"reason": str(wait.reason), "detail": wait.detail},
                )
            self._save(job.but(wait_reason=wait.reason, wait_detail=wait.detail), job.state, event)

    def conditions(self, caps: Sequence[JobCap], jobs: Mapping[str, Job], now: datetime) -> None:
        for cap in caps:
            job = jobs.get(cap.job_id)
            if job is None or job.condition is cap.condition or job.state is not JobState.RUNNING:
                continue
            event = Event(
                kind="job.condition",
                at=now,
                job_id=job.id,
                run_id=job.run.id if job.run else None,
                data={"condition": str(cap.condition), "cap_w": round(cap.cap_w), "cause": cap.cause},
            )
            after = job.but(condition=cap.condition, condition_cause=cap.cause, condition_since=now)
            self._save(after, job.state, event)

    def decision(self, kept: Decision, refused: Sequence[Refusal], seen: Observation) -> None:
        """Keep a decision that differs from the last one kept; a quiet second leaves no row."""
        summary = summarise(kept, refused)
        changing = {k: v for k, v in summary.items() if k != "certificates"}
        if changing == self._last_summary:
            return
        self._last_summary = changing
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
                "bound": c.bound,
                "gap": c.gap,
                "solve_s": c.solve_s,
                "fallback": c.fallback,
            }
            for c in kept.certificates
        ],
    }

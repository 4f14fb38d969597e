"""Starts that verify found short of room that is on its way: their GPUs and watts are kept meanwhile. Pure.

Watts come as others settle lower; GPUs come when the runs that are leaving them have ended. Everybody else is
placed around them. What has not come in time is given up: the next placement looks anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scheduler.config import Control
from scheduler.decision import Decision, Refusal, Start
from scheduler.fleet import Kept
from scheduler.gpu_table import NOBODY
from scheduler.model import JobState, WaitReason
from scheduler.snapshot import Snapshot

ROOM_PATIENCE_S = 10.0  # how long a start waits for watts that are being freed for it


@dataclass(frozen=True, slots=True)
class PendingStart:
    """A start whose room is being made."""

    start: Start
    until_s: float  # monotonic


class PendingStarts:
    """By job; at most one each."""

    def __init__(self, control: Control) -> None:
        self._gone_after_s = control.settle_s + control.stale_s  # until a GPU is seen empty
        self._pending: dict[str, PendingStart] = {}

    @property
    def starts(self) -> tuple[Start, ...]:
        """Asked for again in every turn."""
        return tuple(pending.start for pending in self._pending.values())

    @property
    def kept(self) -> Mapping[str, Kept]:
        """GPUs that are promised, by UUID."""
        return {u: Kept(start.job_id, start.cap_w) for start in self.starts for u in start.gpu_uuids}

    def keep(
        self,
        decided: Decision,
        refused: Iterable[Refusal],
        snapshot: Snapshot,
        *,
        held_back: Iterable[str],
        monotonic_s: float,
    ) -> None:
        """Take in what was refused now; let go what has started, is held back, or has waited too long."""
        leaving = _leaving(decided)
        for refusal in refused:
            if isinstance(refusal.part, Start):
                patience_s = self._patience_s(refusal, leaving, snapshot)
                if patience_s is not None:
                    pending = PendingStart(refusal.part, monotonic_s + patience_s)
                    self._pending.setdefault(refusal.job_id, pending)
        out = {start.job_id for start in decided.starts} | set(held_back)
        self._pending = {
            job_id: pending
            for job_id, pending in self._pending.items()
            if job_id not in out and monotonic_s < pending.until_s and _startable(job_id, snapshot)
        }

    def _patience_s(self, refusal: Refusal, leaving: frozenset[str], snapshot: Snapshot) -> float | None:
        """How long its room may take to come; None where nothing says that it will."""
        assert isinstance(refusal.part, Start)
        if refusal.waits_for is WaitReason.POWER:
            return ROOM_PATIENCE_S
        if refusal.waits_for is not WaitReason.GPUS:
            return None
        grace_s = _until_free_s(refusal.part, leaving, snapshot)
        return None if not grace_s else max(grace_s) + self._gone_after_s + ROOM_PATIENCE_S


def _until_free_s(start: Start, leaving: frozenset[str], snapshot: Snapshot) -> list[float]:
    """Seconds that each of its GPUs may still be held, of those that are not free; none if one stays held."""
    gpus, jobs, graces = snapshot.gpus, snapshot.jobs, []
    own = jobs.row_of.get(start.job_id, NOBODY)
    for uuid in start.gpu_uuids:
        row = gpus.row_of.get(uuid)
        if row is None or gpus.cordoned[row] or not gpus.healthy[row]:
            return []
        if gpus.reserved[row] not in (NOBODY, own):
            return []
        holder = int(gpus.holder[row])
        if holder != NOBODY:
            job = jobs.jobs[holder]
            if job.state is not JobState.STOPPING and job.id not in leaving:
                return []
            graces.append(job.spec.checkpoint_grace_s)
        elif gpus.settling[row]:
            graces.append(0.0)
        elif gpus.foreign[row]:
            return []
    return graces


def _leaving(decided: Decision) -> frozenset[str]:
    """Jobs that this decision stops: preempted, or paused for want of power, which leaves the GPUs too."""
    paused = (pause.job_id for pause in decided.pauses if pause.reason is WaitReason.POWER)
    return frozenset((*(preempt.job_id for preempt in decided.preempts), *paused))


def _startable(job_id: str, snapshot: Snapshot) -> bool:
    row = snapshot.jobs.row_of.get(job_id)
    if row is None:
        return False
    job = snapshot.jobs.jobs[row]
    return job.run is None and job.state in (JobState.QUEUED, JobState.PAUSED)

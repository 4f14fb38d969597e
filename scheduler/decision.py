"""What a decision may propose, as values; and the certificate that says how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from scheduler.model import Condition, WaitReason

NO_GAIN: Final = 1e-9  # relative


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Launch a queued job (or one paused off its GPUs) on these GPUs at this cap."""

    job_id: str
    gpu_uuids: tuple[str, ...]
    cap_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Freeze a running job; `cause` is one sentence with figures."""

    job_id: str
    cause: str
    reason: WaitReason = WaitReason.PRICE  # what it then waits for: price or power


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Thaw a job frozen in place, at this cap."""

    job_id: str
    cap_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Preempt:
    """Stop a running job with a checkpoint and put it back in the queue."""

    job_id: str
    cause: str
    heir: str | None = None  # the job that its GPUs are then kept for


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCap:
    """One cap for all GPUs of a job, and why it is not higher."""

    job_id: str
    cap_w: float
    condition: Condition
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Why a queued job does not start now."""

    job_id: str
    reason: WaitReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """How good an answer is: `value` reached, `bound` that no answer can beat, both in money per hour
    (of a plan: money over its horizon).

    `unchanged` is the value of keeping everything as it is; `gap` is the share of the possible gain over it
    that the answer leaves: (bound - value) / (bound - unchanged), 0 where nothing is left to gain.
    `fallback` names the simpler method that answered, if any; `scope` says which part of the site was looked
    at, None = all of it.
    """

    step: str  # plan | place | cap
    value: float
    bound: float
    solve_s: float
    fallback: str | None = None
    unchanged: float = 0.0
    scope: str | None = None

    @property
    def gap(self) -> float:
        left = self.bound - self.value
        # Differences in the last digits of a sum over the whole site are no gain that anybody could have.
        if left <= NO_GAIN * max(abs(self.bound), 1.0):
            return 0.0
        return min(1.0, left / max(self.bound - self.unchanged, left))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A proposal: nothing happens until `verify` has passed each part of it."""

    starts: tuple[Start, ...] = ()
    pauses: tuple[Pause, ...] = ()
    resumes: tuple[Resume, ...] = ()
    preempts: tuple[Preempt, ...] = ()
    caps: Sequence[JobCap] = ()  # a tuple, or a table (see decision_tables.py)
    waits: Sequence[Wait] = ()
    certificates: tuple[Certificate, ...] = ()
    notes: tuple[str, ...] = field(default=())  # contracts broken, domains short, in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A part of a decision that `verify` dropped, and why."""

    action: str  # start | resume | cap | ...
    job_id: str
    reason: str
    part: object | None = None  # the Start, Resume, JobCap, ... that was dropped
    waits_for: WaitReason | None = None  # POWER: room may come as others settle lower

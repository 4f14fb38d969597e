"""The domain: what a person asked for (Job), one attempt of it (Run), and the words for both.

Frozen values only; no database, no HTTP. A job that breaks a rule cannot be built.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

MAX_ARGV_ITEMS = 1024
MAX_ARGV_BYTES = 128 * 1024


class InvalidJob(ValueError):
    """A field of a job breaks a rule; `field` names it."""

    def __init__(self, field_name: str, message: str) -> None:
        super().__init__(f"{field_name}: {message}")
        self.field = field_name
        self.message = message


class Flex(StrEnum):
    """The share of throughput a job lets us take, counted over its running time."""

    NONE = "none"
    LOW = "low"
    MID = "mid"
    HIGH = "high"

    @property
    def share(self) -> float:
        """0..1 of uncapped throughput that may be lost."""
        return {"none": 0.0, "low": 0.10, "mid": 0.25, "high": 0.50}[self.value]


class JobState(StrEnum):
    """See `lifecycle.py` for the moves between them."""

    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    PAUSING = "PAUSING"
    PAUSED = "PAUSED"
    STOPPING = "STOPPING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)

    @property
    def live(self) -> bool:
        """Holds or may hold GPUs."""
        return self in (
            JobState.STARTING,
            JobState.RUNNING,
            JobState.PAUSING,
            JobState.PAUSED,
            JobState.STOPPING,
        )


class Intent(StrEnum):
    """What people want of a job now; written by the API, read by the loop.

    REQUEUE and CHECKPOINT are one-shot: the loop sets them back to RUN when done.
    """

    RUN = "run"
    HOLD = "hold"
    PAUSE = "pause"
    CANCEL = "cancel"
    REQUEUE = "requeue"
    CHECKPOINT = "checkpoint"


class WaitReason(StrEnum):
    """Why a job waits: the closed list."""

    GPUS = "waiting_for_gpus"
    POWER = "waiting_for_power"
    PRICE = "waiting_for_price"
    QUOTA = "waiting_for_quota"
    DEPENDENCY = "waiting_for_dependency"
    BEGIN_TIME = "waiting_for_begin_time"
    LOWER_PRIORITY = "lower_priority"
    BACKOFF = "backoff"
    HELD_BY_USER = "held_by_user"
    HELD_BY_OPERATOR = "held_by_operator"
    NODE_MAINTENANCE = "node_maintenance"
    UNSATISFIABLE = "unsatisfiable"


class Condition(StrEnum):
    """How a running job is throttled, if at all."""

    NOMINAL = "NOMINAL"
    CAPPED_BUDGET = "CAPPED_BUDGET"
    CAPPED_PRICE = "CAPPED_PRICE"
    CAPPED_THERMAL = "CAPPED_THERMAL"
    EMERGENCY = "EMERGENCY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What we may do to a job's speed and time."""

    flex: Flex = Flex.NONE
    pausable: bool = False
    max_pause_s: float | None = None  # total over the job's life; None = no limit
    deadline: datetime | None = None
    price_ceiling_per_mwh: float | None = None  # above it a pausable job pauses and a queued one waits

    def __post_init__(self) -> None:
        if self.max_pause_s is not None and not (math.isfinite(self.max_pause_s) and self.max_pause_s >= 0):
            raise InvalidJob(
                "max_pause_s", f"must be a finite number of seconds >= 0, got {self.max_pause_s}"
            )
        if self.deadline is not None and self.deadline.tzinfo is None:
            raise InvalidJob("deadline", "must carry a time zone")
        if self.price_ceiling_per_mwh is not None and not math.isfinite(self.price_ceiling_per_mwh):
            raise InvalidJob("price_ceiling_per_mwh", "must be finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What a person asked for. Only `argv` and `gpus` are required."""

    argv: tuple[str, ...]
    gpus: int
    name: str = ""
    cwd: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    gpu_type: str | None = None  # substring of the GPU model name, case-insensitive
    nodes: int = 1
    contract: Contract = field(default_factory=Contract)
    priority: str = "standard"  # a class from the config: low, standard, high
    project: str = "default"
    workload: str | None = None  # jobs of one workload share a learned power curve
    estimate_s: float | None = None  # running time at full speed, grid seconds
    begin_at: datetime | None = None
    depends_on: tuple[str, ...] = ()
    checkpoint_grace_s: float = 30.0
    requeue: bool = True  # start again after a node or run is lost, or after preemption
    max_restarts: int = 3
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_argv()
        if self.gpus < 1:
            raise InvalidJob("gpus", f"must be at least 1, got {self.gpus}")
        if self.nodes < 1 or self.gpus % self.nodes:
            raise InvalidJob("nodes", f"{self.gpus} GPUs do not divide evenly over {self.nodes} nodes")
        for name, value in (("estimate_s", self.estimate_s), ("checkpoint_grace_s", self.checkpoint_grace_s)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InvalidJob(name, f"must be a finite number of seconds above 0, got {value}")
        if self.begin_at is not None and self.begin_at.tzinfo is None:
            raise InvalidJob("begin_at", "must carry a time zone")
        for key in self.env:
            if key.startswith("WATTMILL_") or key == "CUDA_VISIBLE_DEVICES":
                raise InvalidJob("env", f"{key} is set by wattmill and cannot be given")

    def _check_argv(self) -> None:
        if not self.argv or not self.argv[0]:
            raise InvalidJob("argv", "must name a program")
        if len(self.argv) > MAX_ARGV_ITEMS or sum(len(a.encode()) for a in self.argv) > MAX_ARGV_BYTES:
            raise InvalidJob("argv", f"at most {MAX_ARGV_ITEMS} items and {MAX_ARGV_BYTES} bytes")
        if any("\0" in a for a in self.argv):
            raise InvalidJob("argv", "must not contain NUL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One attempt of a job. `id` is its fencing token: nothing acts for the job without it."""

    id: str
    job_id: str
    attempt: int
    gpu_uuids: tuple[str, ...]
    cap_w: float  # the cap at launch, per GPU
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    end_reason: str | None = None  # finished, cancelled, preempted, paused, lost, launch_failed, ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job and where it stands."""

    id: str
    spec: JobSpec
    owner: str
    submitted_at: datetime
    state: JobState = JobState.QUEUED
    state_since: datetime
    intent: Intent = Intent.RUN
    held_by_operator: bool = False
    revision: int = 1  # changes with every write by a person (ETag)
    run: Run | None = None  # the current attempt; None when queued, or paused off the GPU
    attempts: int = 0
    wait_reason: WaitReason | None = None
    wait_detail: str = ""  # one sentence with figures, for `why`
    condition: Condition = Condition.NOMINAL
    condition_cause: str = ""
    condition_since: datetime | None = None
    stop_goal: JobState | None = None  # while STOPPING: CANCELLED, FAILED or QUEUED
    not_before: datetime | None = None  # backoff
    paused_s: float = 0.0  # grid seconds in PAUSED so far, the present pause not included
    checkpoint_path: str | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    end_reason: str | None = None

    def but(self, **changes: Any) -> Job:
        """A copy with some fields changed."""
        return replace(self, **changes)

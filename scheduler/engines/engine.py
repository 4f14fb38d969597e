"""What an execution engine must do: launch, observe, command. Decisions never know which one is behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class EngineError(Exception):
    """The engine could not do what was asked; the message says why."""


class RunPhase(StrEnum):
    STARTING = "starting"  # the shim is up, the job's process not yet
    RUNNING = "running"
    FROZEN = "frozen"  # stopped in place, still on its GPUs
    EXITED = "exited"  # every process of the run is proven gone
    LOST = "lost"  # the shim is gone and left no exit code; every process is proven gone


class Wanted(StrEnum):
    """The state we want a run in. Level-triggered: writing the same wish twice is harmless."""

    RUN = "run"
    FREEZE = "freeze"
    STOP = "stop"  # ask for a checkpoint, SIGTERM, grace, then SIGKILL to every descendant


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """All an engine needs to start one run."""

    run_id: str
    job_id: str
    argv: tuple[str, ...]
    cwd: str | None
    env: Mapping[str, str]  # the user's own variables
    gpu_uuids: tuple[str, ...]
    workload: str
    checkpoint_dir: str
    resume_from: str | None
    grace_s: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What the job itself last reported through `wattjob`."""

    at: datetime  # real UTC time of the report
    step: int
    total_steps: int | None
    samples: float  # samples done in this run so far
    samples_per_s: float | None  # over the last few reports, per real second


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """One run as the engine sees it."""

    run_id: str
    phase: RunPhase
    pids: tuple[int, ...] = ()  # every live process of the run, the shim not included
    exit_code: int | None = None  # negative = killed by that signal
    started_at: datetime | None = None  # real UTC time
    ended_at: datetime | None = None
    progress: Progress | None = None
    checkpoint_path: str | None = None  # acked by the job, newest
    checkpoint_at: datetime | None = None  # real UTC time of that ack
    answered_request: int = 0  # number of the newest request for a checkpoint that the job answered
    answer_s: float | None = None  # real seconds from that request to its answer
    stopped: bool = False  # it was told to stop before it ended: by us, or by a machine that shuts down
    error: str | None = None


class Engine(Protocol):
    """Where processes run."""

    def launch(self, spec: LaunchSpec) -> None:
        """Start one run; returns when its shim is recorded. The same run id twice raises EngineError."""
        ...

    def observe(self) -> Mapping[str, RunStatus]:
        """Every run the engine knows, by run id, those of earlier daemons included."""
        ...

    def want(self, run_id: str, wanted: Wanted, *, checkpoint_now: bool = False) -> None:
        """State the wish for a run. `checkpoint_now` also asks for one checkpoint without stopping."""
        ...

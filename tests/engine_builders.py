"""Runs for the tests of the local engine, and ways to wait for them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scheduler.engines.engine import LaunchSpec, RunPhase, RunStatus, Wanted
from scheduler.engines.local import LocalEngine

ENDED = (RunPhase.EXITED, RunPhase.LOST)
REPOSITORY = Path(__file__).resolve().parent.parent


def a_run(
    tmp_path: Path,
    *argv: str,
    run_id: str = "run_1",
    gpus: int = 1,
    grace_s: float = 5.0,
    env: dict[str, str] | None = None,
    cwd: str | None = None,
    resume_from: str | None = None,
) -> LaunchSpec:
    return LaunchSpec(
        run_id=run_id,
        job_id="job_1",
        argv=argv,
        cwd=cwd or str(tmp_path),
        env=env or {},
        gpu_uuids=tuple(f"GPU-51{index:02d}" for index in range(gpus)),
        workload="test",
        checkpoint_dir=str(tmp_path / "checkpoints"),
        resume_from=resume_from,
        grace_s=grace_s,
    )


def shell(tmp_path: Path, script: str, **fields: object) -> LaunchSpec:
    return a_run(tmp_path, "/bin/sh", "-c", script, **fields)  # type: ignore[arg-type]


def python(tmp_path: Path, script: str, **fields: object) -> LaunchSpec:
    return a_run(tmp_path, sys.executable, "-c", script, **fields)  # type: ignore[arg-type]


def wait_for(
    engine: LocalEngine, check: Callable[[RunStatus], bool], run_id: str = "run_1", timeout_s: float = 20.0
) -> RunStatus:
    """The first status that passes; fails the test with the last one and the log when none does in time."""
    deadline_s, status = time.monotonic() + timeout_s, None
    while time.monotonic() < deadline_s:
        status = engine.observe().get(run_id)
        if status is not None and check(status):
            return status
        time.sleep(0.05)
    pytest.fail(f"in {timeout_s} s only {status}\nlog: {engine.read_log(run_id, 0, 20000)[0].decode()}")


def wait_until(check: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline_s:
            pytest.fail(f"not within {timeout_s} s: {what}")
        time.sleep(0.02)


def ended(status: RunStatus) -> bool:
    return status.phase in ENDED


def running(status: RunStatus) -> bool:
    return status.phase is RunPhase.RUNNING and bool(status.pids)


def frozen(status: RunStatus) -> bool:
    return status.phase is RunPhase.FROZEN


def log_of(engine: LocalEngine, run_id: str = "run_1") -> str:
    return engine.read_log(run_id, 0, 10_000_000)[0].decode()


def engine_that_leaves_nothing(tmp_path: Path, log_cap_bytes: int = 1_000_000) -> Iterator[LocalEngine]:
    """For fixtures: at the end every run is stopped, and the test fails if one cannot be."""
    engine = LocalEngine(tmp_path / "runs", log_cap_bytes=log_cap_bytes)
    yield engine
    for run_id, status in engine.observe().items():
        if status.phase not in ENDED:
            engine.want(run_id, Wanted.STOP)
    wait_until(lambda: all(ended(status) for status in engine.observe().values()), "all runs ended", 40.0)

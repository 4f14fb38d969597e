"""From a run's folder and the process table to its RunStatus; ends what a dead shim left behind."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from scheduler.engines import process_identity as identity
from scheduler.engines import run_folder
from scheduler.engines.engine import Progress, RunPhase, RunStatus
from scheduler.engines.process_identity import Process, ShimIdentity


def supervised(folder: int, run_id: str, table: Mapping[int, Process]) -> RunStatus | None:
    """A run that has a shim, or may yet get one; None when it has none any more.

    Only when the shim is gone is `exit.json` believed: the job could write one too.

    Args:
        folder: descriptor of its folder.
        table: the process table, read just before.
    """
    shim = run_folder.read_json(folder, run_folder.SHIM)
    if shim is None and _may_still_come_up(folder):
        return RunStatus(run_id=run_id, phase=RunPhase.STARTING)
    shim = shim or run_folder.read_json(folder, run_folder.SHIM)
    if shim is None or not _is_shim(shim, run_id):
        return None
    processes = [p for p in identity.descendants(table, [shim["pid"]]) if not p.gone]
    phase = RunPhase.RUNNING if shim.get("child_pid") else RunPhase.STARTING
    if processes and all(p.stopped for p in processes) and run_folder.exists(folder, run_folder.FROZEN):
        phase = RunPhase.FROZEN
    stuck = run_folder.read_json(folder, run_folder.STUCK)
    error = f"processes {stuck.get('pids')} survive SIGKILL since {stuck.get('since')}" if stuck else None
    return _status(folder, run_id, phase, processes, error)


def unsupervised(folder: int, run_id: str, processes: list[Process]) -> RunStatus:
    """A run without a shim. Kills what is left of it; with nothing left it is EXITED or, from now on, LOST.

    Args:
        processes: the live processes that name this run, found after its shim was gone.
    """
    processes = processes + _orphaned_child(folder, processes)
    for process in processes:
        identity.send(process, signal.SIGKILL)
    if processes:
        error = "its shim died; the processes that it left are being killed"
        return _status(folder, run_id, RunPhase.RUNNING, processes, error)
    last_word = run_folder.read_json(folder, run_folder.EXIT)
    if last_word is None:
        came_up = run_folder.exists(folder, run_folder.SHIM)
        error = "its shim died without an exit code" if came_up else "its shim never came up"
        last_word = {"exit_code": None, "reason": "lost", "error": error}
        last_word["ended_at"] = datetime.now(UTC).isoformat()
        with contextlib.suppress(OSError):
            run_folder.write_json(folder, run_folder.EXIT, last_word, durable=True)
    run_folder.remove(folder, run_folder.FROZEN)
    phase = RunPhase.LOST if last_word.get("reason") == "lost" else RunPhase.EXITED
    exit_code, why = last_word.get("exit_code"), last_word.get("error")
    return replace(
        _status(folder, run_id, phase, [], why if isinstance(why, str) else None),
        exit_code=exit_code if isinstance(exit_code, int) and -(2**31) <= exit_code < 2**31 else None,
        ended_at=_time(last_word.get("ended_at")),
        stopped=last_word.get("reason") == "stopped",
    )


def _status(
    folder: int, run_id: str, phase: RunPhase, processes: list[Process], error: str | None
) -> RunStatus:
    return RunStatus(
        run_id=run_id,
        phase=phase,
        pids=tuple(sorted(process.pid for process in processes)),
        started_at=_time((run_folder.read_json(folder, run_folder.SHIM) or {}).get("started_at")),
        progress=_progress(folder),
        error=error,
        **_checkpoint(folder),
    )


def _checkpoint(folder: int) -> dict[str, Any]:
    """What the job last acked, as fields of RunStatus; none of it without a path that can be resumed from."""
    ack = run_folder.read_json(folder, run_folder.CHECKPOINT) or {}
    path, number = ack.get("path"), ack.get("answered")
    if not isinstance(path, str) or not _plain(path):
        return {}
    answered = number if isinstance(number, int) and 0 < number < 2**63 else 0
    try:
        answer_s = max(0.0, _finite(ack.get("answer_s"))) if answered else None
    except (TypeError, ValueError, OverflowError):
        answered, answer_s = 0, None
    return {
        "checkpoint_path": path,
        "checkpoint_at": _time(ack.get("at")),
        "answered_request": answered,
        "answer_s": answer_s,
    }


def _plain(text: str) -> bool:
    """Unicode text without NUL: what a database takes. A path of other bytes arrives as lone surrogates."""
    return "\0" not in text and text.encode(errors="replace").decode() == text


def _orphaned_child(folder: int, known: list[Process]) -> list[Process]:
    """What the shim started, proven by boot and start time, where it has overwritten its environment."""
    shim = run_folder.read_json(folder, run_folder.SHIM) or {}
    if shim.get("boot_id") != identity.boot_id() or not isinstance(shim.get("child_pid"), int):
        return []
    child = identity.read_process(shim["child_pid"])
    if child is None or child.gone or child.start_time != shim.get("child_start_time"):
        return []
    family = [child, *identity.descendants(identity.all_processes(), [child.pid])]
    return [process for process in family if process not in known and not process.gone]


def _is_shim(shim: Mapping[str, Any], run_id: str) -> bool:
    boot, pid, start_time = shim.get("boot_id"), shim.get("pid"), shim.get("start_time")
    if not (isinstance(boot, str) and isinstance(pid, int) and isinstance(start_time, int)):
        return False
    return shim.get("run_id") == run_id and ShimIdentity(boot, pid, start_time, run_id).holds()


def _may_still_come_up(folder: int) -> bool:
    """Someone who holds the lock is launching this run, or is its shim before it has written who it is."""
    try:
        lock = os.open(run_folder.LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _progress(folder: int) -> Progress | None:
    found = run_folder.read_json(folder, run_folder.PROGRESS)
    at = _time(found.get("at")) if found else None
    if found is None or at is None:
        return None
    try:
        rate = found["samples_per_s"]
        return Progress(
            at=at,
            step=int(found["step"]),
            total_steps=None if found["total_steps"] is None else int(found["total_steps"]),
            samples=_finite(found["samples"]),
            samples_per_s=None if rate is None else _finite(rate),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _finite(value: Any) -> float:
    """Raises ValueError, TypeError or OverflowError: a job may write anything here."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no count")
    return number


def _time(value: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return at if at is not None and at.tzinfo is not None else None

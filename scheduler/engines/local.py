"""The embedded engine: runs on this machine, without root, each under a shim that outlives the daemon.

All state is in the run folders, so a new engine on the same folder knows every run of the one before.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scheduler.engines import process_identity as identity
from scheduler.engines import run_folder, run_status
from scheduler.engines.engine import EngineError, LaunchSpec, RunPhase, RunStatus, Wanted
from scheduler.engines.launch_plan import job_argv, job_environment

LOG_CAP_BYTES = 64 * 1024 * 1024
SHIM_START_S = 30.0
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_SHIM = Path(__file__).with_name("shim.py")
_WATTJOB_DIR = Path(__file__).parent.parent / "injob"
_ENDED = (RunPhase.EXITED, RunPhase.LOST)


class LocalEngine:
    """Implements `engine.Engine`. Thread-safe. One engine at a time may observe a folder; any may read logs.

    Args:
        runs_dir: holds one folder per run; created with mode 0700.
        wattjob_dir: the folder that holds `wattjob` and nothing else; None = the one shipped here.
        python: runs the shims, and torchrun for programs that are neither Python nor find one on their PATH.
        log_cap_bytes: how much of a run's output is kept.
    """

    def __init__(
        self,
        runs_dir: Path,
        wattjob_dir: Path | None = None,
        python: str = sys.executable,
        *,
        log_cap_bytes: int = LOG_CAP_BYTES,
    ) -> None:
        self._runs_dir = Path(runs_dir).absolute()
        self._runs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._wattjob_dir = Path(wattjob_dir or _WATTJOB_DIR).absolute()
        self._python = python
        self._log_cap_bytes = log_cap_bytes
        self._lock = threading.Lock()
        self._ended: dict[str, RunStatus] = {}
        self._wishes: dict[str, dict[str, Any]] = {}

    def launch(self, spec: LaunchSpec) -> None:
        """See `Engine.launch`. A program that cannot start shows in `observe`: exited, with an error."""
        path = self._path(spec.run_id)
        try:
            Path(spec.checkpoint_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(f"run {spec.run_id}: no checkpoint folder: {error}") from error
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            with _opened(path) as folder, _shim_lock(folder) as lock:
                self._write_launch(spec, path, folder)
                try:
                    self._start_shim(path, folder, lock)
                except (OSError, subprocess.SubprocessError) as error:
                    self._give_up(folder)
                    raise EngineError(f"run {spec.run_id}: its shim did not start: {error}") from error
        except FileExistsError:
            raise EngineError(f"run {spec.run_id} was launched before") from None
        except OSError as error:
            raise EngineError(f"run {spec.run_id} cannot be launched: {error}") from error

    def observe(self) -> Mapping[str, RunStatus]:
        """See `Engine.observe`. Also ends what a dead shim left: a run is over when nothing of it lives."""
        with self._lock:
            seen = dict(self._ended)
            unknown = [name for name in self._names() if name not in seen]
            table = identity.all_processes() if unknown else {}
            unsupervised = []
            for run_id in unknown:
                try:
                    with _opened(self._runs_dir / run_id) as folder:
                        if not run_folder.exists(folder, run_folder.LAUNCH):
                            continue
                        status = run_status.supervised(folder, run_id, table)
                except FileNotFoundError:
                    continue
                except OSError as error:  # a job can lock its own folder: what cannot be seen is not over
                    status = RunStatus(run_id=run_id, phase=RunPhase.RUNNING, error=f"not seen: {error}")
                if status is not None:
                    seen[run_id] = status
                else:
                    unsupervised.append(run_id)
            seen.update(self._settle(unsupervised))
            return seen

    def _settle(self, run_ids: list[str]) -> dict[str, RunStatus]:
        """Runs whose shim is gone: ended if, in a process table read after that, nothing of them lives."""
        settled = {}
        by_run = identity.processes_by_run(str(self._runs_dir)) if run_ids else {}
        for run_id in run_ids:
            with contextlib.suppress(FileNotFoundError), _opened(self._runs_dir / run_id) as folder:
                status = run_status.unsupervised(folder, run_id, by_run.get(run_id, []))
                settled[run_id] = status
                if status.phase in _ENDED:
                    self._ended[run_id] = status
                    self._wishes.pop(run_id, None)
        return settled

    def want(self, run_id: str, wanted: Wanted, *, checkpoint_now: bool = False) -> None:
        """See `Engine.want`. A stop is final. Raises EngineError for a run that was never launched."""
        with self._lock:
            if run_id in self._ended:
                return
            try:
                with _opened(self._path(run_id)) as folder:
                    self._write_wish(folder, run_id, wanted, checkpoint_now)
            except OSError as error:
                raise EngineError(f"run {run_id} cannot be told to {wanted}: {error}") from error

    def forget(self, run_id: str) -> None:
        """Delete an ended run's folder, its log included. Raises EngineError while it may still live."""
        with self._lock:
            if run_id not in self._ended:
                raise EngineError(f"run {run_id} has not been seen to end")
            shutil.rmtree(self._path(run_id), ignore_errors=True)
            if not self._path(run_id).exists():
                del self._ended[run_id]

    def read_log(self, run_id: str, offset: int, limit: int) -> tuple[bytes, int]:
        """At most `limit` bytes of a run's output from byte `offset`, and the offset to go on from.

        Raises:
            EngineError: no such run, or its log is not a plain file.
        """
        try:
            with _opened(self._path(run_id)) as folder:
                if not run_folder.exists(folder, run_folder.LOG):
                    return b"", offset
                handle = run_folder.open_regular(folder, run_folder.LOG)
                if handle is None:
                    raise EngineError(f"the log of run {run_id} is not a plain file")
                with open(handle, "rb") as file:
                    data = os.pread(file.fileno(), max(0, limit), max(0, offset))
        except OSError as error:
            raise EngineError(f"no log of run {run_id}: {error.strerror}") from error
        return data, max(0, offset) + len(data)

    def _path(self, run_id: str) -> Path:
        if not _RUN_ID.fullmatch(run_id):
            raise EngineError(f"not a run id: {run_id[:80]!r}")
        return self._runs_dir / run_id

    def _names(self) -> list[str]:
        with os.scandir(self._runs_dir) as entries:
            return [e.name for e in entries if _RUN_ID.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]

    def _write_launch(self, spec: LaunchSpec, path: Path, folder: int) -> None:
        daemon_venv = sys.prefix if sys.prefix != sys.base_prefix else None
        env = job_environment(spec, path, self._wattjob_dir, os.environ, daemon_venv=daemon_venv)
        launch = {
            "run_id": spec.run_id,
            "job_id": spec.job_id,
            "argv": job_argv(spec.argv, len(spec.gpu_uuids), env, python=self._python),
            "cwd": spec.cwd or env.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir,
            "env": env,
            "grace_s": spec.grace_s,
            "log_cap_bytes": self._log_cap_bytes,
            "labels": dict(spec.labels),
            "launched_at": datetime.now(UTC).isoformat(),
        }
        run_folder.create_json(folder, run_folder.LAUNCH, launch)

    def _start_shim(self, path: Path, folder: int, lock: int) -> None:
        shim_log = run_folder.open_append(folder, run_folder.SHIM_LOG)
        try:
            starter = subprocess.Popen(
                [self._python, "-I", "-S", "-X", "utf8", str(_SHIM), str(lock), str(path)],
                stdin=subprocess.DEVNULL,
                stdout=shim_log,
                stderr=shim_log,
                env={"PATH": os.defpath, "LANG": "C.UTF-8"},
                cwd="/",
                pass_fds=(lock,),
                start_new_session=True,
            )
            if starter.wait(SHIM_START_S) != 0:
                raise OSError(_tail(folder, run_folder.SHIM_LOG) or f"exit code {starter.returncode}")
        except subprocess.TimeoutExpired:
            starter.send_signal(signal.SIGKILL)
            starter.wait()
            raise
        finally:
            os.close(shim_log)

    def _give_up(self, folder: int) -> None:
        """If the shim comes up after all, it finds that it shall stop; if not, `observe` will prove that."""
        with contextlib.suppress(OSError):
            run_folder.write_json(folder, run_folder.WANTED, {"wanted": "stop", "grace_s": 0.0})

    def _write_wish(self, folder: int, run_id: str, wanted: Wanted, checkpoint_now: bool) -> None:
        known = self._wishes.get(run_id) or run_folder.read_json(folder, run_folder.WANTED) or {}
        wish = {"wanted": wanted.value, "grace_s": 0.0, "checkpoint_seq": 0, **known}
        if not isinstance(wish["checkpoint_seq"], int):  # a job may write here what it likes
            wish["checkpoint_seq"] = 0
        if "grace_s" not in known:
            launch = run_folder.read_json(folder, run_folder.LAUNCH)
            if launch is None:
                raise FileNotFoundError("it was never launched")
            grace_s = launch.get("grace_s")
            wish["grace_s"] = float(grace_s) if isinstance(grace_s, (int, float)) else 0.0
        stopping = known.get("wanted") == Wanted.STOP
        wish["wanted"] = Wanted.STOP.value if stopping else wanted.value
        wish["checkpoint_seq"] += int(checkpoint_now)
        if wish != known:
            run_folder.write_json(folder, run_folder.WANTED, wish)
        self._wishes[run_id] = wish


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    folder = run_folder.open_folder(path)
    try:
        yield folder
    finally:
        os.close(folder)


@contextlib.contextmanager
def _shim_lock(folder: int) -> Iterator[int]:
    """Held from before `launch.json` exists until the shim dies: the shim inherits the descriptor."""
    lock = os.open(
        run_folder.LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
    )
    try:
        if not stat.S_ISREG(os.fstat(lock).st_mode):
            raise FileExistsError
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileExistsError from None
        yield lock
    finally:
        os.close(lock)


def _tail(folder: int, name: str) -> str:
    """The last line of a small text file."""
    handle = run_folder.open_regular(folder, name)
    if handle is None:
        return ""
    with open(handle, "rb") as file:
        lines = file.read(65536).decode(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "")

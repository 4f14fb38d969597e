"""`wattmill serve`: starts the processes of the daemon, watches them, and stops them in order.

    supervisor ─┬─ capd        the only writer of GPU limits
                ├─ gpu-sim     only where the GPUs are simulated
                ├─ controller  the loop, its two solver workers below it
                └─ server      REST and console

Jobs hang on none of these: each has its own shim. Killing everything here leaves them running; the next
`serve` adopts them. Controller and server end with the supervisor, however it ends; capd stays, to bring the
caps down if nobody leads, and makes room for the next one; gpu-sim stays while jobs run, as silicon does.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from api.first_start import prepare
from power.backend import open_backend
from power.device import GpuInfo
from scheduler.config import Config
from scheduler.layout import Layout

log = logging.getLogger("wattmill.serve")

RESTART_PAUSE_S = 0.5
RESTART_PAUSE_MAX_S = 10.0
STOP_GRACE_S = 10.0
_PR_SET_PDEATHSIG = 1


class AlreadyServing(Exception):
    """Another `wattmill serve` uses the same data folder."""


@dataclass
class Child:
    """One process that must be up."""

    name: str
    argv: list[str]
    ends_with_us: bool = False
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    start_after_s: float = 0.0  # monotonic
    started_s: float = 0.0

    def start(self) -> None:
        self.started_s = time.monotonic()
        # Its own session: a Ctrl-C at the terminal reaches only the supervisor, which stops in order.
        self.process = subprocess.Popen(
            self.argv,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_end_with(os.getpid()) if self.ends_with_us else None,
        )
        log.info("started %s, pid %d", self.name, self.process.pid)

    def tend(self) -> None:
        """Start it if it is down, with a growing pause between attempts."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is None:
            return
        if self.process is not None:
            lived_s = now - self.started_s
            self.restarts = 0 if lived_s > 30 else self.restarts + 1
            pause_s = min(RESTART_PAUSE_MAX_S, RESTART_PAUSE_S * 2**self.restarts)
            log.warning(
                "%s ended with %s after %.1f s; starting it again in %.1f s",
                self.name,
                self.process.returncode,
                lived_s,
                pause_s,
            )
            self.process = None
            self.start_after_s = now + pause_s
        if now >= self.start_after_s:
            self.start()

    def stop(self, grace_s: float) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            log.warning("%s did not stop within %.0f s; killing it", self.name, grace_s)
            self.process.kill()
            self.process.wait()


def serve(config: Config) -> int:
    """Run until SIGTERM or Ctrl-C. Returns the exit code.

    Raises AlreadyServing, and what `prepare` raises when the data folder or database cannot be used.
    """
    layout = Layout(config.storage.data_dir)
    layout.create()
    lock = _take_lock(layout.serve_lock)
    config = prepare(config, layout)
    children = _children(config, layout)
    stopping = _StopFlag()
    try:
        while not stopping:
            for child in children:
                child.tend()
            stopping.wait(0.2)
    finally:
        log.info("stopping; jobs and caps stay as they are")
        for child in reversed(children):
            child.stop(STOP_GRACE_S)
        os.close(lock)
    return 0


def _end_with(supervisor: int) -> Callable[[], None]:
    """What a child does before it starts, so that it gets SIGTERM when the supervisor is killed.

    Else an orphaned controller would go on leading, and an orphaned server keep the port, against the next
    `serve`. Safe to run between fork and exec: the supervisor has one thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != supervisor:
            os._exit(1)  # it died before we were tied to it

    return tie


class _StopFlag:
    """Set by SIGTERM or SIGINT; a second signal changes nothing, the stop is already bounded."""

    def __init__(self) -> None:
        self._set = False
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def __bool__(self) -> bool:
        return self._set

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._set = True

    def wait(self, timeout_s: float) -> None:
        end_s = time.monotonic() + timeout_s
        while not self._set and (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(0.05, left_s))


def _take_lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise AlreadyServing(
            f"another wattmill serve holds {path}; stop it, or give this one its own storage.data_dir"
        ) from None
    return fd


def _children(config: Config, layout: Layout) -> list[Child]:
    backend = open_backend(config.gpus.backend, layout.gpu_map)
    infos = [gpu.info for gpu in backend.gpus()]
    backend.close()
    python = sys.executable
    children = [Child("capd", _capd_argv(config, layout, backend.name, infos))]
    if backend.name == "simulated":
        gpu_sim = [python, "-m", "power.gpu_sim", "--map", str(layout.gpu_map)]
        gpu_sim += ["--count", str(config.gpus.simulated_count), "--model", config.gpus.simulated_model]
        children.append(Child("gpu-sim", [*gpu_sim, "--seed", str(config.gpus.simulated_seed)]))
    for name, module in (("controller", "scheduler.daemon"), ("server", "api.server")):
        argv = [python, "-m", module, str(layout.effective_config)]
        children.append(Child(name, argv, ends_with_us=True))
    return children


def _capd_argv(config: Config, layout: Layout, backend: str, infos: list[GpuInfo]) -> list[str]:
    share = config.capd.fail_safe_share
    fail_safe = ",".join(
        f"{i.uuid}={round((i.min_cap_w + share * (i.max_cap_w - i.min_cap_w)) * 1000)}" for i in infos
    )
    argv = [sys.executable, "-m", "power.capd.server", "--socket", str(layout.capd_socket)]
    argv += ["--lock", str(layout.capd_lock), "--backend", backend, "--map", str(layout.gpu_map)]
    argv += ["--allow", ",".join(i.uuid for i in infos), "--lease-s", str(config.capd.lease_s)]
    return [*argv, "--fail-safe", fail_safe, "--journal", str(layout.capd_journal)]

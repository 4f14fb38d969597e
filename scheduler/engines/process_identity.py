"""Which process is this, really? A PID alone proves nothing: PIDs are used again.

Standard library only and quick to import: the shim of every job loads it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Mapping
from typing import NamedTuple

RUN_VARIABLE = "WATTMILL_RUN"
_ENVIRON_LIMIT_BYTES = 8 * 1024 * 1024


class Process(NamedTuple):
    """One line of the process table; `pid` and `start_time` together are unique until the next boot."""

    pid: int
    parent: int
    group: int
    state: str  # R, S, D, T, t, Z, X, ...
    start_time: int  # clock ticks since boot
    threads: int

    @property
    def gone(self) -> bool:
        """Runs no instruction any more: a zombie holds a number, but no GPU and no watt."""
        return self.state in "XZ" and self.threads <= 1

    @property
    def stopped(self) -> bool:
        return self.state in "Tt"


def read_process(pid: int) -> Process | None:
    """None when there is no such process."""
    stat = _read(f"/proc/{pid}/stat", 4096)
    if not stat:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before may hold blanks and brackets
    return Process(pid, int(fields[1]), int(fields[2]), fields[0].decode(), int(fields[19]), int(fields[17]))


def all_processes() -> dict[int, Process]:
    """Every process this machine shows us, zombies included."""
    found = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {process.pid: process for process in found if process is not None}


def descendants(table: Mapping[int, Process], roots: Iterable[int]) -> list[Process]:
    """All processes below `roots`, the roots themselves not included."""
    children: dict[int, list[Process]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process)
    below: dict[int, Process] = {}
    waiting = list(roots)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child.pid not in below:
                below[child.pid] = child
                waiting.append(child.pid)
    return list(below.values())


def environment_run(pid: int) -> str | None:
    """The run a process says it belongs to; None when it says none, or is not ours to read."""
    prefix = RUN_VARIABLE.encode() + b"="
    for entry in _read(f"/proc/{pid}/environ", _ENVIRON_LIMIT_BYTES).split(b"\0"):
        if entry.startswith(prefix):
            return entry[len(prefix) :].decode(errors="replace")
    return None


def processes_by_run() -> dict[str, list[Process]]:
    """Every live process whose environment names a run, with all below it, by run id."""
    table = all_processes()
    roots: dict[str, list[int]] = {}
    for pid in table:
        run_id = environment_run(pid)
        if run_id is not None:
            roots.setdefault(run_id, []).append(pid)
    found = {}
    for run_id, pids in roots.items():
        processes = {pid: table[pid] for pid in pids} | {p.pid: p for p in descendants(table, pids)}
        found[run_id] = [process for process in processes.values() if not process.gone]
    return found


def boot_id() -> str:
    """Names this boot of the machine; no process survives a change of it."""
    return _read("/proc/sys/kernel/random/boot_id", 64).decode().strip()


def send(process: Process, signum: int) -> bool:
    """Signal exactly this process; False when it is gone, its PID is another's by now, or we may not."""
    try:
        handle = os.pidfd_open(process.pid)  # from here on the number cannot change hands under us
    except ProcessLookupError:
        return False
    except OSError:  # a kernel or sandbox without pidfd: check and signal, a few microseconds apart
        handle = -1
    try:
        now = read_process(process.pid)
        if now is None or now.start_time != process.start_time:
            return False
        if handle >= 0:
            signal.pidfd_send_signal(handle, signum)
        else:
            os.kill(process.pid, signum)
    except OSError:
        return False
    finally:
        if handle >= 0:
            os.close(handle)
    return True


class ShimIdentity(NamedTuple):
    """Proof that a process is the shim of one run: boot, PID, start time and the run in its command line."""

    boot_id: str
    pid: int
    start_time: int
    run_id: str

    def holds(self) -> bool:
        """True when the shim still runs. Anything short of a full match is False."""
        process = read_process(self.pid)
        if process is None or process.gone or process.start_time != self.start_time:
            return False
        if self.boot_id != boot_id():
            return False
        arguments = _read(f"/proc/{self.pid}/cmdline", 65536).rstrip(b"\0").split(b"\0")
        return os.path.basename(arguments[-1]) == self.run_id.encode()


def _read(path: str, limit_bytes: int) -> bytes:
    """What is there, b"" when the process is gone or not ours."""
    chunks = []
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while limit_bytes > 0 and (chunk := os.read(handle, min(limit_bytes, 65536))):
                chunks.append(chunk)
                limit_bytes -= len(chunk)
        finally:
            os.close(handle)
    return b"".join(chunks)

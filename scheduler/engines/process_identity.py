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
FOLDER_VARIABLE = "WATTMILL_RUN_DIR"
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
    state = fields[0].decode()
    if state == "D" and _stop_pending(pid):
        # as good as stopped: it runs no instruction before the stop takes effect. A parent in vfork stays
        # like this for as long as its child is stopped before exec
        state = "T"
    return Process(pid, int(fields[1]), int(fields[2]), state, int(fields[19]), int(fields[17]))


def _stop_pending(pid: int) -> bool:
    pending = 0
    for line in _read(f"/proc/{pid}/status", 65536).splitlines():
        name, _, value = line.partition(b":")
        if name in (b"SigPnd", b"ShdPnd"):
            pending |= int(value, 16)
    return bool(pending >> (signal.SIGSTOP - 1) & 1)


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


class Claim(NamedTuple):
    """The run a process says it belongs to, and that run's folder ("" when it names none)."""

    run_id: str
    folder: str

    def means(self, run_id: str, folder: os.stat_result) -> bool:
        """True for this very run. A copied data directory has the same run ids, but other folders; where the
        folder it names is gone (the data directory was moved), the id decides.
        """
        if self.run_id != run_id:
            return False
        try:
            return os.path.samestat(os.stat(self.folder), folder)
        except (OSError, ValueError):
            return True


def environment_claim(pid: int) -> Claim | None:
    """None when the process names no run, or is not ours to read."""
    entries = _read(f"/proc/{pid}/environ", _ENVIRON_LIMIT_BYTES).split(b"\0")
    named = dict(
        entry.split(b"=", 1) for entry in entries if entry.startswith(b"WATTMILL_RUN") and b"=" in entry
    )
    run_id = named.get(RUN_VARIABLE.encode())
    if run_id is None:
        return None
    return Claim(run_id.decode(errors="replace"), os.fsdecode(named.get(FOLDER_VARIABLE.encode(), b"")))


def processes_by_run(runs: str) -> dict[str, list[Process]]:
    """Every live process whose environment names a run in the folder `runs`, with all below it, by run id."""
    table = all_processes()
    roots: dict[str, list[int]] = {}
    for pid in table:
        claim = environment_claim(pid)
        if claim is None:
            continue
        with contextlib.suppress(OSError, ValueError):  # no such run here: another installation's
            if claim.means(claim.run_id, os.stat(os.path.join(runs, claim.run_id))):
                roots.setdefault(claim.run_id, []).append(pid)
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

"""The processes on simulated GPUs: found through /proc, measured by CPU time, paced by SIGSTOP and SIGCONT.

A process is on a GPU when its environment's CUDA_VISIBLE_DEVICES lists the GPU's UUID, whoever started
it. Processes with the same GPUs and the same run are a gang: they stop and go together.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
# A process may still exec into its job after it was first seen: look again while it is young,
# and now and then later, which also heals a reused pid.
_YOUNG_SIGHTINGS: Final = 4
_LOOK_AGAIN_EVERY: Final = 8
# Less CPU than this share of the time it was allowed to run: waiting, not working.
_BUSY_CPU_SHARE: Final = 0.04
_DEBT_LIMIT_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class ProcStat:
    """The part of /proc/PID/stat that pacing needs."""

    state: str
    start_ticks: int
    cpu_s: float


def read_stat(pid: int) -> ProcStat | None:
    """None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    # Counted from the state, the third field of proc(5): 11 and 12 are CPU ticks, 19 is the start.
    return ProcStat(fields[0].decode(), int(fields[19]), (int(fields[11]) + int(fields[12])) / _TICKS_PER_S)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a process's environment says: the GPUs of ours that it is on, and the run it is part of."""

    uuids: frozenset[str]
    run_dir: str
    workload: str

    @property
    def gang(self) -> str:
        return self.run_dir or ",".join(sorted(self.uuids))


@dataclass(slots=True)
class _Sighting:
    claim: Claim | None
    count: int = 1


@dataclass(slots=True)
class _Member:
    claim: Claim
    start_ticks: int
    cpu_s: float
    held: bool = False  # stopped by us


@dataclass(slots=True)
class Gang:
    """Processes that are paced as one. `debt_s` is running time they are owed."""

    run_dir: str
    workload: str
    members: dict[int, _Member] = field(default_factory=dict)
    going: bool = True
    debt_s: float = 0.0
    run_s: float = 0.0  # time they were allowed to run
    cpu_s: float = 0.0  # CPU they used
    _history: deque[tuple[float, float]] = field(default_factory=lambda: deque([(0.0, 0.0)], maxlen=3))

    @property
    def uuids(self) -> frozenset[str]:
        return frozenset().union(*(member.claim.uuids for member in self.members.values()))

    def pids_on(self, uuid: str) -> list[int]:
        return [pid for pid, member in self.members.items() if uuid in member.claim.uuids]

    @property
    def frozen(self) -> bool:
        """Whether the run is frozen by its shim: then nobody else may let it go on."""
        return bool(self.run_dir) and os.path.exists(f"{self.run_dir}/frozen")

    def measure(self) -> None:
        """Add the CPU time used since the last call; call about twice a second."""
        for pid, member in list(self.members.items()):
            stat = read_stat(pid)
            if stat is None or stat.start_ticks != member.start_ticks or stat.state in "ZX":
                del self.members[pid]
                continue
            self.cpu_s += max(0.0, stat.cpu_s - member.cpu_s)
            member.cpu_s = stat.cpu_s
        self._history.append((self.run_s, self.cpu_s))

    def busy(self) -> bool:
        """Whether it worked in the last second or so of the time it was allowed to run."""
        run_s = self._history[-1][0] - self._history[0][0]
        cpu_s = self._history[-1][1] - self._history[0][1]
        return cpu_s > 0 and cpu_s >= _BUSY_CPU_SHARE * run_s

    def pace(self, duty: float, elapsed_s: float) -> None:
        """Stop or continue so that over time the gang runs `duty` of the time (sigma-delta)."""
        ran_s = elapsed_s if self.going else 0.0
        self.run_s += ran_s
        self.debt_s = min(_DEBT_LIMIT_S, max(-_DEBT_LIMIT_S, self.debt_s + duty * elapsed_s - ran_s))
        if duty >= 0.995:
            self.debt_s = 0.0
        self._drive(going=self.debt_s >= 0.0 and not self.frozen)

    def release(self) -> None:
        """Let everything go that we stopped, except a frozen run."""
        if not self.frozen:
            self._drive(going=True)

    def _drive(self, *, going: bool) -> None:
        self.going = going
        for pid, member in self.members.items():
            if member.held != going:
                continue
            stat = read_stat(pid)
            if stat is None or stat.start_ticks != member.start_ticks:
                continue
            if going:
                member.held = False
                _signal(pid, signal.SIGCONT)
            elif stat.state not in "Tt":  # else somebody else stopped it, and it is theirs to continue
                member.held = True
                _signal(pid, signal.SIGSTOP)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


class ProcessTable:
    """Every process on GPUs of ours, in gangs."""

    def __init__(self, uuids: Iterable[str], proc: Path = Path("/proc")) -> None:
        self._uuids = frozenset(uuids)
        self._proc = proc
        self._sightings: dict[int, _Sighting] = {}
        self._never = _self_and_ancestors()
        self._gangs: dict[str, Gang] = {}

    @property
    def gangs(self) -> list[Gang]:
        return list(self._gangs.values())

    def scan(self, held_uuids: frozenset[str] = frozenset()) -> None:
        """Look for new and gone processes.

        `held_uuids` are GPUs on which a predecessor died holding processes: those found stopped there
        count as stopped by us.
        """
        alive = {int(name) for name in os.listdir(self._proc) if name.isdigit()} - self._never
        for pid in self._sightings.keys() - alive:
            del self._sightings[pid]
        for pid in alive:
            claim = self._look(pid)
            if claim is not None:
                self._enlist(pid, claim, held_uuids)
        for name, gang in list(self._gangs.items()):
            gang.measure()
            if not gang.members:
                del self._gangs[name]

    def _look(self, pid: int) -> Claim | None:
        seen = self._sightings.get(pid)
        if seen is None:
            seen = self._sightings[pid] = _Sighting(_claim_of(self._proc, pid, self._uuids))
            return seen.claim
        seen.count += 1
        if seen.count <= _YOUNG_SIGHTINGS or seen.count % _LOOK_AGAIN_EVERY == 0:
            seen.claim = _claim_of(self._proc, pid, self._uuids)
        return seen.claim

    def _enlist(self, pid: int, claim: Claim, held_uuids: frozenset[str]) -> None:
        gang = self._gangs.get(claim.gang)
        if gang is not None and pid in gang.members:
            return
        stat = read_stat(pid)
        if stat is None or stat.state in "ZX":
            return
        if gang is None:
            gang = self._gangs[claim.gang] = Gang(claim.run_dir, claim.workload)
        held = stat.state == "T" and not held_uuids.isdisjoint(claim.uuids)
        gang.members[pid] = _Member(claim, stat.start_ticks, stat.cpu_s, held)


def _claim_of(proc: Path, pid: int, uuids: frozenset[str]) -> Claim | None:
    try:
        with open(f"{proc}/{pid}/environ", "rb") as file:
            content = file.read()
    except OSError:
        return None
    if b"CUDA_VISIBLE_DEVICES=" not in content:
        return None
    pairs = (entry.partition(b"=") for entry in content.split(b"\0"))
    env = {name: os.fsdecode(value) for name, _, value in pairs}
    listed = {token.strip() for token in env.get(b"CUDA_VISIBLE_DEVICES", "").split(",")}
    ours = listed & uuids
    if not ours:
        return None
    return Claim(frozenset(ours), env.get(b"WATTMILL_RUN_DIR", ""), env.get(b"WATTMILL_WORKLOAD", ""))


def _self_and_ancestors() -> frozenset[int]:
    """Never to be stopped: whoever we would wake up with."""
    found = set()
    pid = os.getpid()
    while pid > 0:
        found.add(pid)
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            break
    return frozenset(found)

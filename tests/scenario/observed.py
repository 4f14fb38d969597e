"""What a test sees of a job from outside: its duty, its speed per CPU second, and the watts of the site."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from power.simulated import SimulatedBackend

CLOCK_TICKS_PER_S = 100.0


def duty(pids: set[int], seconds: float = 3.0) -> float:
    """The share of time (0..1) in which a job's processes were not held stopped; looks 50 times a second.

    Jobs share the cores of a test machine, so their wall-clock speed says little; their duty is the throttle.
    """
    looks = held = 0
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        states = [state for state in map(_state, pids) if state]
        looks += len(states)
        held += states.count("T")
        time.sleep(0.02)
    return 1.0 - held / looks if looks else 0.0


def cpu_s(pids: set[int]) -> float:
    """CPU seconds that these processes have used."""
    return sum(_cpu_ticks(pid) for pid in pids) / CLOCK_TICKS_PER_S


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else ""


def _cpu_ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


@dataclass
class Meter:
    """Integrates watts and watts x price by itself, straight from the GPUs, twenty times a second."""

    gpu_map: Path
    price: Callable[[], float]
    energy_j: float = 0.0
    cost: float = 0.0
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)

    def _run(self) -> None:
        backend = SimulatedBackend(self.gpu_map)
        before_s, before_w = time.monotonic(), self._watts(backend)
        while not self._stop.wait(0.05):
            now_s, now_w = time.monotonic(), self._watts(backend)
            joules = (before_w + now_w) / 2 * (now_s - before_s)
            self.energy_j += joules
            self.cost += joules / 3.6e9 * self.price()
            before_s, before_w = now_s, now_w
        backend.close()

    @staticmethod
    def _watts(backend: SimulatedBackend) -> float:
        return sum(gpu.read().power_w or 0.0 for gpu in backend.gpus())

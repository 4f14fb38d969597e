"""The `gpu-sim` process: driver and silicon of simulated GPUs. It knows nothing of who schedules on them.

It finds the processes on its GPUs, lets them draw power, and really throttles them: at a lower limit
they get less time to run. One per map; a second one waits as standby for the first to go.

    python -m power.gpu_sim --map gpus.map --count 8 --model A40 --seed 0
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from power.device import DeviceError
from power.gpu_load import Gang, ProcessTable
from power.gpu_map import STALE_AFTER_S, GpuMap, Header, Word, create_map, lock_path
from power.gpu_physics import GpuPhysics, GpuState, Load

_BUSY_TICK_S: Final = 0.05
_IDLE_TICK_S: Final = 0.2
_SCAN_S: Final = 0.5
_STANDBY_S: Final = 0.2
_LEAST_PACE: Final = 0.05


class GpuSim:
    """The simulation of one map, moved by calls to `tick`."""

    def __init__(self, gpu_map: GpuMap) -> None:
        self._map = gpu_map
        seed = gpu_map.header(Header.SEED)
        self._gpus = [_resume(gpu_map, index, seed) for index in range(gpu_map.count)]
        self._by_uuid = {gpu.info.uuid: gpu for gpu in self._gpus}
        self._table = ProcessTable(self._by_uuid)
        self._table.scan(self._left_held())
        self._ticked_at_s = time.monotonic()
        self._scanned_at_s = self._ticked_at_s

    @property
    def loaded(self) -> bool:
        """Whether any process is on any of the GPUs."""
        return bool(self._table.gangs)

    def tick(self) -> None:
        """Move everything from the last tick to now."""
        now_s = time.monotonic()
        # A longer gap (a suspended machine, a stopped gpu-sim) is not simulated time.
        elapsed_s = min(now_s - self._ticked_at_s, STALE_AFTER_S)
        self._ticked_at_s = now_s
        if now_s - self._scanned_at_s >= _SCAN_S:
            self._scanned_at_s = now_s
            self._table.scan()
        for gpu in self._gpus:
            gpu.settle(self._map.number(gpu.info.index, Word.LIMIT_W), elapsed_s)
        paced = [(gang, self._pace(gang)) for gang in self._table.gangs]
        self._mark_held(held=any(pace < 1.0 for _, pace in paced))
        for gang, pace in paced:
            gang.pace(pace, elapsed_s)
        for gpu in self._gpus:
            here = [(gang, pace, pids) for gang, pace in paced if (pids := gang.pids_on(gpu.info.uuid))]
            gpu.step(_load(gpu, here), elapsed_s)
            self._publish(gpu, tuple(sorted(pid for _, _, pids in here for pid in pids)))
        self._map.set_header(Header.TICKS, self._map.header(Header.TICKS) + 1)
        self._map.set_header(Header.TICKED_AT_NS, time.monotonic_ns())

    def release(self) -> None:
        """Leave nothing stopped."""
        for gang in self._table.gangs:
            gang.release()
        self._mark_held(held=False)

    def _pace(self, gang: Gang) -> float:
        """A synchronous gang runs at the pace of its slowest GPU."""
        slowest = min(self._by_uuid[uuid].throughput(gang.workload) for uuid in gang.uuids)
        return 1.0 if slowest >= 0.995 else max(_LEAST_PACE, slowest)

    def _left_held(self) -> frozenset[str]:
        held = (gpu for gpu in self._gpus if self._map.integer(gpu.info.index, Word.HELD))
        return frozenset(gpu.info.uuid for gpu in held)

    def _mark_held(self, *, held: bool) -> None:
        # Before the first SIGSTOP: a successor must know, whenever we die, that stopped ones are ours.
        for gpu in self._gpus:
            self._map.set_integer(gpu.info.index, Word.HELD, int(held))

    def _publish(self, gpu: GpuPhysics, pids: tuple[int, ...]) -> None:
        index, state = gpu.info.index, gpu.state
        numbers = (
            (Word.POWER_W, state.power_w),
            (Word.ENERGY_J, state.energy_j),
            (Word.UTILIZATION, state.utilization),
            (Word.TEMPERATURE_C, state.temperature_c),
            (Word.SM_CLOCK_HZ, state.sm_clock_hz),
            (Word.SETTLED_W, state.settled_w),
            (Word.DEMAND, state.demand),
            (Word.PACE, state.pace),
        )
        for word, value in numbers:
            self._map.set_number(index, word, value)
        self._map.set_integer(index, Word.MEMORY_USED_BYTES, state.memory_used_bytes)
        self._map.set_integer(index, Word.THROTTLE_BITS, state.throttle_bits)
        self._map.set_pids(index, pids)


def _resume(gpu_map: GpuMap, index: int, seed: int) -> GpuPhysics:
    """Physics that go on where the map says a predecessor stopped."""
    state = GpuState(
        settled_w=gpu_map.number(index, Word.SETTLED_W),
        power_w=gpu_map.number(index, Word.POWER_W),
        energy_j=gpu_map.number(index, Word.ENERGY_J),
    )
    temperature_c = gpu_map.number(index, Word.TEMPERATURE_C)
    if temperature_c == temperature_c:  # not NaN: somebody simulated before
        state.temperature_c = temperature_c
    return GpuPhysics(gpu_map.info(index), seed=seed, state=state)


def _load(gpu: GpuPhysics, here: list[tuple[Gang, float, list[int]]]) -> Load | None:
    """Everything on one GPU as one load; the busiest, then the hungriest, stands for all."""
    if not here:
        return None
    gang, pace, _ = max(here, key=lambda entry: (entry[0].busy(), gpu.truth(entry[0].workload).demand_w))
    return Load(
        workload=gang.workload,
        busy=gang.busy(),
        throughput=pace,
        process_count=sum(len(pids) for _, _, pids in here),
    )


class _Stop:
    """Set by SIGTERM, SIGINT and SIGHUP."""

    asked = False

    def __init__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: object) -> None:
        self.asked = True


@contextmanager
def _only_one(map_path: Path, stop: _Stop, parent: int) -> Iterator[bool]:
    """Hold the map's lock; False when asked to stop (or left by the parent) while waiting for it."""
    with open(lock_path(map_path), "a+b") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if stop.asked or os.getppid() != parent:
                    yield False
                    return
                time.sleep(_STANDBY_S)
            else:
                file.truncate(0)
                file.write(f"{os.getpid()}\n".encode())  # for people who wonder who holds it
                file.flush()
                yield True
                return


def run(map_path: Path, stop: _Stop, parent: int) -> None:
    """Simulate until asked to stop, or until the parent is gone and the GPUs are empty."""
    with _only_one(map_path, stop, parent) as ours:
        if not ours:
            return
        gpu_map = GpuMap(map_path)
        sim = GpuSim(gpu_map)
        try:
            while not stop.asked and (sim.loaded or os.getppid() == parent):
                started_s = time.monotonic()
                sim.tick()
                tick_s = _BUSY_TICK_S if sim.loaded else _IDLE_TICK_S
                time.sleep(max(0.005, started_s + tick_s - time.monotonic()))
        finally:
            sim.release()
            gpu_map.close()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gpu-sim", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--map", type=Path, required=True)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--model", default="A40")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    parent = os.getppid()
    stop = _Stop()
    with contextlib.suppress(PermissionError):  # already leads a session
        os.setsid()
    try:
        create_map(arguments.map, arguments.count, arguments.model, arguments.seed)
        run(arguments.map, stop, parent)
    except (DeviceError, ValueError, OSError) as error:
        sys.stderr.write(f"gpu-sim: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

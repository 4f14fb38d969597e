"""Simulated GPUs as a backend: what `nvml.py` is for real ones, over the mapped file of `gpu_map.py`.

Without a running `gpu-sim` limits can be set and read, but what it would measure is unknown.
"""

from __future__ import annotations

from pathlib import Path

from power.device import GpuInfo, GpuLost, GpuReading, NotPermitted
from power.gpu_map import Fault, GpuMap, Word, create_map, reload_driver, set_fault
from power.throttle import reason_names

__all__ = ["Fault", "SimulatedBackend", "SimulatedGpu", "create_map", "reload_driver", "set_fault"]


class SimulatedGpu:
    """One record of the map, seen as a GPU: readable and cappable."""

    def __init__(self, gpu_map: GpuMap, index: int) -> None:
        self._map = gpu_map
        self._index = index
        self._info = gpu_map.info(index)

    @property
    def info(self) -> GpuInfo:
        return self._info

    def read(self) -> GpuReading:
        faults = self._faults()
        moving = self._map.moving()
        return GpuReading(
            power_w=self._moving(Word.POWER_W) if not faults & Fault.POWER_NA else None,
            enforced_cap_w=self._map.number(self._index, Word.LIMIT_W),
            energy_j=self._moving(Word.ENERGY_J) if not faults & Fault.ENERGY_NA else None,
            utilization=self._moving(Word.UTILIZATION),
            memory_used_bytes=self._map.integer(self._index, Word.MEMORY_USED_BYTES) if moving else None,
            temperature_c=self._moving(Word.TEMPERATURE_C),
            sm_clock_hz=self._moving(Word.SM_CLOCK_HZ),
            throttle_reasons=(
                reason_names(self._map.integer(self._index, Word.THROTTLE_BITS)) if moving else ()
            ),
            pids=self._map.pids(self._index) if moving else None,
        )

    def set_cap_w(self, cap_w: float) -> float:
        """See `PowerCappable`. The limit is in force at once; the draw follows within about a second."""
        faults = self._faults()
        if not self._info.min_cap_w <= cap_w <= self._info.max_cap_w:
            raise ValueError(
                f"{self._info.uuid}: {cap_w} W is outside {self._info.min_cap_w} .. {self._info.max_cap_w} W"
            )
        if faults & Fault.NO_PERMISSION:
            raise NotPermitted(f"{self._info.uuid}: this process may not set the power limit")
        if not faults & Fault.SET_IS_NOOP:
            self._map.set_number(self._index, Word.LIMIT_W, cap_w)
        return self._map.number(self._index, Word.LIMIT_W)

    def _faults(self) -> Fault:
        faults = self._map.faults(self._index)
        if faults & Fault.LOST:
            raise GpuLost(f"{self._info.uuid}: the GPU is lost")
        return faults

    def _moving(self, word: Word) -> float | None:
        return self._map.number(self._index, word) if self._map.moving() else None


class SimulatedBackend:
    """All simulated GPUs of one map."""

    name = "simulated"

    def __init__(self, map_path: Path) -> None:
        self._path = map_path
        self._map: GpuMap | None = None
        self._gpus: tuple[SimulatedGpu, ...] = ()

    def gpus(self) -> tuple[SimulatedGpu, ...]:
        if self._map is None:
            self._map = GpuMap(self._path)
            self._gpus = tuple(SimulatedGpu(self._map, index) for index in range(self._map.count))
        return self._gpus

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map, self._gpus = None, ()

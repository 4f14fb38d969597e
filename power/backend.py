"""Which GPUs this process sees: real ones through NVML, or simulated ones."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from power.device import GpuBackend, LibraryMissing
from power.nvml import NvmlBackend
from power.simulated import SimulatedBackend


def open_backend(backend: Literal["auto", "nvml", "simulated"], map_path: Path) -> GpuBackend:
    """Open the backend of this name; `auto` is NVML where it has a GPU, else the simulated `map_path`.

    Nothing is read yet: `gpus()` of the result raises LibraryMissing where there is nothing to see.
    """
    if backend == "simulated":
        return SimulatedBackend(map_path)
    real = NvmlBackend()
    if backend == "nvml" or has_gpus(real):
        return real
    real.close()
    return SimulatedBackend(map_path)


def has_gpus(backend: GpuBackend) -> bool:
    try:
        return len(backend.gpus()) > 0
    except LibraryMissing:
        return False

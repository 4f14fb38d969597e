"""What a GPU must be able to do, as small Protocols; and what can go wrong with it.

Real GPUs (`nvml.py`) and simulated ones (`simulated.py`) are the same kind of thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


class DeviceError(Exception):
    """A GPU or its library refused or failed; the message says which and why."""


class NotPermitted(DeviceError):
    """The caller may read this GPU but not change it (no root, or a container)."""


class NotSupported(DeviceError):
    """This GPU has no such reading or setting."""


class GpuLost(DeviceError):
    """The GPU fell off the bus or its driver is gone; account it at its maximum."""


class LibraryMissing(DeviceError):
    """No NVIDIA library or driver on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuInfo:
    """What does not change while the driver is loaded. Watts as the board states them."""

    uuid: str
    index: int
    model: str
    min_cap_w: float
    max_cap_w: float
    default_cap_w: float
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One look at one GPU. None = this GPU does not say (never zero).

    `enforced_cap_w` is the limit in force, after all limiters; `energy_j` counts up since driver load.
    """

    power_w: float | None
    enforced_cap_w: float | None
    energy_j: float | None
    utilization: float | None  # 0..1
    memory_used_bytes: int | None
    temperature_c: float | None
    sm_clock_hz: float | None
    throttle_reasons: tuple[str, ...]
    pids: tuple[int, ...] | None  # processes that hold the GPU; None = unknown


class Gpu(Protocol):
    """A GPU that can be read."""

    @property
    def info(self) -> GpuInfo: ...

    def read(self) -> GpuReading:
        """Raises GpuLost when the GPU is gone; single missing readings are None."""
        ...


@runtime_checkable
class PowerCappable(Protocol):
    """A GPU whose power limit can be set."""

    def set_cap_w(self, cap_w: float) -> float:
        """Set the limit and return the limit read back, in watts (the caller compares).

        Raises NotPermitted, NotSupported, GpuLost, or ValueError when outside min..max.
        """
        ...


class GpuBackend(Protocol):
    """All GPUs of this machine."""

    @property
    def name(self) -> str:
        """`nvml` or `simulated`."""
        ...

    def gpus(self) -> tuple[Gpu, ...]:
        """In index order. Raises LibraryMissing."""
        ...

    def close(self) -> None: ...

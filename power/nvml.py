"""Real GPUs through NVIDIA's library: the only file that imports pynvml."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import pynvml

from power.curve import board_caps_w
from power.device import (
    DeviceError,
    GpuInfo,
    GpuLost,
    GpuReading,
    LibraryMissing,
    NotPermitted,
    NotSupported,
)
from power.throttle import reason_names

_ERRORS: Final[dict[int, type[DeviceError]]] = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: LibraryMissing,
    pynvml.NVML_ERROR_NO_PERMISSION: NotPermitted,
    pynvml.NVML_ERROR_NOT_SUPPORTED: NotSupported,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: NotSupported,
    pynvml.NVML_ERROR_GPU_IS_LOST: GpuLost,
    pynvml.NVML_ERROR_RESET_REQUIRED: GpuLost,
    pynvml.NVML_ERROR_UNINITIALIZED: GpuLost,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: GpuLost,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: GpuLost,
    pynvml.NVML_ERROR_NOT_FOUND: GpuLost,
    28: GpuLost,  # GPU_NOT_FOUND, a name that older bindings lack
}
# Answers of a library that was started before the driver was reloaded: only a new start helps.
_VOID_LIBRARY: Final = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)
# A lost GPU may come back by a reset, but starting the library is slow and disturbs its neighbours.
_RESTART_FOR_LOST_S: Final = 30.0

_log = logging.getLogger(__name__)


def _device_error(error: Any, what: str) -> DeviceError:
    return _ERRORS.get(error.value, DeviceError)(f"{what}: {error}")


class NvmlGpu:
    """One GPU, known by its UUID: index and handle may change when the driver is reloaded."""

    def __init__(self, backend: NvmlBackend, info: GpuInfo) -> None:
        self._backend = backend
        self._info = info
        self._handle: Any = None
        self._handle_generation = -1

    @property
    def info(self) -> GpuInfo:
        return self._info

    def read(self) -> GpuReading:
        """See `Gpu`. Raises GpuLost when the GPU is gone; a reading that it does not give is None."""
        memory = self._reading(pynvml.nvmlDeviceGetMemoryInfo)
        reasons = self._reading(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        rates = self._reading(pynvml.nvmlDeviceGetUtilizationRates)
        processes = self._reading(_compute_processes)
        celsius = self._reading(lambda h: pynvml.nvmlDeviceGetTemperature(h, pynvml.NVML_TEMPERATURE_GPU))
        megahertz = self._reading(lambda h: pynvml.nvmlDeviceGetClockInfo(h, pynvml.NVML_CLOCK_SM))
        return GpuReading(
            power_w=_per_thousand(self._reading(pynvml.nvmlDeviceGetPowerUsage)),
            enforced_cap_w=_per_thousand(self._reading(pynvml.nvmlDeviceGetEnforcedPowerLimit)),
            energy_j=_per_thousand(self._reading(pynvml.nvmlDeviceGetTotalEnergyConsumption)),
            utilization=None if rates is None else rates.gpu / 100.0,
            memory_used_bytes=None if memory is None else int(memory.used),
            temperature_c=None if celsius is None else float(celsius),
            sm_clock_hz=None if megahertz is None else megahertz * 1e6,
            throttle_reasons=() if reasons is None else reason_names(reasons),
            pids=None if processes is None else tuple(sorted({int(p.pid) for p in processes})),
        )

    def set_cap_w(self, cap_w: float) -> float:
        """See `PowerCappable`."""
        if not self._info.min_cap_w <= cap_w <= self._info.max_cap_w:
            raise ValueError(
                f"{self._info.uuid}: {cap_w} W is outside {self._info.min_cap_w} .. {self._info.max_cap_w} W"
            )
        milliwatt = round(cap_w * 1000)
        # The first version of the setter: the binding of the second one discards the error code.
        self._call(lambda handle: pynvml.nvmlDeviceSetPowerManagementLimit(handle, milliwatt))
        return float(self._call(pynvml.nvmlDeviceGetEnforcedPowerLimit)) / 1000

    def _reading(self, query: Callable[[Any], Any]) -> Any:
        try:
            return self._call(query)
        except GpuLost:
            raise
        except DeviceError:
            return None

    def _call(self, query: Callable[[Any], Any]) -> Any:
        """Run one query; when the GPU seems lost, once more on a fresh start of the library."""
        generation = self._backend.generation
        try:
            return query(self._current_handle())
        except pynvml.NVMLError as error:
            failure = _device_error(error, self._info.uuid)
            urgent = error.value in _VOID_LIBRARY
            if not isinstance(failure, GpuLost) or not self._backend.restart(generation, urgent=urgent):
                raise failure from error
        try:
            return query(self._current_handle())
        except pynvml.NVMLError as error:
            raise _device_error(error, self._info.uuid) from error

    def _current_handle(self) -> Any:
        if self._handle is None or self._handle_generation != self._backend.generation:
            self._handle_generation = self._backend.generation
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(self._info.uuid)
        return self._handle


class NvmlBackend:
    """All NVIDIA GPUs of this machine. The library is loaded at the first `gpus()`."""

    name = "nvml"

    def __init__(self) -> None:
        self.generation = 0  # counts library starts; handles of an older one are void
        self._started_at_s = 0.0
        self._lock = threading.Lock()
        self._gpus: tuple[NvmlGpu, ...] | None = None

    def gpus(self) -> tuple[NvmlGpu, ...]:
        if self._gpus is None:
            with self._lock:
                self._start()
            try:
                infos = [_info(index) for index in range(pynvml.nvmlDeviceGetCount())]
            except pynvml.NVMLError as error:
                raise LibraryMissing(f"the NVIDIA library lists no GPUs: {error}") from error
            self._gpus = tuple(NvmlGpu(self, info) for info in infos if info is not None)
        return self._gpus

    def driver_version(self) -> str | None:
        """The driver's own version, None while the library is not loaded."""
        try:
            return str(pynvml.nvmlSystemGetDriverVersion())
        except pynvml.NVMLError:
            return None

    def restart(self, seen_generation: int, *, urgent: bool) -> bool:
        """Start the library anew, once for all GPUs that saw the same one fail; not urgent = rarely.

        Returns whether it is another one than the caller saw. Raises GpuLost when it cannot start.
        """
        with self._lock:
            if self.generation == seen_generation:
                if not urgent and time.monotonic() - self._started_at_s < _RESTART_FOR_LOST_S:
                    return False
                self._stop()
                try:
                    self._start()
                except LibraryMissing as error:
                    raise GpuLost(str(error)) from error
        return True

    def close(self) -> None:
        with self._lock:
            self._stop()
            self._gpus = None

    def _start(self) -> None:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise LibraryMissing(f"the NVIDIA library cannot start: {error}") from error
        self.generation += 1
        self._started_at_s = time.monotonic()

    def _stop(self) -> None:
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            return  # it was not running; there is nothing to undo


def _info(index: int) -> GpuInfo | None:
    """What the GPU at `index` is; None for one that is lost before anybody knew its name."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid = str(pynvml.nvmlDeviceGetUUID(handle))
        model = str(pynvml.nvmlDeviceGetName(handle))
        least_w, highest_w = _cap_range_w(handle, model)
        default = _if_supported(pynvml.nvmlDeviceGetPowerManagementDefaultLimit, handle)
        memory = _if_supported(pynvml.nvmlDeviceGetMemoryInfo, handle)
    except pynvml.NVMLError as error:
        if not issubclass(_ERRORS.get(error.value, DeviceError), GpuLost):
            raise
        _log.warning("GPU %d cannot be identified and is left out: %s", index, error)
        return None
    return GpuInfo(
        uuid=uuid,
        index=index,
        model=model,
        min_cap_w=least_w,
        max_cap_w=highest_w,
        default_cap_w=highest_w if default is None else default / 1000,
        memory_bytes=0 if memory is None else int(memory.total),
    )


def _cap_range_w(handle: Any, model: str) -> tuple[float, float]:
    """Least and highest cap; both the same where the board has no settable limit."""
    constraints = _if_supported(pynvml.nvmlDeviceGetPowerManagementLimitConstraints, handle)
    if constraints is not None:
        return constraints[0] / 1000, constraints[1] / 1000
    enforced = _if_supported(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    fixed_w = board_caps_w(model)[1] if enforced is None else enforced / 1000
    return fixed_w, fixed_w


def _if_supported(query: Callable[[Any], Any], handle: Any) -> Any:
    try:
        return query(handle)
    except pynvml.NVMLError as error:
        if issubclass(_ERRORS.get(error.value, DeviceError), GpuLost):
            raise
        return None


def _compute_processes(handle: Any) -> Any:
    try:
        return pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_INSUFFICIENT_SIZE:
            raise
    # More processes came between the count and the list.
    return pynvml.nvmlDeviceGetComputeRunningProcesses(handle)


def _per_thousand(value: int | None) -> float | None:
    return None if value is None else value / 1000

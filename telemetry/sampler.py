"""Look at every GPU at once; one that fails or hangs costs only its own sample."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from power.clock import Clock
from power.device import DeviceError, Gpu, GpuBackend, GpuReading
from power.lane import Lane
from telemetry.energy import Meter
from telemetry.sample import GpuSample


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyMark:
    """Where a GPU's energy stood: its raw counter, and the joules of grid time counted up to it."""

    counter_j: float
    energy_j: float


@dataclass(frozen=True, slots=True)
class _Look:
    reading: GpuReading
    at: datetime
    monotonic_s: float


class _Watched:
    """One GPU with its lane, its meter (real joules) and the look that is under way."""

    def __init__(self, gpu: Gpu, mark: EnergyMark | None, rate: float) -> None:
        self.gpu = gpu
        self.lane = Lane(gpu.info.uuid)
        self.pending: Future[_Look] | None = None
        self.meter = Meter()
        if mark is not None:
            self.meter = Meter(total_j=mark.energy_j / rate, counter_j=mark.counter_j)


class Sampler:
    """All GPUs of a backend, read in parallel on one thread each.

    Pass the `marks()` of an earlier process as `resume`, and what the counters went up by in between is
    counted too.
    """

    def __init__(
        self,
        backend: GpuBackend,
        clock: Clock,
        *,
        read_timeout_s: float = 0.5,
        resume: Mapping[str, EnergyMark] | None = None,
    ) -> None:
        """Raises LibraryMissing."""
        marks = resume or {}
        self._clock = clock
        self._timeout_s = read_timeout_s
        self._watched = [_Watched(gpu, marks.get(gpu.info.uuid), clock.rate) for gpu in backend.gpus()]

    def sample(self) -> tuple[GpuSample, ...]:
        """One sample per GPU in the backend's order, within `read_timeout_s` for all of them together."""
        for watched in self._watched:
            if watched.pending is None or watched.pending.done():  # a late answer is an old one: drop it
                watched.pending = watched.lane.submit(partial(self._look, watched.gpu))
        wait([w.pending for w in self._watched if w.pending is not None], timeout=self._timeout_s)
        return tuple(self._collected(watched) for watched in self._watched)

    def marks(self) -> dict[str, EnergyMark]:
        """What to keep, so that a later process counts on; GPUs without a counter have none."""
        return {
            w.gpu.info.uuid: EnergyMark(
                counter_j=w.meter.counter_j, energy_j=w.meter.total_j * self._clock.rate
            )
            for w in self._watched
            if w.meter.counter_j is not None
        }

    def close(self) -> None:
        """End the threads; one that hangs is left behind."""
        for watched in self._watched:
            watched.lane.close()

    def _look(self, gpu: Gpu) -> _Look:
        reading = gpu.read()
        return _Look(reading, self._clock.now(), self._clock.monotonic_s())

    def _collected(self, watched: _Watched) -> GpuSample:
        assert watched.pending is not None
        if not watched.pending.done():
            return self._failed(watched, f"no answer within {self._timeout_s} s")
        future, watched.pending = watched.pending, None
        try:
            look = future.result()
        except DeviceError as error:
            return self._failed(watched, str(error))
        except Exception as error:  # noqa: BLE001 - a broken driver must not take the others' samples with it
            return self._failed(watched, f"{type(error).__name__}: {error}")
        watched.meter = watched.meter.advanced(
            look.monotonic_s,
            counter_j=look.reading.energy_j,
            power_w=look.reading.power_w,
            ceiling_w=watched.gpu.info.max_cap_w,
        )
        return GpuSample(
            info=watched.gpu.info,
            at=look.at,
            monotonic_s=look.monotonic_s,
            reading=look.reading,
            energy_j=watched.meter.total_j * self._clock.rate,
        )

    def _failed(self, watched: _Watched, error: str) -> GpuSample:
        return GpuSample(
            info=watched.gpu.info,
            at=self._clock.now(),
            monotonic_s=self._clock.monotonic_s(),
            reading=None,
            energy_j=watched.meter.total_j * self._clock.rate,
            error=error,
        )

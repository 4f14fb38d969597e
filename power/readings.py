"""One look at many GPUs, in columns: what `GpuReading` is for one, as far as watts are reckoned from it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.device import GpuReading

NONSENSE = math.inf  # a figure that is no number: said, and not to be believed


class Processes(IntEnum):
    """Whose processes hold a GPU is not known here; only whether any do."""

    UNKNOWN = -1
    NONE = 0
    SOME = 1


@dataclass(frozen=True, kw_only=True)
class Readings:
    """A row per GPU. NaN = the GPU does not say (never zero); where nothing could be read, `read` is False.

    `at_s` is when the look was taken, on the monotonic clock.
    """

    read: Bools
    at_s: Floats
    power_w: Floats
    enforced_cap_w: Floats  # the limit in force, after all limiters
    utilization: Floats  # 0..1
    processes: Ints  # Processes

    @classmethod
    def of(cls, looks: Iterable[tuple[GpuReading | None, float]]) -> Readings:
        """From single readings and their times. A figure that is not a number becomes infinite: nonsense."""
        rows = [_row(reading, at_s) for reading, at_s in looks]
        table = np.array(rows, dtype=np.float64).reshape(len(rows), 6).T
        return cls(
            read=table[0] > 0,
            at_s=table[1],
            power_w=table[2],
            enforced_cap_w=table[3],
            utilization=table[4],
            processes=table[5].astype(np.int64),
        )

    @classmethod
    def nothing(cls, count: int) -> Readings:
        """GPUs of which nothing was read yet."""
        return cls.of([(None, -math.inf)] * count)

    def __len__(self) -> int:
        return len(self.read)

    def at(self, rows: Ints) -> Readings:
        """Some of the rows, in this order."""
        return Readings(
            read=self.read[rows],
            at_s=self.at_s[rows],
            power_w=self.power_w[rows],
            enforced_cap_w=self.enforced_cap_w[rows],
            utilization=self.utilization[rows],
            processes=self.processes[rows],
        )

    def put(self, rows: Ints | slice, newer: Readings) -> None:
        """Write newer looks at some of the rows into these columns."""
        for name, column in vars(self).items():
            column[rows] = getattr(newer, name)


def _row(reading: GpuReading | None, at_s: float) -> tuple[float, ...]:
    if reading is None:
        return 0.0, at_s, math.nan, math.nan, math.nan, Processes.UNKNOWN
    pids = reading.pids
    processes = Processes.UNKNOWN if pids is None else Processes.SOME if pids else Processes.NONE
    figures = (reading.power_w, reading.enforced_cap_w, reading.utilization)
    return 1.0, at_s, *map(_figure, figures), processes


def _figure(value: float | None) -> float:
    if value is None:
        return math.nan
    return NONSENSE if math.isnan(value) else value

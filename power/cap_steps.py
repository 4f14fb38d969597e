"""What each watt more is worth to a job: gains over a grid of caps, and their concave steps. Pure.

Rows are jobs, columns are caps of one GPU from the job's floor to its ceiling; gains are money per hour and
GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from power.curve import CapCurve

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

_SAME_W = 1e-9
_SAME_SHARE = 1e-9  # of a job's value: not worth telling apart


@dataclass(frozen=True, slots=True)
class Worth:
    """What one GPU of a job brings at a cap: value of work less energy."""

    curve: CapCurve
    value_per_gpu_h: float
    energy_price_per_mwh: float

    def at(self, cap_w: float) -> float:
        """Money per hour."""
        energy = self.energy_price_per_mwh / 1e6 * self.curve.power_w(cap_w)
        return self.value_per_gpu_h * self.curve.throughput(cap_w) - energy


@dataclass(frozen=True, slots=True)
class GainGrid:
    """Gains of all jobs on their grids; `slack` bounds how far a gain rises above its chord in between.

    `top` is the column of a job's economic cap: watts above it cost more than they bring.
    """

    caps_w: Floats  # jobs x columns
    gains: Floats  # jobs x columns
    slack: Floats  # jobs x (columns - 1)
    top: Ints

    @property
    def economic_w(self) -> Floats:
        chosen: Floats = np.take_along_axis(self.caps_w, self.top[:, None], axis=1)[:, 0]
        return chosen


@dataclass(frozen=True, slots=True)
class Steps:
    """Rises of caps, in each job from its floor up with falling slope (money per hour and watt)."""

    job: Ints
    length_w: Floats  # of one GPU's cap
    slope: Floats


def gain_grid(worths: Sequence[Worth], floors_w: Floats, ceilings_w: Floats) -> GainGrid:
    """Tabulate every job between its floor and its ceiling; finer where there are few jobs."""
    levels = next(n for n in (256, 128, 64, 32) if n * len(worths) <= 32_000 or n == 32)
    tables = [_table(w.curve, levels) for w in worths]
    value = np.array([w.value_per_gpu_h for w in worths])[:, None]
    price = np.array([w.energy_price_per_mwh for w in worths])[:, None] / 1e6
    grid = np.stack([t.caps_w for t in tables])
    low, high = floors_w[:, None], ceilings_w[:, None]
    caps_w = np.clip(grid, low, high)
    gains = value * np.stack([t.throughput for t in tables]) - price * np.stack([t.power_w for t in tables])
    at_low = np.array([w.at(cap) for w, cap in zip(worths, floors_w.tolist(), strict=True)])[:, None]
    at_high = np.array([w.at(cap) for w, cap in zip(worths, ceilings_w.tolist(), strict=True)])[:, None]
    gains = np.where(grid <= low, at_low, np.where(grid >= high, at_high, gains))
    slack = value * np.stack([t.throughput_slack for t in tables])
    slack = slack + np.abs(price) * np.stack([t.power_slack for t in tables])
    slack[np.diff(caps_w, axis=1) <= _SAME_W] = 0.0
    top = gains.argmax(axis=1)
    flat = gains[:, -1] >= gains.max(axis=1) - _SAME_SHARE * np.abs(value[:, 0])
    top[flat] = levels  # nothing is lost at the ceiling, so nothing holds the cap below it
    return GainGrid(caps_w, gains, slack, top)


def concave_steps(grid: GainGrid) -> Steps:
    """The upper concave hull of each job's gains, from its floor to its economic cap, cut into steps."""
    lengths = np.diff(grid.caps_w, axis=1)
    real = (lengths > _SAME_W) & (np.arange(lengths.shape[1])[None, :] < grid.top[:, None])
    slopes = np.diff(grid.gains, axis=1) / np.where(real, lengths, 1.0)
    both = real[:, 1:] & real[:, :-1]
    bent_up = np.logical_or.reduce(both & (slopes[:, 1:] > slopes[:, :-1] + 1e-12), axis=1)
    plain = real & ~bent_up[:, None]
    jobs, columns = np.nonzero(plain)
    hull = [s for job in np.nonzero(bent_up)[0].tolist() for s in _hull_steps(grid, job, _columns(real, job))]
    more = np.array(hull, dtype=np.float64).reshape(-1, 3)
    return Steps(
        np.concatenate([jobs, more[:, 0].astype(np.int64)]),
        np.concatenate([lengths[jobs, columns], more[:, 1]]),
        np.maximum(np.concatenate([slopes[jobs, columns], more[:, 2]]), 0.0),
    )


def _hull_steps(grid: GainGrid, job: int, columns: Ints) -> Iterator[tuple[int, float, float]]:
    points = [*columns.tolist(), int(columns[-1]) + 1]
    caps_w, gains = grid.caps_w[job, points].tolist(), grid.gains[job, points].tolist()
    hull: list[tuple[float, float]] = []
    for cap_w, gain in zip(caps_w, gains, strict=True):
        while len(hull) > 1 and _under_chord(hull[-2], hull[-1], (cap_w, gain)):
            hull.pop()
        hull.append((cap_w, gain))
    for (before_w, before), (after_w, after) in pairwise(hull):
        yield job, after_w - before_w, (after - before) / (after_w - before_w)


def _columns(real: NDArray[np.bool_], job: int) -> Ints:
    return np.nonzero(real[job : job + 1])[1]


def _under_chord(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


@dataclass(frozen=True, slots=True)
class _Table:
    """A curve on an even grid over its whole range, with the slack of each interval."""

    caps_w: Floats
    throughput: Floats
    power_w: Floats
    throughput_slack: Floats
    power_slack: Floats


@lru_cache(maxsize=4096)
def _table(curve: CapCurve, levels: int) -> _Table:
    caps_w = np.linspace(curve.min_cap_w, curve.tdp_w, levels + 1)
    throughput = np.array([curve.throughput(cap) for cap in caps_w.tolist()])
    power_w = np.array([curve.power_w(cap) for cap in caps_w.tolist()])
    return _Table(caps_w, throughput, power_w, _chord_slack(throughput), _chord_slack(power_w))


def _chord_slack(values: Floats) -> Floats:
    """A concave function stays under its neighbouring chords drawn on: so much can it rise above each."""
    bends = np.abs(np.diff(values, n=2))
    left = np.concatenate([bends[:1], bends])  # the bend at the left end of each interval
    right = np.concatenate([bends, bends[-1:]])
    total = left + right
    slack: Floats = np.divide(left * right, total, out=np.zeros_like(total), where=total > 0)
    slack[0], slack[-1] = right[0], left[-1]  # nothing bounds the outer sides but the one bend
    return slack

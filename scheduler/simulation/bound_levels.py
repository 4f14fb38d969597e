"""True curves as few levels of power and throughput that no mix of caps can beat. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.cap_gains import concave
from power.curve_table import CurveTable

VERTICES: Final = 32  # per row; a power of two
_CAPS: Final = 2048  # per curve, from which its polygon is drawn
_ROWS_AT_ONCE: Final = 64
_SAME_SLOPE: Final = 1e-6  # of the steepest: tangents nearer to each other are one
NO_LOSS: Final = 1e-6  # a throughput this near to 1 counts as full speed


@dataclass(frozen=True)
class Levels:
    """A concave polygon per row: `power_w` and `throughput` (0..1) of its corners, rising, of one GPU.

    Whatever caps a job is given, its mean (power, throughput) while it works lies on or under the polygon:
    its sides are tangents to points that no cap between two of a fine grid exceeds (the least power and the
    highest throughput of each interval, as neither falls when the cap rises), and means of points on or under
    a concave line stay there. The first corner has the least power that any cap has, the last the highest.
    """

    power_w: Floats  # rows x VERTICES
    throughput: Floats
    least_w: Floats  # per row: the draw at the least cap, even where the contract forbids to work there

    @cached_property
    def _rises(self) -> tuple[Floats, Floats]:
        """Flat, per corner: what the next one has more, in throughput and in power.

        Repeated corners at the end of a row, and the last one of all, are never left.
        """
        power_w = np.diff(self.power_w, axis=1, append=self.power_w[:, -1:])
        throughput = np.diff(self.throughput, axis=1, append=self.throughput[:, -1:])
        none = (power_w <= 0) & (throughput <= 0)
        return np.where(none, -1.0, throughput).ravel(), np.where(none, 0.0, power_w).ravel()

    @cached_property
    def least_slope(self) -> Floats:
        """Per row: the least throughput per watt, above 0, of any side; infinite where no side rises."""
        faster, dearer_w = (rise.reshape(self.power_w.shape) for rise in self._rises)
        slopes = np.divide(faster, dearer_w, out=np.full_like(faster, np.inf), where=dearer_w > 0)
        return np.asarray(np.where(slopes > 0, slopes, np.inf).min(axis=1))

    def best(self, row: Ints, cost_per_ws: Floats, worth_per_s: Floats) -> tuple[Floats, Floats]:
        """(power, throughput) of the corner of most `worth x throughput - cost x power`, the higher of two.

        Worth is at least 0; a cost may be below 0, where the highest corner is best.
        """
        faster, dearer_w = self._rises
        start = row * VERTICES
        corner = start.copy()
        stride = VERTICES // 2
        while stride:
            side = corner + (stride - 1)
            corner += stride * (worth_per_s * faster[side] >= cost_per_ws * dearer_w[side])
            stride //= 2
        return self.power_w.ravel()[corner], self.throughput.ravel()[corner]


def levels_of(curves: CurveTable, row: Ints, rigid: Bools) -> Levels:
    """One polygon for each of the given rows of `curves`; a `rigid` one is of full speed alone.

    The least power at full speed is that of the least cap that loses no more than `NO_LOSS`.
    """
    power_w, throughput = np.empty((len(row), VERTICES)), np.empty((len(row), VERTICES))
    for first in range(0, len(row), _ROWS_AT_ONCE):
        some = slice(first, min(first + _ROWS_AT_ONCE, len(row)))
        least_w, highest_w = curves.min_cap_w[row[some]], curves.tdp_w[row[some]]
        caps_w = np.linspace(least_w, highest_w, _CAPS, axis=1)
        every = np.broadcast_to(row[some][:, None], caps_w.shape)
        watts, paces = curves.power_w(every, caps_w), curves.throughput(every, caps_w)
        for index, (watt, pace) in enumerate(zip(watts, paces, strict=True), first):
            power_w[index], throughput[index] = _polygon(watt, pace)
    full_w = curves.power_w(row, curves.cap_for(row, np.full(len(row), 1.0 - NO_LOSS)))
    power_w[rigid, :-1], throughput[rigid] = full_w[rigid, None], 1.0
    power_w[rigid, -1] = curves.power_w(row, curves.tdp_w[row])[rigid]
    power_w[rigid, 1:-1] = power_w[rigid, -1:]
    return Levels(power_w, throughput, curves.power_w(row, curves.min_cap_w[row]))


def _polygon(power_w: Floats, throughput: Floats) -> tuple[Floats, Floats]:
    """Corners around one curve, given at caps that rise; the last is repeated to fill the row."""
    lowest_w, highest_w = float(power_w[0]), float(power_w[-1])
    outer_w, outer = power_w, np.append(throughput[1:], throughput[-1])
    if highest_w - lowest_w <= 1e-9 * highest_w:
        return np.full(VERTICES, lowest_w), np.full(VERTICES, float(outer.max()))
    slopes = _tangents(outer_w, outer)
    heights = (outer[None, :] - slopes[:, None] * outer_w[None, :]).max(axis=1)
    between_w = np.diff(heights) / -np.diff(slopes)
    at_w = np.clip(np.concatenate([[lowest_w], between_w, [highest_w]]), lowest_w, highest_w)
    at_w = np.maximum.accumulate(at_w)
    reached = heights[np.append(np.arange(len(slopes)), len(slopes) - 1)] + at_w * np.append(
        slopes, slopes[-1]
    )
    apart = np.diff(at_w, prepend=-np.inf) > 1e-9 * (highest_w - lowest_w)
    at_w, reached = at_w[apart], reached[apart]
    missing = VERTICES - len(at_w)
    return np.pad(at_w, (0, missing), mode="edge"), np.pad(reached, (0, missing), mode="edge")


def _tangents(power_w: Floats, throughput: Floats) -> Floats:
    """Falling slopes of sides, the last 0; at most one fewer than there may be corners."""
    columns = VERTICES - 2
    at_w = np.linspace(power_w[0], power_w[-1], columns + 1)
    reached = concave(np.interp(at_w, power_w, throughput)[None, :], np.array([columns]))[0]
    slopes = np.maximum(np.diff(reached) / np.diff(at_w), 0.0)
    least = _SAME_SLOPE * slopes.max()
    kept: list[float] = []
    for slope in np.minimum.accumulate(slopes).tolist():
        if slope > least and (not kept or slope < kept[-1] - least):
            kept.append(slope)
    return np.array([*kept, 0.0])

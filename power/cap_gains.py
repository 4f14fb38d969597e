"""What each watt more is worth to a job: gains over a grid of caps, and their concave hull. Pure.

Jobs that share a curve, a value and a price are one class: a site has a few hundred, however many jobs it
runs. Rows are classes, columns are caps on an even grid from the board's least to its highest; gains are
money per hour and GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.curve_table import CurveTable

_SAME = 1e-9  # relative: slopes and values not worth telling apart
_BENT = 1e3  # times that: a gain below its hull
_GRIDS = ((256, 100), (128, 1_000))  # columns for up to so many classes
_COARSEST = 64


@dataclass(frozen=True)
class Hull:
    """A concave function per class, linear between the columns of its grid.

    `slopes` (classes x columns) never rise along a row; what lies above the cap of most gain has slopes
    below zero. The number of columns is a power of two.
    """

    least_w: Floats
    step_w: Floats
    values: Floats  # classes x (columns + 1)
    slopes: Floats

    @property
    def columns(self) -> int:
        """Intervals between caps."""
        return int(self.slopes.shape[1])

    @cached_property
    def levels(self) -> Floats:
        """Every price at which a demand changes, falling, down to free."""
        return np.append(np.unique(self.slopes[self.slopes > 0])[::-1], 0.0)

    def count(self, of_class: Ints, price: Floats, *, ties: bool) -> Ints:
        """How many columns of a class bring more than `price` per watt; with `ties`, those that equal it."""
        flat, width = self.slopes.ravel(), self.columns
        start = of_class * width
        found = np.zeros_like(start)
        stride = width // 2
        while stride:
            slope = flat[start + found + (stride - 1)]
            found += stride * ((slope >= price) if ties else (slope > price))
            stride //= 2
        slope = flat[start + found]
        more: Ints = found + ((slope >= price) if ties else (slope > price))
        return more

    def cap_w(self, of_class: Ints, column: Ints) -> Floats:
        """The cap at the upper end of so many columns."""
        watts: Floats = self.least_w[of_class] + self.step_w[of_class] * column
        return watts

    def at(self, of_class: Ints, cap_w: Floats) -> Floats:
        """The value at any cap on the grid's range."""
        column, rest = self._place(of_class, cap_w)
        flat, start = self.values.ravel(), of_class * (self.columns + 1) + column
        left = flat[start]
        value: Floats = left + rest * (flat[start + 1] - left)
        return value

    def slope_at(self, of_class: Ints, cap_w: Floats) -> Floats:
        """What the column that a cap lies in brings per watt."""
        slope: Floats = self.slopes[of_class, self._place(of_class, cap_w)[0]]
        return slope

    def _place(self, of_class: Ints, cap_w: Floats) -> tuple[Ints, Floats]:
        """Column that a cap lies in, and how far into it (0..1)."""
        step_w = self.step_w[of_class]
        place = (cap_w - self.least_w[of_class]) / np.where(step_w > 0, step_w, 1.0)
        column = np.clip(place.astype(np.int64), 0, self.columns - 1)
        return column, np.clip(place - column, 0.0, 1.0)


@dataclass(frozen=True)
class GainTable:
    """Gains of the classes, the hull that decides, and one that no true gain between the columns exceeds."""

    gains: Floats  # classes x (columns + 1)
    hull: Hull
    upper: Hull
    top: Ints  # the last column of most gain: watts above it cost more than they bring
    worth: Floats  # per class: money that is not worth telling apart

    @property
    def chords(self) -> Hull:
        """The gains themselves, straight from column to column; its slopes are the hull's."""
        return replace(self.hull, values=self.gains)

    def wanted_w(self, of_class: Ints, floor_w: Floats, ceiling_w: Floats) -> Floats:
        """The economic cap of each job; the higher of two equals.

        Above the cap of most gain only energy is left to tell caps apart: where that too has flattened out,
        nothing is lost at the ceiling, so nothing holds the cap below it.
        """
        wanted_w = np.clip(self.hull.cap_w(of_class, self.top[of_class]), floor_w, ceiling_w)
        above = np.nonzero((wanted_w <= floor_w) & (ceiling_w > floor_w))[0]
        kind = of_class[above]
        lost = self.chords.at(kind, floor_w[above]) - self.chords.at(kind, ceiling_w[above])
        flat = above[lost <= self.worth[kind]]
        wanted_w[flat] = ceiling_w[flat]
        return wanted_w

    def unbent_w(self, of_class: Ints, cap_w: Floats, floor_w: Floats) -> Floats:
        """The caps, lowered to the start of a bend where the watts put into it bring nothing.

        Within a bend the hull is a chord over gains that are less.
        """
        inside = np.nonzero(
            self.hull.at(of_class, cap_w) - self.chords.at(of_class, cap_w) > _BENT * self.worth[of_class]
        )[0]
        kind, lowered_w = of_class[inside], cap_w.copy()
        start_w = self.hull.cap_w(
            kind, self.hull.count(kind, self.hull.slope_at(kind, cap_w[inside]), ties=False)
        )
        start_w = np.clip(start_w, floor_w[inside], cap_w[inside])
        idle = self.chords.at(kind, start_w) >= self.chords.at(kind, cap_w[inside])
        lowered_w[inside[idle]] = start_w[idle]
        return lowered_w


def gain_classes(
    curves: CurveTable, curve: Ints, value_per_gpu_h: Floats, price_per_mwh: Floats
) -> tuple[GainTable, Ints]:
    """The table of the distinct (curve, value, price) among the jobs, and the class of each job."""
    keys, of_class = compressed(curve, len(curves.curves))
    for column in (value_per_gpu_h, price_per_mwh):
        if len(column) and (column != column[0]).any():
            kinds, kind = np.unique(column, return_inverse=True)
            keys, of_class = compressed(of_class * len(kinds) + kind, len(keys) * len(kinds))
    first = np.zeros(len(keys), dtype=np.int64)
    first[of_class[::-1]] = np.arange(len(curve))[::-1]
    table = gain_table(curves, curve[first], value_per_gpu_h[first], price_per_mwh[first])
    return table, of_class


def gain_table(curves: CurveTable, curve: Ints, value_per_gpu_h: Floats, price_per_mwh: Floats) -> GainTable:
    """One row per class. Grids are finer where there are few classes."""
    columns = next((n for n, most in _GRIDS if len(curve) <= most), _COARSEST)
    used, row = np.unique(curve, return_inverse=True)
    least_w, step_w = curves.min_cap_w[used], (curves.tdp_w - curves.min_cap_w)[used] / columns
    caps_w = least_w[:, None] + step_w[:, None] * np.arange(columns + 1)
    every = np.broadcast_to(used[:, None], caps_w.shape)
    throughput, power_w = curves.throughput(every, caps_w), curves.power_w(every, caps_w)
    value, price = value_per_gpu_h[:, None], price_per_mwh[:, None] / 1e6
    gains = value * throughput[row] - price * power_w[row]
    slack = np.abs(value) * _chord_slack(throughput)[row] + np.abs(price) * _chord_slack(power_w)[row]
    worth = _SAME * np.abs(value[:, 0])
    top = columns - (gains >= gains.max(axis=1, keepdims=True) - worth[:, None])[:, ::-1].argmax(axis=1)
    lifted = gains.copy()
    lifted[:, :-1] += slack
    lifted[:, 1:] = np.maximum(lifted[:, 1:], gains[:, 1:] + slack)
    least_w, step_w = least_w[row], step_w[row]
    return GainTable(
        gains=gains,
        hull=_hull(least_w, step_w, gains, top),
        upper=_hull(least_w, step_w, lifted, np.full_like(top, columns)),
        top=top,
        worth=worth,
    )


def _hull(least_w: Floats, step_w: Floats, values: Floats, top: Ints) -> Hull:
    """The least concave function above the values up to `top`; from there on they fall as they do."""
    values = concave(values, top)
    rises = np.diff(values, axis=1)
    slopes = rises / np.where(step_w > 0, step_w, 1.0)[:, None]
    within = np.arange(slopes.shape[1]) < top[:, None]
    slopes = np.where(within, np.maximum(slopes, 0.0), np.minimum(slopes, -1e-300))
    rising = np.nonzero((slopes[:, 1:] > slopes[:, :-1]).any(axis=1))[0]  # by float dust alone
    slopes[rising] = np.minimum.accumulate(slopes[rising], axis=1)
    return Hull(least_w, step_w, values, slopes)


def concave(values: Floats, top: Ints) -> Floats:
    """The upper concave hull of each row, over its columns up to `top`; the rest stays as it is.

    Nearly all that bends the wrong way is at an end of a curve: one chord from there mends it. What is left
    is scanned column by column.
    """
    values = values.copy()
    bent = np.nonzero(_bends(values, top).any(axis=1))[0]
    if len(bent):
        mended = _from_an_end(_from_an_end(values[bent], top[bent], right=False), top[bent], right=True)
        still = _bends(mended, top[bent])
        for row in np.nonzero(still.any(axis=1))[0].tolist():
            end = int(top[bent[row]]) + 1
            mended[row, :end] = _scanned(mended[row, :end], first=int(still[row].argmax()) + 1)
        values[bent] = mended
    return values


def _bends(values: Floats, top: Ints) -> Bools:
    """Columns at whose upper end the slope rises."""
    rises = np.diff(values, axis=1)
    dust = _SAME * np.abs(rises).max(axis=1, keepdims=True)
    rising: Bools = (rises[:, 1:] > rises[:, :-1] + dust) & (np.arange(2, values.shape[1]) <= top[:, None])
    return rising


def _from_an_end(values: Floats, top: Ints, *, right: bool) -> Floats:
    """With the chord that touches from above, drawn from the first column or from `top`."""
    columns = np.arange(values.shape[1])
    anchor = top if right else np.zeros_like(top)
    away = columns - anchor[:, None]
    inside = (away != 0) & (columns <= top[:, None])
    start = np.take_along_axis(values, anchor[:, None], axis=1)
    slopes = (values - start) / np.where(inside, away, 1)
    # From the right the flattest fall touches, from the left the steepest rise.
    steepest = np.where(inside, -slopes if right else slopes, -np.inf)
    touches = steepest.argmax(axis=1)[:, None]
    chord = start + np.take_along_axis(slopes, touches, axis=1) * away
    between = inside & (np.abs(away) <= np.abs(touches - anchor[:, None]))
    return np.where(between, np.maximum(values, chord), values)


def _scanned(values: Floats, first: int) -> Floats:
    """The hull by a scan; `first` is the first column that lies below a chord."""
    hull = list(enumerate(values[: first + 1].tolist()))
    for column, value in enumerate(values[first + 1 :].tolist(), first + 1):
        while len(hull) > 1 and _under_chord(hull[-2], hull[-1], column, value):
            hull.pop()
        hull.append((column, value))
    at, reached = zip(*hull, strict=True)
    whole: Floats = np.interp(np.arange(len(values)), at, reached)
    return whole


def _under_chord(before: tuple[int, float], middle: tuple[int, float], column: int, value: float) -> bool:
    left = (middle[1] - before[1]) * (column - middle[0])
    return left <= (value - middle[1]) * (middle[0] - before[0])


def _chord_slack(values: Floats) -> Floats:
    """How far each row may rise above its chord in each interval.

    A concave function stays under its neighbouring chords drawn on.
    """
    bends = np.abs(np.diff(values, n=2, axis=1))
    left = np.concatenate([bends[:, :1], bends], axis=1)  # the bend at the left end of each interval
    right = np.concatenate([bends, bends[:, -1:]], axis=1)
    total = left + right
    slack: Floats = np.divide(left * right, total, out=np.zeros_like(total), where=total > 0)
    slack[:, 0], slack[:, -1] = right[:, 0], left[:, -1]  # nothing bounds the outer sides but the one bend
    return slack


def compressed(keys: Ints, most: int) -> tuple[Ints, Ints]:
    """The distinct keys (all below `most`) and, for each key, its place among them."""
    if most > 16 * len(keys) + 4096:
        distinct, place = np.unique(keys, return_inverse=True)
        return distinct, place
    present: Bools = np.bincount(keys, minlength=most) > 0
    place = np.cumsum(present) - 1
    return np.nonzero(present)[0], place[keys]

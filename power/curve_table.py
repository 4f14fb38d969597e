"""Many curves at once: the forms of `power.curve`, evaluated over arrays.

A row is one distinct `CapCurve`; thousands of jobs share a few hundred rows. What a single curve answers
for one cap, the table answers for (rows, caps) of any equal shape.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter

import numpy as np

from power.arrays import Floats, Ints
from power.curve import CapCurve

_FIELDS = (
    "tdp_w",
    "min_cap_w",
    "idle_w",
    "demand_w",
    "t6_p0",
    "t6_s",
    "t6_gamma",
    "t6_n",
    "p4_a",
    "p4_b",
    "p4_m",
)
_FAR_ABOVE_DEMAND = 1e9  # as in power.curve


@dataclass(frozen=True)
class CurveTable:
    """Distinct curves by row."""

    curves: tuple[CapCurve, ...]

    @classmethod
    def of(cls, curves: Iterable[CapCurve]) -> tuple[CurveTable, Ints]:
        """The table of the distinct ones among `curves`, and the row of each."""
        rows: dict[CapCurve, int] = {}
        index = [rows.setdefault(curve, len(rows)) for curve in curves]
        return cls(tuple(rows)), np.array(index, dtype=np.int64)

    @cached_property
    def _columns(self) -> dict[str, Floats]:
        values = np.array(list(map(attrgetter(*_FIELDS), self.curves)), dtype=np.float64)
        return dict(zip(_FIELDS, values.reshape(-1, len(_FIELDS)).T, strict=True))

    @property
    def tdp_w(self) -> Floats:
        """Per row: the highest cap."""
        return self._columns["tdp_w"]

    @property
    def min_cap_w(self) -> Floats:
        """Per row: the least cap."""
        return self._columns["min_cap_w"]

    @property
    def idle_w(self) -> Floats:
        """Per row: draw of the GPU at rest."""
        return self._columns["idle_w"]

    def throughput(self, rows: Ints, cap_w: Floats) -> Floats:
        """Work per second relative to uncapped, 0..1; never falls as the cap rises."""
        share = self._within(rows, cap_w) / self.tdp_w[rows]
        return np.minimum(1.0, self._unnormalised(rows, share) / self._uncapped[rows])

    def power_w(self, rows: Ints, cap_w: Floats) -> Floats:
        """Mean draw of the busy GPU; never above the cap."""
        column = self._columns
        cap_w = self._within(rows, cap_w)
        tdp_w, idle_w, m = self.tdp_w[rows], self.idle_w[rows], column["p4_m"][rows]
        limited = column["p4_a"][rows] * cap_w / tdp_w + column["p4_b"][rows]
        demand = column["demand_w"][rows] / tdp_w
        # Written around the smaller term: its power alone would overflow for steep m.
        low, high = np.minimum(demand, limited), np.maximum(demand, limited)
        low = np.maximum(low, 0.0)
        mean_w = tdp_w * low * (1.0 + (low / high) ** m) ** (-1.0 / m)
        return np.minimum(cap_w, np.maximum(idle_w, np.where(limited > 0, mean_w, 0.0)))

    def cap_for(self, rows: Ints, throughput: Floats) -> Floats:
        """The least cap that reaches `throughput`, within `min_cap_w .. tdp_w`."""
        column = self._columns
        tdp_w, n = self.tdp_w[rows], column["t6_n"][rows]
        reach = np.maximum(throughput, 0.0) * self._uncapped[rows]
        rest = 1.0 - np.minimum(reach, 1.0) ** n
        x = reach * np.maximum(rest, 1e-300) ** (-1.0 / n)
        p0 = column["t6_p0"][rows]
        scale = column["t6_s"][rows] * column["demand_w"][rows] / tdp_w - p0
        share = p0 + scale * x ** (1.0 / column["t6_gamma"][rows])
        cap_w = self._within(rows, np.where(rest > 0, np.minimum(share, 1.0), 1.0) * tdp_w)
        cap_w = np.where(throughput >= 1.0, tdp_w, cap_w)
        least_w = self.min_cap_w[rows]
        return np.where(throughput <= self._least_throughput[rows], least_w, cap_w)

    def knee_cap_w(self, rows: Ints) -> Floats:
        """The cap of least energy per work."""
        knees = np.array([curve.knee_cap_w() for curve in self.curves])
        return knees[rows] if len(knees) else np.zeros(len(rows))

    @cached_property
    def _uncapped(self) -> Floats:
        """Per row: what a throughput of 1 is before it is made relative."""
        return self._unnormalised(np.arange(len(self.curves)), np.ones(len(self.curves)))

    @cached_property
    def _least_throughput(self) -> Floats:
        """Per row: at the least cap."""
        return self.throughput(np.arange(len(self.curves)), self.min_cap_w)

    def _within(self, rows: Ints, cap_w: Floats) -> Floats:
        return np.minimum(np.maximum(cap_w, self.min_cap_w[rows]), self.tdp_w[rows])

    def _unnormalised(self, rows: Ints, share: Floats) -> Floats:
        column = self._columns
        p0, n = column["t6_p0"][rows], column["t6_n"][rows]
        scale = column["t6_s"][rows] * column["demand_w"][rows] / self.tdp_w[rows] - p0
        above = np.maximum(share - p0, 0.0) / np.where(scale > 0, scale, 1.0)
        x = np.minimum(above, _FAR_ABOVE_DEMAND) ** column["t6_gamma"][rows]
        inverse = 1.0 / np.maximum(x, 1e-300)
        large = (1.0 + np.minimum(inverse, 1.0) ** n) ** (-1.0 / n)
        small = x * (1.0 + np.minimum(x, 1.0) ** n) ** (-1.0 / n)
        return np.where(scale <= 0, 1.0, np.where(x > 1.0, large, small))

"""Joules from counters and from power over time. Pure.

Times here are seconds of whatever clock the caller integrates over; a GPU's counter and its power must be
brought to the same clock before they are compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_COUNTER_LAG_S = 1.0  # a counter may hand over up to this much late, at once
_ABOVE_CEILING = 1.5  # draws this many times the board's maximum do not happen over a whole interval


def trapezoid_j(points: Sequence[tuple[float, float]]) -> float:
    """Joules of (seconds, watts) samples in order of time, joined by straight lines."""
    return math.fsum((b_s - a_s) * (a_w + b_w) / 2 for (a_s, a_w), (b_s, b_w) in pairwise(points))


def counter_delta_j(before_j: float, after_j: float) -> float | None:
    """Joules a counter went up by; None when it fell (the driver was loaded anew)."""
    return after_j - before_j if after_j >= before_j else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Joules of one GPU so far, and what the next reading is measured against. Never goes down.

    `ahead_j` was integrated from power while the counter was silent; the counter's next word covers the
    same time and is not counted twice.
    """

    total_j: float = 0.0
    counter_j: float | None = None
    power_w: float | None = None
    at_s: float | None = None
    ahead_j: float = 0.0

    def advanced(
        self, at_s: float, *, counter_j: float | None, power_w: float | None, ceiling_w: float
    ) -> Meter:
        """The meter after one more reading at `at_s`.

        The counter decides. Where there is none, where it fell, or where it claims more than the board can
        draw (`ceiling_w`), power over time stands in.
        """
        counter_j, power_w = _finite(counter_j), _finite(power_w)
        estimate_j = self._integral_j(at_s, power_w)
        counted_j = self._counted_j(at_s, counter_j, ceiling_w)
        added_j = estimate_j if counted_j is None else max(0.0, counted_j - self.ahead_j)
        ahead_j = 0.0  # a counter that starts anew covers nothing of the past
        if counter_j is None and self.counter_j is not None:
            ahead_j = self.ahead_j + added_j
        elif counted_j is not None:
            ahead_j = max(0.0, self.ahead_j - counted_j)
        return Meter(
            total_j=self.total_j + added_j,
            counter_j=self.counter_j if counter_j is None else counter_j,
            power_w=power_w if power_w is not None else self.power_w,
            at_s=at_s,
            ahead_j=ahead_j,
        )

    def _integral_j(self, at_s: float, power_w: float | None) -> float:
        """A missing reading is taken to be like the one on the other side of the interval."""
        known = [w for w in (self.power_w, power_w) if w is not None]
        if self.at_s is None or not known:
            return 0.0
        return max(0.0, at_s - self.at_s) * max(0.0, sum(known) / len(known))

    def _counted_j(self, at_s: float, counter_j: float | None, ceiling_w: float) -> float | None:
        if counter_j is None or self.counter_j is None:
            return None
        delta_j = counter_delta_j(self.counter_j, counter_j)
        if self.at_s is None:  # taken up from an earlier process: a counter that fell began again at zero
            return counter_j if delta_j is None else delta_j
        if delta_j is None:
            return None
        most_j = _ABOVE_CEILING * ceiling_w * (at_s - self.at_s + _COUNTER_LAG_S) + self.ahead_j
        return delta_j if delta_j <= most_j else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

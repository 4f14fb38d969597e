"""Water levels: the price of a watt that fills each scarce domain, deepest first. Exact. Pure.

Each part takes the watts that are worth at least the level. A domain above asks only for less than what the
domains below it let through (Hochbaum, "Lower and upper bounds for the allocation problem", 1994: what is
best under the inner limits alone bounds what is best under all), so one pass from the leaves to the root
finds the best split of the hulls: exact where every job is one part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from power.arrays import Floats, Ints
from power.cap_gains import Hull, compressed
from power.cap_scarce import FITS_W, Scarce

NOT_FULL = -1.0  # the level of a domain that could carry more


@dataclass(frozen=True)
class Demand:
    """Parts that share the watts of scarce domains: caps per GPU between floor and ceiling."""

    of_class: Ints
    home: Ints  # row of the scarce domains
    gpus: Floats
    floor_w: Floats
    ceiling_w: Floats


@dataclass(frozen=True)
class Filled:
    """The caps of the parts, and the level of each scarce domain (money per hour and watt)."""

    cap_w: Floats
    level: Floats

    def prices(self, scarce: Scarce) -> Floats:
        """What each domain adds to what those above it ask: the multipliers of its limit."""
        path = scarce.path_most(self.level)
        own: Floats = path - np.where(scarce.parent >= 0, path[scarce.parent], 0.0)
        return own


def fill(hull: Hull, demand: Demand, scarce: Scarce, available_w: Floats) -> Filled:
    """Floors must fit `available_w` (per scarce domain)."""
    cap_w = demand.ceiling_w.copy()
    level = np.full(len(scarce), NOT_FULL)
    for depth in range(scarce.above.shape[1] - 1, -1, -1):
        domain = scarce.above[demand.home, depth]
        inside = np.nonzero(domain >= 0)[0]
        used_w = np.bincount(domain[inside], demand.gpus[inside] * cap_w[inside], len(scarce))
        full = used_w > available_w + FITS_W
        part = inside[full[domain[inside]]]
        if len(part):
            row, place = np.unique(domain[part], return_inverse=True)
            pool = _Pool(hull, demand, part, place, cap_w[part], available_w[row])
            cap_w[part], level[row] = pool.filled()
    return Filled(cap_w, level)


class _Pool:
    """Parts under the overdrawn domains of one depth; `place` numbers those domains."""

    def __init__(
        self, hull: Hull, demand: Demand, part: Ints, place: Ints, ceiling_w: Floats, available_w: Floats
    ) -> None:
        self._hull, self._place, self._available_w = hull, place, available_w
        self._gpus, self._ceiling_w = demand.gpus[part], ceiling_w
        self._floor_w = np.minimum(demand.floor_w[part], ceiling_w)
        # Parts of one class in one domain ask alike: the hull is searched once for all of them.
        classes = len(hull.least_w)
        keys, self._kind = compressed(place * classes + demand.of_class[part], len(available_w) * classes)
        self._kind_class, self._kind_place = keys % classes, keys // classes

    def filled(self) -> tuple[Floats, Floats]:
        """Caps of the parts and levels of the domains."""
        levels, taken_w = self._hull.levels, self._taken_w()
        kinds = np.arange(len(self._kind_class))
        low = np.zeros(len(self._available_w), dtype=np.int64)
        high = np.full_like(low, len(levels) - 1)  # for free, everybody is at the ceiling: too much
        while (low < high).any():
            middle = (low + high) // 2
            column = self._columns(levels[middle], ties=True)
            used_w = np.bincount(self._kind_place, taken_w[kinds, column], len(low))
            over = used_w > self._available_w + FITS_W
            low, high = np.where(over, low, middle + 1), np.where(over, middle, high)
        return self._topped_up(levels[low]), levels[low]

    def _taken_w(self) -> Floats:
        """kinds x (columns + 1): what the parts of a kind take together where the hull asks for a column.

        A part takes its floor up to the column above that, and its ceiling from the column below that on.
        """
        hull, kind, gpus = self._hull, self._kind, self._gpus
        width, of_class = hull.columns + 1, self._kind_class[self._kind]
        step_w = np.where(hull.step_w > 0, hull.step_w, 1.0)[of_class]
        from_floor = np.ceil((self._floor_w - hull.least_w[of_class]) / step_w).astype(np.int64)
        to_ceiling = np.floor((self._ceiling_w - hull.least_w[of_class]) / step_w).astype(np.int64)
        shape = (len(self._kind_class), width)

        def summed(column: Ints, amount: Floats) -> Floats:
            place = kind * width + np.clip(column, 0, width - 1)
            return np.cumsum(np.bincount(place, amount, shape[0] * width).reshape(shape), axis=1)

        floors_w = summed(from_floor, gpus * self._floor_w)
        at_ceiling = to_ceiling + 1
        most = at_ceiling < width
        ceilings_w = summed(at_ceiling, np.where(most, gpus * self._ceiling_w, 0.0))
        between = summed(from_floor, gpus) - summed(at_ceiling, np.where(most, gpus, 0.0))
        grid_w = hull.least_w[self._kind_class][:, None] + hull.step_w[self._kind_class][:, None] * np.arange(
            width
        )
        taken: Floats = floors_w[:, -1:] - floors_w + between * grid_w + ceilings_w
        return taken

    def _asked_w(self, level: Floats, *, ties: bool) -> Floats:
        """What each part asks for at its domain's level; `ties`: with the watts worth just that."""
        asked_w = self._hull.cap_w(self._kind_class, self._columns(level, ties=ties))[self._kind]
        if ties:
            asked_w = np.where((level <= 0)[self._place], self._ceiling_w, asked_w)
        capped: Floats = np.minimum(np.maximum(asked_w, self._floor_w), self._ceiling_w)
        return capped

    def _columns(self, level: Floats, *, ties: bool) -> Ints:
        return self._hull.count(self._kind_class, level[self._kind_place], ties=ties)

    def _topped_up(self, level: Floats) -> Floats:
        """What is worth more than the level, and of what is worth just that as much as there is room for."""
        least_w, most_w = self._asked_w(level, ties=False), self._asked_w(level, ties=True)
        more_w = most_w - least_w
        bent = self._columns(level, ties=True) - self._columns(level, ties=False) > 1
        in_turn = (bent & (level > 0)[self._kind_place])[self._kind]
        room_w = self._available_w - self._used_w(least_w)
        if in_turn.any():
            least_w = least_w + self._in_turn(np.where(in_turn, more_w, 0.0), room_w)
            more_w = np.where(in_turn, 0.0, more_w)
            room_w = self._available_w - self._used_w(least_w)
        wanted_w = self._used_w(more_w)
        share = np.clip(room_w / np.maximum(wanted_w, FITS_W), 0.0, 1.0)
        return least_w + share[self._place] * more_w

    def _in_turn(self, more_w: Floats, room_w: Floats) -> Floats:
        """A chord over a bend promises what no cap between its ends holds: one part after the other gets
        all of it."""
        order = np.argsort(self._place, kind="stable")
        wanted_w = (self._gpus * more_w)[order]
        before_w = np.cumsum(wanted_w) - wanted_w
        first = np.searchsorted(self._place[order], np.arange(len(room_w)))
        left_w = room_w[self._place[order]] - (before_w - before_w[first][self._place[order]])
        given_w = np.empty_like(more_w)
        given_w[order] = np.clip(left_w, 0.0, wanted_w) / self._gpus[order]
        return given_w

    def _used_w(self, cap_w: Floats) -> Floats:
        return np.bincount(self._place, self._gpus * cap_w, len(self._available_w)).astype(np.float64)

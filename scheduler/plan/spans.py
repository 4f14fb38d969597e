"""Which slots the runs of one length span from each start, and what they meet on the way."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from power.arrays import Floats, Ints

SAME_TIME_H = 1e-9


@dataclass(frozen=True)
class Bar:
    """Something that runs meet on their way (rows x S), and the most of it that each row meets."""

    met: Floats
    worst: Floats

    @classmethod
    def of(cls, met: Floats) -> Bar:
        rows = met.reshape(-1, met.shape[-1])
        return cls(rows, rows.max(axis=1, initial=-np.inf))

    def put(self, gain: Floats, row: Ints, most: Floats, *, never: float) -> None:
        """`never` where a run, whose row here is given, meets more than its most."""
        some = np.nonzero(self.worst[row] > most)[0]
        if len(some):
            closed = self.met[:, : gain.shape[1]][row[some]] > most[some, None]
            gain[some] = np.where(closed, never, gain[some])


@dataclass(frozen=True)
class Spans:
    """Runs that span alike slots from every start are of one length. L lengths, rising; Z zones, S slots."""

    edges_h: Floats  # S + 1
    market_per_mwh: Floats  # S
    gpus: Floats  # Z x S
    watts: Floats  # Z x S
    hours: Floats  # of the runs that are asked about

    @cached_property
    def _lengths(self) -> tuple[Floats, Ints]:
        """(hours of each length that is there, per run the row of its length)."""
        between_h = self.edges_h[None, :] - self.edges_h[:, None]
        lengths_h = np.append(np.unique(np.round(between_h[between_h > SAME_TIME_H], 9)), np.inf)
        there, length = np.unique(np.searchsorted(lengths_h, self.hours - SAME_TIME_H), return_inverse=True)
        return lengths_h[there], np.asarray(length).reshape(-1)

    @cached_property
    def length(self) -> Ints:
        """Per run: the row of its length."""
        return self._lengths[1]

    @cached_property
    def last(self) -> Ints:
        """L x S: the slot in which such a run ends; S where it does not fit before the horizon's end."""
        ends_h = self.edges_h[:-1] + self._lengths[0][:, None]
        return np.asarray(np.searchsorted(self.edges_h, ends_h - SAME_TIME_H) - 1)

    @cached_property
    def starts(self) -> Ints:
        """L: from how many slots, the first ones, such runs fit before the horizon's end."""
        return np.asarray((self.last < len(self.edges_h) - 1).sum(axis=1))

    @cached_property
    def dearest(self) -> Bar:
        """L x S: the highest price on the way, infinite where one is not known."""
        return Bar.of(-self._lowest(-self.market_per_mwh[None]))

    @cached_property
    def fewest_gpus(self) -> Bar:
        """Z x L x S: less the fewest GPUs of the zone that are free."""
        return Bar.of(-self._lowest(self.gpus))

    @cached_property
    def least_w(self) -> Bar:
        """Z x L x S: less the least watts under its domains."""
        return Bar.of(-self._lowest(self.watts))

    def _lowest(self, rows: Floats) -> Floats:
        """Of each row (over S) the lowest value on the way: of two stretches of 2^k slots that cover it."""
        count = rows.shape[1]
        first = np.arange(count)
        last = np.minimum(self.last, count - 1)
        power = np.log2(last - first + 1).astype(np.int64)
        found = np.empty((len(rows), *last.shape))
        lowest = rows
        for k in range(int(power.max(initial=0)) + 1):
            length, start = np.nonzero(power == k)
            second = last[length, start] - 2**k + 1
            found[:, length, start] = np.minimum(lowest[:, start], lowest[:, second])
            lowest = np.minimum(lowest[:, : -(2**k)], lowest[:, 2**k :])
        return found


def from_zero(amounts: Floats) -> Floats:
    """Running sums along the last axis, with a leading 0."""
    width = [(0, 0)] * (amounts.ndim - 1) + [(1, 0)]
    return np.pad(np.cumsum(amounts, axis=-1), width)

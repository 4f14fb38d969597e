"""Which slots the runs of one length span from each start, and what they meet on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from power.arrays import Bools, Floats, Ints

SAME_TIME_H = 1e-9


@dataclass(frozen=True)
class Span:
    """Per start, as far as such runs fit before the horizon's end."""

    last: Ints  # the slot in which the run ends
    dearest: Floats  # the highest price on the way
    gpus: Floats  # the fewest GPUs of the zone that are free
    watts: Floats  # the least watts under its domains

    @cached_property
    def unknown(self) -> Bools:
        """Starts whose runs meet a slot without a price."""
        rows: Bools = np.isinf(self.dearest)
        return rows


@dataclass(frozen=True)
class Spans:
    """Spans by zone and length, made when asked for and kept."""

    edges_h: Floats  # S + 1
    market_per_mwh: Floats  # S
    gpus: Floats  # Z x S
    watts: Floats  # Z x S
    _made: dict[tuple[int, int], Span] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def lengths_h(self) -> Floats:
        """Rising: runs between two neighbouring ones of these span alike slots."""
        spans = self.edges_h[None, :] - self.edges_h[:, None]
        return np.unique(np.round(spans[spans > SAME_TIME_H], 9))

    def of(self, zone: int, length: int) -> Span:
        """Of runs no longer than `lengths_h[length]`, and longer than the one before."""
        if (zone, length) not in self._made:
            self._made[zone, length] = self._span(zone, length)
        return self._made[zone, length]

    def _span(self, zone: int, length: int) -> Span:
        ends_h = self.edges_h[:-1] + self.lengths_h[length]
        last = np.searchsorted(self.edges_h, ends_h - SAME_TIME_H) - 1
        last = last[: int(np.searchsorted(last, len(ends_h)))]
        return Span(
            last=last,
            dearest=_highest(self.market_per_mwh, last),
            gpus=-_highest(-self.gpus[zone], last),
            watts=-_highest(-self.watts[zone], last),
        )


def _highest(values: Floats, last: Ints) -> Floats:
    """Per start s: the highest of values[s..last[s]]; `last` never falls."""
    if not len(last):
        return np.zeros(0)
    ends = np.stack([np.arange(len(last)), last + 1], axis=1).ravel()
    padded = np.append(values, -np.inf)
    return np.asarray(np.maximum.reduceat(padded, ends)[::2])

"""What the GPUs of one node can be sold for: every way to fill it with parts, priced for many zones at once.

GPUs of a node come in classes: class c may be used by the c-th waiting rank and those above it. Free ones are
class 0; those of a stopped resident belong to the first waiting rank above its own. A part of rank r takes
the GPUs that fewest others could use first, which leaves the most for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from power.arrays import Floats, Ints

MOST_STATES = 1300  # more classes than that are merged downwards, which only weakens the bound
NOWHERE = -1


@dataclass(frozen=True)
class States:
    """Counts of GPUs by class, a row each, fewest GPUs first; `after_part[state, size, rank]` is what is left
    when a part was taken (or NOWHERE)."""

    counts: Ints
    by_total: tuple[Ints, ...]
    after_part: Ints
    number: Ints  # by counts

    def of(self, counts: Ints) -> Ints:
        """Row of each row of counts."""
        found: Ints = self.number[tuple(counts.T)]
        return found


def classes_for(most_gpus: int, ranks: int) -> int:
    """As many classes as there are waiting ranks, unless that makes too many states."""
    classes = max(1, ranks)
    while classes > 1 and _count(most_gpus, classes) > MOST_STATES:
        classes -= 1
    return classes


def _count(most_gpus: int, classes: int) -> int:
    total = 1
    for step in range(classes):
        total = total * (most_gpus + step + 1) // (step + 1)
    return total


@lru_cache(maxsize=16)
def states_of(most_gpus: int, classes: int, sizes: tuple[int, ...], ranks: int) -> States:
    """All states of a node of up to `most_gpus` GPUs."""
    tuples = [t for t in product(range(most_gpus + 1), repeat=classes) if sum(t) <= most_gpus]
    tuples.sort(key=lambda t: (sum(t), t))
    row_of = {t: row for row, t in enumerate(tuples)}
    counts = np.array(tuples, dtype=np.int64).reshape(-1, classes)
    after = np.full((len(tuples), len(sizes), ranks), NOWHERE, dtype=np.int64)
    for row, state in enumerate(tuples):
        for column, size in enumerate(sizes):
            for rank in range(ranks):
                left = _take(state, size, min(rank, classes - 1))
                if left is not None:
                    after[row, column, rank] = row_of[left]
    totals = counts.sum(axis=1)
    number = np.full((most_gpus + 1,) * classes, NOWHERE, dtype=np.int64)
    number[tuple(counts.T)] = np.arange(len(tuples))
    by_total = tuple(np.nonzero(totals == total)[0] for total in range(most_gpus + 1))
    return States(counts, by_total, after, number)


def _take(state: tuple[int, ...], gpus: int, top_class: int) -> tuple[int, ...] | None:
    left = list(state)
    for kind in range(top_class, -1, -1):
        used = min(left[kind], gpus)
        left[kind] -= used
        gpus -= used
    return None if gpus else tuple(left)


@dataclass(frozen=True)
class Fill:
    """The best way to fill nodes: money per zone and state, and the ware that is sold first (or NOWHERE)."""

    states: States
    money: Floats
    ware: Ints
    shape: tuple[int, ...]

    def sold(self, nodes: Floats) -> Floats:
        """Parts by zone, size and rank, of so many nodes per zone and state."""
        zones, wares = len(nodes), self.shape[1] * self.shape[2]
        after = self.states.after_part.reshape(len(self.states.counts), wares)
        left, parts = nodes.ravel().copy(), np.zeros(zones * wares)
        offset = np.arange(zones)[:, None]
        for rows in self.states.by_total[:0:-1]:
            ware = self.ware[:, rows]
            at, column = np.nonzero((ware >= 0) & (nodes[:, rows] + left.reshape(nodes.shape)[:, rows] > 0))
            if not len(at):
                continue
            state, what = rows[column], ware[at, column]
            many = left[at * nodes.shape[1] + state]
            parts += np.bincount(offset[at, 0] * wares + what, many, len(parts))
            left += np.bincount(at * nodes.shape[1] + after[state, what], many, len(left))
        return parts.reshape(self.shape)


def best_fill(states: States, part_price: Floats) -> Fill:
    """The best parts at these prices (zones x sizes x ranks)."""
    zones, wares = len(part_price), part_price.shape[1] * part_price.shape[2]
    price = part_price.reshape(zones, wares)
    after = states.after_part.reshape(len(states.counts), wares)
    money = np.zeros((zones, len(states.counts)))
    first = np.full(money.shape, NOWHERE)
    for rows in states.by_total[1:]:
        left = after[rows]
        offered = np.where(left >= 0, price[:, None, :] + money[:, left], 0.0)
        ware = offered.argmax(axis=2)
        gain = np.take_along_axis(offered, ware[..., None], axis=2)[..., 0]
        money[:, rows] = np.maximum(gain, 0.0)
        first[:, rows] = np.where(gain > 0.0, ware, NOWHERE)
    return Fill(states, money, first, part_price.shape)

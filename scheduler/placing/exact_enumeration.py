"""Lists the combinations of alternatives, one per block, that keep limits and lose no more than a budget.

Not those that another one makes pointless: of two that use the same of every row but one, and there one uses
no less without being worth more, only the other is kept. The best is always among them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Floats, Ints

ROUNDING = 1e-9
OVERFLOW = 4  # times as many partial answers as are kept: more are not even compared
PRUNE_FROM = 200  # partial answers; from here on it pays to look for pointless ones
SAME_STEPS = 1000.0  # uses that differ by less than one of so many parts of a unit are the same


@dataclass(frozen=True)
class Alternatives:
    """What one block may do: its loss, and its use of each row (alternatives x rows)."""

    loss: Floats
    use: Floats


@dataclass(frozen=True)
class Effort:
    """What may be spent: the loss up to which answers are listed, how many partial ones are kept at a time
    (beyond it the worst go, or with `or_none` all of them), and until when (of `time.perf_counter`)."""

    budget: float
    most_states: int
    or_none: bool
    until_s: float


class Enumeration:
    """Partial answers, one block after the other, as arrays; those that cannot end within the budget go."""

    def __init__(self, price: Floats, limit: Floats, blocks: list[Alternatives], effort: Effort) -> None:
        self.price, self.limit, self.blocks = price, limit, blocks
        self.budget, self.effort = effort.budget, effort
        self.complete = True
        self.most_states = 0

    def run(self, base: Floats, base_loss: float) -> tuple[Ints, Floats]:
        """(answers x blocks: the alternative taken; losses), least loss first."""
        self._only_rows_that_matter(base)
        use, loss = base[None, self.rows], np.array([base_loss + self.idle_loss])
        steps: list[tuple[Ints, Ints]] = []
        for number, block in enumerate(self.blocks):
            state, taken = np.nonzero(loss[:, None] + block.loss <= self.budget + ROUNDING)
            use, loss = use[state] + self.uses[number][taken], loss[state] + block.loss[taken]
            keep = self._hopeful(use, loss, number)
            use, loss = use[keep], loss[keep]
            self.most_states = max(self.most_states, len(keep))
            steps.append((state[keep], taken[keep]))
            if not self.complete and (self.effort.or_none or time.perf_counter() > self.effort.until_s):
                return np.zeros((0, len(self.blocks)), dtype=np.int64), np.zeros(0)
        loss = loss + np.maximum(0.0, self.limit - use) @ self.price
        ends = np.nonzero((use <= self.limit + ROUNDING).all(axis=1) & (loss <= self.budget + ROUNDING))[0]
        ends = ends[np.argsort(loss[ends], kind="stable")]
        picks = np.zeros((len(ends), len(self.blocks)), dtype=np.int64)
        row = ends
        for number in range(len(self.blocks) - 1, -1, -1):
            state, taken = steps[number]
            picks[:, number] = taken[row]
            row = state[row]
        return picks, loss[ends]

    def _only_rows_that_matter(self, base: Floats) -> None:
        """Leaves out rows that no combination can fill up; what they leave unused is lost in any case."""
        rows = np.zeros((len(self.blocks), len(base)))
        least, most = rows.copy(), rows
        for number, block in enumerate(self.blocks):
            least[number], most[number] = block.use.min(axis=0), block.use.max(axis=0)
        highest = base + most.sum(axis=0)
        moves: Bools = (least != most).any(axis=0)
        self.rows = np.nonzero((highest > self.limit + ROUNDING) | (moves & (self.price > 0)))[0]
        rest = np.setdiff1d(np.arange(len(base)), self.rows)
        self.idle_loss = float(np.maximum(0.0, self.limit - highest)[rest] @ self.price[rest])
        self.limit, self.price = self.limit[self.rows], self.price[self.rows]
        self.uses = [np.ascontiguousarray(block.use[:, self.rows]) for block in self.blocks]
        least, most = least[:, self.rows], most[:, self.rows]
        self.least_after = least.sum(axis=0) - np.cumsum(least, axis=0)
        self.most_after = most.sum(axis=0) - np.cumsum(most, axis=0)
        mark = np.random.default_rng(0).random(len(self.rows))
        if len(self.rows):  # the row with the most different uses is the one to compare by
            self.last = int(np.argmax([len(np.unique(u)) for u in np.vstack(self.uses or [base]).T]))
            mark[self.last] = 0.0
        self.mark = mark

    def _hopeful(self, use: Floats, loss: Floats, number: int) -> Ints:
        """Rows that may still end within limits and budget, none of them pointless."""
        fits = (use <= self.limit + ROUNDING - self.least_after[number]).all(axis=1)
        unused = np.maximum(0.0, self.limit - self.most_after[number] - use) @ self.price
        keep = np.nonzero(fits & (loss + unused <= self.budget + ROUNDING))[0]
        if len(keep) > OVERFLOW * self.effort.most_states:
            keep = self._cheapest(keep, loss + unused, OVERFLOW * self.effort.most_states)
        if len(keep) > PRUNE_FROM:
            keep = self._with_a_point(use, loss, keep)
        return self._cheapest(keep, loss + unused, self.effort.most_states)

    def _cheapest(self, keep: Ints, loss: Floats, most: int) -> Ints:
        if len(keep) <= most and time.perf_counter() <= self.effort.until_s:
            return keep
        self.complete = False
        if len(keep) <= most:
            return keep
        return np.sort(keep[np.argpartition(loss[keep], most)[:most]])

    def _with_a_point(self, use: Floats, loss: Floats, keep: Ints) -> Ints:
        """Of those that are alike but in one row: by rising use of it, only where the worth rises too."""
        mark = np.round(use[keep] * SAME_STEPS) @ self.mark
        worth = use[keep] @ self.price - loss[keep]
        if not len(self.rows):  # alike in everything: the best alone has a point
            return keep[[int(np.argmax(worth))]]
        order = np.lexsort((-worth, use[keep, self.last], mark))
        new = np.concatenate([[True], np.diff(mark[order]) != 0.0])
        lift = np.cumsum(new) * (float(np.ptp(worth)) + 1.0)  # so that each set starts above the one before
        best = np.maximum.accumulate(worth[order] + lift)
        rises = np.concatenate([[True], best[1:] > best[:-1]])
        return np.sort(keep[order[rises]])

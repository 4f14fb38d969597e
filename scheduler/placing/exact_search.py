"""The best answers of a count model in order: all that lose less than a budget against the Lagrangian bound.

With a price on every row, each choice of a block loses something against the block's best, and so does
whatever is left of a priced row. An answer's value is the bound less all its losses. A budget that was
searched in vain lowers the bound; where it was not in vain the best answer found is the best there is, and
with it come the next best, for where the first cannot be put on nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.exact_enumeration import ROUNDING, Alternatives, Effort, Enumeration
from scheduler.placing.exact_model import CountModel

Mix = tuple[tuple[int, int], ...]  # (column, how many of it)


@dataclass(frozen=True)
class Answers:
    """Answers of the model, best first. `complete`: none that loses less than the budget is missing."""

    value: Floats
    picks: Ints  # answers x open blocks
    fixed: Mix
    mixes: tuple[tuple[Mix, ...], ...]  # per open block and alternative
    complete: bool
    most_states: int = 0  # partial answers that were kept at a time, at their most

    def __len__(self) -> int:
        return len(self.value)

    def taken(self, answer: int) -> list[tuple[int, int]]:
        """(column, how many of it) of one answer."""
        chosen = zip(self.mixes, self.picks[answer].tolist(), strict=True)
        return [*self.fixed, *(one for mixes, pick in chosen for one in mixes[pick])]


class Search:
    """A count model with prices on its rows; `least` and `most` bound how many each block takes."""

    def __init__(self, model: CountModel, price: Floats, least: Ints, most: Ints) -> None:
        self.model, self.price, self.least, self.most = model, price, least, most
        self.use = np.ascontiguousarray(model.rows.use.T)  # columns x rows
        gain = model.worth - self.use @ price
        must = (least == most) & (most > 0)
        best = np.where(must, -np.inf, 0.0)
        np.maximum.at(best, model.block, gain)
        self.loss = np.where(most[model.block] > 0, best[model.block] - gain, np.inf)
        self.idle_loss = np.where(must, np.inf, best)  # of leaving one out
        bounds = np.where(most > 0, most * np.where(np.isfinite(best), best, 0.0), 0.0)
        self.bound = float(price @ model.rows.limit + bounds.sum())
        most_loss = np.where(np.isfinite(self.idle_loss), self.idle_loss, 0.0)
        np.maximum.at(most_loss, model.block, np.where(np.isfinite(self.loss), self.loss, 0.0))
        lowest = np.minimum(0.0, model.rows.use) @ most[model.block]
        self.most_loss = float(most @ most_loss + price @ (model.rows.limit - lowest))

    def answers(self, effort: Effort) -> Answers:
        """All answers that lose at most the budget, as far as the effort goes."""
        budget = effort.budget
        near = self.loss <= budget + ROUNDING
        per_block = np.bincount(self.model.block[near], minlength=len(self.most))
        idle = (self.idle_loss <= budget + ROUNDING) & (self.least == 0)
        open_block = ((per_block + idle > 1) | ((self.least > 0) & (self.least < self.most))) & (
            self.most > 0
        )
        fixed = near & ~open_block[self.model.block]
        amounts = self.most[self.model.block[fixed]]
        base_loss = float(amounts @ self.loss[fixed])
        skipped = (per_block == 0) & (self.least == 0) & (self.most > 0)
        base_loss += float((self.most[skipped] * self.idle_loss[skipped]).sum())
        blocks = [self._alternatives(b, near, budget) for b in np.nonzero(open_block)[0].tolist()]
        if any(not mixes for _, mixes in blocks) or (self.least[per_block == 0] > 0).any():
            return Answers(np.zeros(0), np.zeros((0, 0), np.int64), (), (), complete=True)
        spans = [float(np.ptp(b.use, axis=0) @ self.price) for b, _ in blocks]
        blocks = [blocks[i] for i in np.argsort([-span for span in spans], kind="stable").tolist()]
        found = Enumeration(self.price, self.model.rows.limit, [b for b, _ in blocks], effort)
        picks, loss = found.run(amounts @ self.use[fixed], base_loss)
        return Answers(
            value=self.bound - loss,
            picks=picks,
            fixed=tuple(zip(np.nonzero(fixed)[0].tolist(), amounts.tolist(), strict=True)),
            mixes=tuple(mixes for _, mixes in blocks),
            complete=found.complete,
            most_states=found.most_states,
        )

    def _alternatives(self, block: int, near: Bools, budget: float) -> tuple[Alternatives, tuple[Mix, ...]]:
        first, last = np.searchsorted(self.model.block, [block, block + 1])
        columns = (first + np.nonzero(near[first:last])[0]).tolist()
        most, least, idle = int(self.most[block]), int(self.least[block]), float(self.idle_loss[block])
        found = [
            (loss, mix)
            for loss, mix in self._mixes(columns, most, idle, budget + ROUNDING)
            if sum(count for _, count in mix) >= least
        ]
        mixes = tuple(mix for _, mix in found)
        use = np.zeros((len(mixes), len(self.price)))
        for row, mix in enumerate(mixes):
            for column, count in mix:
                use[row] += count * self.use[column]
        return Alternatives(np.array([loss for loss, _ in found]), use), mixes

    def _mixes(
        self, columns: list[int], left: int, idle: float, budget: float
    ) -> Iterator[tuple[float, Mix]]:
        """Every way to take at most `left` of these columns within the budget."""
        if left == 0 or not columns:
            if left == 0 or left * idle <= budget:
                yield left * idle if left else 0.0, ()
            return
        each = float(self.loss[columns[0]])
        for count in range(left + 1):
            if count * each > budget:
                return
            for loss, mix in self._mixes(columns[1:], left - count, idle, budget - count * each):
                yield loss + count * each, ((columns[0], count), *mix) if count else mix

"""Best first through the ways to settle what fractions of jobs leave open, until the best answer is proven.

Where the prices leave too much open to list every answer (a large job that fits in part), the search is split
in two: that block takes no more, or at least one more. Each half has prices and a bound of its own.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from power.arrays import Floats, Ints
from scheduler.placing.exact_dual import Linear, Relaxed
from scheduler.placing.exact_enumeration import Effort
from scheduler.placing.exact_model import CountModel
from scheduler.placing.exact_search import Answers, Search

MOST_STATES = 1_000  # partial answers kept at a time
SPLIT_STATES = 1_000  # the same, where the search can be split instead
GROWTH = 1.6  # of the budget, which starts at the tolerance, from one search in vain to the next
SLOW_GROWTH = 1.2  # the same, once a search had more than a few partial answers at a time
FEW_STATES = 400
SPLIT_BUDGET = 16.0  # tolerances; beyond it a search is split where it can be
MOST_SPLITS = 3  # beyond it the model with every node by itself is sooner done
WHOLE = 1e-6

Accept = Callable[[Answers, float], float | None]
"""Tries answers that beat a value; the value of the one that could be put on nodes."""


@dataclass(frozen=True)
class Proof:
    """What no answer beats, and the first prices, of the whole model."""

    bound: float
    search: Search | None


class Branching:
    """One count model, searched until `until_s` (of `time.perf_counter`) or to within `tolerance`."""

    def __init__(self, model: CountModel, accept: Accept, tolerance: float, until_s: float) -> None:
        self.model, self.accept, self.until_s = model, accept, until_s
        self.linear = Linear(model)
        self.tolerance = tolerance  # of (bound - unchanged)
        self.value, self.settled = -np.inf, -np.inf  # best answer; best bound of what is done with
        self.open: list[tuple[float, int, Search, Relaxed]] = []
        self.count = 0
        self.splits = 0

    def run(self, unchanged: float) -> Proof:
        """Searches; `accept` keeps the answers."""
        root = self._push(self.model.least, self.model.most)
        while self.open:
            bound = max(-self.open[0][0], self.settled)
            slack = self.tolerance * max(bound - unchanged, WHOLE)
            done = bound - self.value <= slack or self.splits > MOST_SPLITS
            if done or time.perf_counter() > self.until_s:
                break
            _, _, search, relaxed = heapq.heappop(self.open)
            self._visit(search, relaxed, slack)
        ends = [self.settled, self.value, *(-key for key, *_ in self.open)]
        return Proof(max(ends), root)

    def _push(self, least: Ints, most: Ints) -> Search | None:
        relaxed = self.linear.relax(least, most)
        if relaxed is None:
            return None
        search = Search(self.model, relaxed.price, least, most)
        self.count += 1
        heapq.heappush(self.open, (-search.bound, self.count, search, relaxed))
        return search

    def _visit(self, search: Search, relaxed: Relaxed, slack: float) -> None:
        block = self._to_split(search, relaxed)
        lost, budget, tries, proven = 0.0, slack if block is None else SPLIT_BUDGET * slack, 0, np.inf
        while block is None or budget <= SPLIT_BUDGET * slack:
            states = MOST_STATES if block is None else SPLIT_STATES
            answers = search.answers(Effort(budget, states, block is not None, self.until_s))
            if answers.complete and len(answers):
                proven = min(proven, float(answers.value[0]))
            if len(answers):
                found = self.accept(answers, self.value)
                self.value = max(self.value, found or -np.inf)
                tries += 1
                if found is not None or proven <= self.value + slack or answers.complete:
                    self.settled = max(self.settled, min(proven, search.bound - lost))
                    return
            if not answers.complete or time.perf_counter() > self.until_s:
                break
            if budget > search.most_loss:
                return  # there is nothing at all
            lost = lost if len(answers) else budget
            budget *= GROWTH if answers.most_states < FEW_STATES else SLOW_GROWTH
            if search.bound - lost <= self.value + slack:
                break
        if block is None or tries or search.bound - lost <= self.value + slack:
            self.settled = max(self.settled, min(proven, search.bound - lost))
            return
        self.splits += 1
        fewer, more = search.most.copy(), search.least.copy()
        fewer[block] = int(np.floor(relaxed.taken[block]))
        more[block] = fewer[block] + 1
        self._push(search.least, fewer)
        self._push(more, search.most)

    def _to_split(self, search: Search, relaxed: Relaxed) -> int | None:
        """The block of the largest job that is taken in part."""
        groups = len(self.model.problem.groups)
        taken: Floats = relaxed.taken[:groups]
        part = np.abs(taken - np.round(taken)) > WHOLE
        part &= search.least[:groups] < search.most[:groups]
        if not part.any():
            return None
        return int(np.argmax(np.where(part, self.model.problem.groups.gpus, -1)))

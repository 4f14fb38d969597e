"""What residents take of each power domain, option by option, and what they leave to starts of each rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from power.arrays import Floats, Ints
from scheduler.placing.problem import Act, PlacementProblem

WATT_SLACK = 1e-6  # what sums of watts may be off by
NO_RANK = -1  # below every rank: nobody starts, every resident's watts are its own


@dataclass(frozen=True)
class ResidentWatts:
    """Matrices of domains x options, in watts."""

    problem: PlacementProblem

    @cached_property
    def taken(self) -> Floats:
        """What the resident takes under each domain with this option."""
        options, holds, index = self.problem.options, self.problem.holds, self.problem.index
        own = np.zeros((len(index.names), len(options)))
        for row in range(len(holds.pool)):
            mine = np.nonzero(options.resident == holds.resident[row])[0]
            stays_w = holds.fixed_w[row] + holds.steered[row] * options.cap_w[mine]
            stopped = options.act[mine] == Act.PREEMPT
            own[holds.leaf[row], mine] += np.where(stopped, holds.empty_w[row], stays_w)
        return index.roll_up(own)

    @cached_property
    def kept(self) -> Floats:
        """The same, but never below what the resident needs to stay what it is."""
        options = self.problem.options
        least = np.zeros(len(self.problem.residents), dtype=np.int64)
        least[options.resident[options.least][::-1]] = np.nonzero(options.least)[0][::-1]
        return np.maximum(self.taken, self.taken[:, least[options.resident]])

    @cached_property
    def most_w(self) -> Floats:
        """Per domain: what everything under it could take at its most."""
        return self.problem.index.roll_up(self.problem.most_own_w)

    @cached_property
    def highest_w(self) -> Floats:
        """Per domain: what residents take with every one at its highest."""
        if not len(self.problem.residents):
            return np.zeros(len(self.problem.index.names))
        return np.asarray(np.maximum.reduceat(self.kept, self.first, axis=1).sum(axis=1))

    @cached_property
    def first(self) -> Ints:
        """The first option of each resident."""
        return np.searchsorted(self.problem.options.resident, np.arange(len(self.problem.residents)))

    def counted(self, rank: int) -> Floats:
        """What a start of `rank` finds taken: what equals and betters give up by stopping is not for it."""
        if rank == NO_RANK:
            return self.taken
        rows = self.problem.residents.rank[self.problem.options.resident]
        return np.where(rows >= rank, self.kept, self.taken)

    @cached_property
    def spare_w(self) -> Mapping[int, Floats]:
        """By rank, per domain: watts for starts with every resident at its lowest. Below zero where residents
        need more than there is: then nobody of this rank starts there."""
        if not len(self.problem.residents):
            return dict.fromkeys(self.ranks, self.problem.room_w)
        return {
            rank: self.problem.room_w
            - np.minimum.reduceat(self.counted(rank), self.first, axis=1).sum(axis=1)
            for rank in self.ranks
        }

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """Of those who wait, highest first."""
        return tuple(np.unique(self.problem.groups.rank)[::-1].tolist())

    def by_rank(self, domains: Ints) -> Iterator[tuple[Floats, int]]:
        """(taken of these domains together per option, highest rank that this holds for); no row twice."""
        last: Floats | None = None
        ranks = [r for r in self.ranks if (self.spare_w[r][domains] >= -WATT_SLACK).all()]
        for rank in ranks or [NO_RANK]:
            taken = self.counted(rank)[domains].sum(axis=0)
            if last is None or not np.array_equal(taken, last):
                yield taken, rank
            last = taken

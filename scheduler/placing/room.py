"""Watts that are left under every tight domain, for each waiting rank, while an answer takes shape.

A start of rank r counts under the limits of its rank and of all above. A stopped resident counts at its
least for ranks that may not profit from it (see `PlacementProblem`).
"""

from __future__ import annotations

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.market import Market

FITS_W = 1e-6


class Room:
    """`left_w` is tight domains x waiting ranks; `above` the rows of it over each column of the tree."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self.tight: Ints = market.problem.tight
        self.ranks = max(1, len(market.ranks))
        self.above = market.tight_above
        self.left_w: Floats = np.repeat(market.problem.room_w[self.tight][:, None], self.ranks, axis=1)

    def sums(self, leaf: Ints, watts: Floats) -> Floats:
        """Watts per tight domain of an amount per row."""
        total = np.zeros(len(self.tight))
        for column in self.above[leaf].T:
            inside = column >= 0
            total += np.bincount(column[inside], watts[inside], len(total))
        return total

    def settle(self, stopped: Bools, option: Ints) -> None:
        """Begin anew with every resident at its option."""
        market, problem = self._market, self._market.problem
        holds, options = problem.holds, problem.options
        cap_w = options.cap_w[option]
        runs_w = holds.fixed_w + holds.steered * cap_w[holds.resident]
        now_w = np.where(stopped[holds.resident], holds.empty_w, runs_w)
        self.left_w = np.repeat(problem.room_w[self.tight][:, None], self.ranks, axis=1)
        row, domain = market.tight_holds
        self.left_w -= np.bincount(domain, now_w[row], len(self.tight))[:, None]
        below = np.nonzero(now_w < market.least_w)[0]
        wait, more_w = market.protected_below[holds.resident[below]], (market.least_w - now_w)[below]
        for rank in range(self.ranks):
            protected = wait > rank
            if protected.any():
                self.left_w[:, rank] -= self.sums(holds.leaf[below[protected]], more_w[protected])

    def load(self, leaf: Ints, watts: Floats, rank: Ints) -> None:
        """Count starts (or give back, where watts are negative)."""
        for one in np.unique(rank):
            mine = rank == one
            self.left_w[:, one:] -= self.sums(leaf[mine], watts[mine])[:, None]

    def release(self, residents: Ints, option: Ints, *, sign: float = 1.0) -> None:
        """Count these residents as stopped (`sign` -1: as running again).

        `option` is what each resident of all counted at until now.
        """
        market, problem = self._market, self._market.problem
        holds, gone = problem.holds, np.zeros(len(problem.residents), dtype=bool)
        gone[residents] = True
        rows = np.nonzero(gone[holds.resident])[0]
        cap_w = problem.options.cap_w[option[holds.resident[rows]]]
        runs_w = holds.fixed_w[rows] + holds.steered[rows] * cap_w
        wait = market.protected_below[holds.resident[rows]]
        for rank in range(self.ranks):
            after_w = np.where(
                wait > rank, np.maximum(market.least_w[rows], holds.empty_w[rows]), holds.empty_w[rows]
            )
            self.left_w[:, rank] += sign * self.sums(holds.leaf[rows], runs_w - after_w)

    def headroom_w(self, leaf: Ints, rank: int) -> Floats:
        """Least room over each leaf for a start of this rank; infinite where nothing is tight."""
        least = self.left_w[:, rank:].min(axis=1)
        found = np.full(len(leaf), np.inf)
        for column in self.above[leaf].T:
            inside = column >= 0
            found[inside] = np.minimum(found[inside], least[column[inside]])
        return found

    def first_that_fit(self, leaf: Ints, watts: Floats, rank: int) -> Bools:
        """Of rows in order, those that all fit together."""
        least = self.left_w[:, rank:].min(axis=1) + FITS_W
        fits = np.ones(len(leaf), dtype=bool)
        for column in self.above[leaf].T:
            rows = np.nonzero((column >= 0) & fits & (watts > 0))[0]
            rows = rows[np.argsort(column[rows], kind="stable")]
            domain = column[rows]
            total = np.cumsum(watts[rows])
            first = np.concatenate([[True], domain[1:] != domain[:-1]]) if len(rows) else np.zeros(0, bool)
            before = (total - watts[rows])[first]
            fits[rows] = total - before[np.cumsum(first) - 1] <= least[domain]
        return fits

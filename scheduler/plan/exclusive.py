"""The largest gangs, of which no two can run at once: which of them run, and when, taken together exactly.

A price per GPU-hour lets them overlap in part, and a bound from prices alone counts all of them where there
is time for one. Kept apart they are a chain: a short dynamic programme over which of them have run by when.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from power.arrays import Floats, Ints
from scheduler.plan.prices import SlotPrices
from scheduler.plan.problem import PlanProblem
from scheduler.plan.runs import NEVER, Chosen, Runs

MOST = 6  # gangs; each more doubles the work


class Exclusive:
    """The gangs of a problem, in `jobs`; those of highest worth where there are more than MOST."""

    def __init__(self, problem: PlanProblem) -> None:
        work, most_free = problem.work, float(problem.site.gpus.sum(axis=0).max(initial=0.0))
        able = np.diff(problem.first_offer) > 0
        rows = np.nonzero(able & (work.gang == work.gpus) & (2.0 * work.gpus > most_free))[0]
        self.jobs = np.sort(rows[np.argsort(-work.worth[rows], kind="stable")[:MOST]])
        at = problem.first_offer
        self._offers = [np.arange(at[job], at[job + 1]) for job in self.jobs.tolist()]
        self._runs = [Runs(problem, offers) for offers in self._offers]
        self._slots = len(problem.slots)

    def apart(self, best: Chosen, prices: SlotPrices) -> Chosen:
        """The same runs, but of the gangs those that gain the most one after the other."""
        if len(self.jobs) < 2:
            return best
        rows = [_Rows.of(*runs.table(prices)) for runs in self._runs]
        net, offer = best.net.copy(), best.offer.copy()
        first, last = best.first.copy(), best.last.copy()
        net[self.jobs], offer[self.jobs] = NEVER, -1
        for gang, run in _chain(rows, self._slots):
            job, row = self.jobs[gang], rows[gang]
            net[job], offer[job] = row.net[run], self._offers[gang][row.offer[run]]
            first[job], last[job] = row.first[run], row.last[run]
        return Chosen(net, offer, first, last)


@dataclass(frozen=True)
class _Rows:
    """The runs of one gang that net anything."""

    net: Floats
    offer: Ints  # of the gang's
    first: Ints
    last: Ints

    @classmethod
    def of(cls, net: Floats, last: Ints) -> _Rows:
        offer, first = np.nonzero(net > 0)
        return cls(net[offer, first], offer, first, last[offer, first])


def _chain(gangs: list[_Rows], slots: int) -> list[tuple[int, int]]:
    """(gang, run) of the chain that nets the most."""
    most = np.full((1 << len(gangs), slots + 1), NEVER)  # sets of gangs x edges by which they have run
    most[0] = 0.0
    for ran in range(1, len(most)):
        for gang, rows in enumerate(gangs):
            if ran >> gang & 1:
                np.maximum.at(most[ran], rows.last + 1, most[ran ^ 1 << gang][rows.first] + rows.net)
        most[ran] = np.maximum.accumulate(most[ran])
    ran, edge = int(most[:, -1].argmax()), slots
    chain = []
    while ran:
        edge = int(np.searchsorted(most[ran], most[ran, edge]))
        gang, run = _last_of(gangs, most, ran, edge)
        chain.append((gang, run))
        ran, edge = ran ^ 1 << gang, int(gangs[gang].first[run])
    return chain


def _last_of(gangs: list[_Rows], most: Floats, ran: int, edge: int) -> tuple[int, int]:
    """(gang, run) that ends at the edge and makes up the most of these gangs by then."""
    for gang, rows in enumerate(gangs):
        if ran >> gang & 1:
            ends = np.nonzero(rows.last + 1 == edge)[0]
            nets = most[ran ^ 1 << gang][rows.first[ends]] + rows.net[ends]
            if len(ends) and nets.max() == most[ran, edge]:
                return gang, int(ends[nets.argmax()])
    raise AssertionError("no run makes up the most")

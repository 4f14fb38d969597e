"""Ruin and recreate: take some runs of one stretch of time back, place them and some left-out jobs anew, and
keep what gains. For problems of some hundred jobs, where single jobs matter.
"""

from __future__ import annotations

import time

import numpy as np

from power.arrays import Floats, Ints
from scheduler.plan.disaggregate import Placing
from scheduler.plan.prices import SlotPrices
from scheduler.plan.problem import PlanProblem
from scheduler.plan.runs import NEVER, Runs, gains, used

MOST_CELLS = 2_000_000  # offers x slots whose gains are held in memory
IN_VAIN = 200  # rounds without any gain, after which nothing more is sought
RUINED, RETRIED = 12, 12  # jobs in a round: taken back, and left out before
LEAST = 1e-9  # of the value: a gain
STRETCH_H = 4.0
NOISE = 0.5  # of the order in which they come back
WHIM = (-5.0, -1.0)  # powers of ten: by what share of its gain a job's runs are liked more or less
FORCED = 0.3  # of the rounds begin with a run for a job that has none, whoever is in its way
FORCED_WHIM = 0.05


def improve(placing: Placing, prices: SlotPrices, *, enough: float, until_s: float, seed: int = 0) -> None:
    """Change the placing for the better until little is found, its value is `enough`, or time is up."""
    if len(placing.problem.offers) * len(placing.problem.slots) <= MOST_CELLS:
        _Improver(placing, prices, seed).run(enough, until_s)


def value_of(problem: PlanProblem, placing: Placing) -> float:
    """Money gained over deferring nothing, the peak's rise paid."""
    chosen = placing.chosen()
    value = float(gains(problem, chosen).sum())
    if problem.site.rise_price_per_w > 0:
        value -= problem.rise_cost(used(problem, chosen)[2])
    return value


class _Improver:
    def __init__(self, placing: Placing, prices: SlotPrices, seed: int) -> None:
        self._placing, self._problem = placing, placing.problem
        every = Runs(self._problem)
        self._gain, self._last = every.table(SlotPrices.zero(self._problem))
        self._net = every.table(prices)[0]
        self._at = self._problem.first_offer
        best = np.maximum(self._gain, 0.0).max(axis=1, initial=0.0)
        most = np.zeros(len(self._problem.work))
        np.maximum.at(most, self._problem.offers.job, best)
        self._most = most
        self._chance = np.random.default_rng(seed)

    def run(self, enough: float, until_s: float) -> None:
        value = value_of(self._problem, self._placing)
        in_vain = 0
        while value < enough and in_vain < IN_VAIN and time.perf_counter() < until_s:
            changed = self._round(value)
            in_vain = 0 if changed > value + LEAST * abs(value) else in_vain + 1
            value = changed

    def _round(self, value: float) -> float:
        placing = self._placing
        forced = self._forced() if self._chance.random() < FORCED else None
        jobs = self._picked() if forced is None else self._in_the_way(*forced)
        before = [(job, *self._run(job)) for job in jobs.tolist()]
        self._take_back(jobs)
        if forced is not None and placing.room.fits(*forced[1:]):
            placing.put(*forced)
        self._recreated(jobs)
        changed = value_of(self._problem, placing)
        if changed >= value:
            return changed
        self._take_back(jobs)
        for job, offer, first, last in before:
            if offer >= 0:
                placing.put(job, offer, first, last)
        return value

    def _take_back(self, jobs: Ints) -> None:
        for job in jobs[self._placing.offer[jobs] >= 0].tolist():
            self._placing.take_back(job, *self._run(job))

    def _recreated(self, jobs: Ints) -> None:
        """Those that have no run get one again, about in the order of what they can gain."""
        weigh = self._net if self._chance.random() < 0.5 else self._gain
        spread = 10.0 ** self._chance.uniform(*WHIM)
        order = self._most[jobs] * np.exp(self._chance.normal(0.0, NOISE, len(jobs)))
        for job in jobs[np.argsort(-order, kind="stable")].tolist():
            if self._placing.offer[job] < 0:
                self._recreate(job, weigh, spread)

    def _forced(self) -> tuple[int, int, int, int] | None:
        """A job without a run, the likelier the more it could gain, and a run of it that nets much."""
        chances = np.where(self._placing.offer < 0, self._most, 0.0)
        if chances.sum() <= 0:
            return None
        job = int(self._chance.choice(len(chances), p=chances / chances.sum()))
        rows = slice(int(self._at[job]), int(self._at[job + 1]))
        whim = self._chance.normal(0.0, FORCED_WHIM * self._most[job], self._net.shape[1])
        row, first = divmod(int((self._net[rows] + whim).argmax()), self._net.shape[1])
        return job, rows.start + row, first, int(self._last[rows.start + row, first])

    def _in_the_way(self, job: int, offer: int, first: int, last: int) -> Ints:
        """The job, those beside this run that must go for it, and some without a run."""
        placing, problem = self._placing, self._problem
        beside = (placing.offer >= 0) & (placing.first <= last) & (placing.last >= first)
        if not problem.site.under.any():
            beside &= problem.offers.zone[placing.offer] == problem.offers.zone[offer]
        rows = np.nonzero(beside)[0]
        worth = self._most[rows] / (problem.work.gpus * problem.work.full_h)[rows]
        worth *= np.exp(self._chance.normal(0.0, NOISE, len(rows)))
        gone = []
        for other in rows[np.argsort(worth, kind="stable")].tolist():
            if placing.room.fits(offer, first, last):
                break
            gone.append((other, *self._run(other)))
            placing.take_back(*gone[-1])
        for run in gone:
            placing.put(*run)
        left_out = np.nonzero((placing.offer < 0) & (self._most > 0))[0]
        left_out = self._chance.permutation(left_out[left_out != job])[:RETRIED]
        return np.concatenate([[job], [run[0] for run in gone], left_out]).astype(np.int64)

    def _run(self, job: int) -> tuple[int, int, int]:
        placing = self._placing
        return int(placing.offer[job]), int(placing.first[job]), int(placing.last[job])

    def _picked(self) -> Ints:
        """Some placed jobs that run in one stretch, and some without a run that could gain."""
        placing, slots = self._placing, self._problem.slots
        start_h = self._chance.uniform(0.0, slots.edges_h[-1])
        first, last = np.searchsorted(slots.edges_h[1:], [start_h, start_h + STRETCH_H])
        there = (placing.offer >= 0) & (placing.first <= last) & (placing.last >= first)
        left_out = (placing.offer < 0) & (self._most > 0)
        return np.concatenate(
            [
                self._chance.permutation(np.nonzero(rows)[0])[:most]
                for rows, most in ((there, RUINED), (left_out, RETRIED))
            ]
        )

    def _recreate(self, job: int, weigh: Floats, spread: float) -> None:
        """The best run that fits and gains, by `weigh` and a whim about caps and slots."""
        rows = slice(int(self._at[job]), int(self._at[job + 1]))
        last, gain = self._last[rows], self._gain[rows]
        open_ = self._placing.room.open(rows, last) & (gain > 0)
        if not open_.any():
            return
        caps, slots = (self._chance.normal(0.0, spread * self._most[job], n) for n in last.shape)
        liked = np.where(open_, weigh[rows] + caps[:, None] + slots, NEVER)
        row, first = divmod(int(liked.argmax()), last.shape[1])
        self._placing.put(job, rows.start + row, first, int(last[row, first]))

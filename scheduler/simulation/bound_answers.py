"""What each job would do at given prices, alone: the inner half of the bound's Lagrangian dual. Pure.

At prices of GPUs and watts per slot, a job wants its work done at least cost, over its own window and within
its own running time. That is a linear programme with two rows (work and running time) and one cell per slot;
its dual has two prices, the worth of a second of work and that of a second of running time. Any such pair
gives a lower bound of the job's cost, however it was found. For a given worth the best price of time is the
benefit of the last of the most beneficial seconds that the job may run, which leaves one unknown, and a
concave function of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.simulation.bound_levels import Levels
from scheduler.simulation.bound_problem import FluidJobs

CELLS_AT_ONCE: Final = 1_500_000
_HALVINGS: Final = 24  # of a worth that nothing is known of
_HALVINGS_NEAR: Final = 2  # of one that was close a step before
_NEAR: Final = 1.25  # how close, as a factor
_KINKS: Final = 3  # steps to where the lines from both ends meet
_LEAST_SHARE: Final = 1e-10  # of the highest worth: what counts as none


@dataclass(frozen=True)
class Charge:
    """What running costs in each slot: money per joule, and per second of a GPU whatever it draws."""

    per_ws: Floats
    per_s: Floats


@dataclass(frozen=True)
class Answers:
    """Per job and GPU: a lower bound of its cost, and the worth at which it was found. Per slot: GPU-seconds
    and joules of all jobs in a schedule that does each job's work, in its window and running time."""

    least_cost: Floats
    worth_per_s: Floats
    gpu_s: Floats
    gpu_ws: Floats


@dataclass(frozen=True)
class _Cells:
    """A cell per job and slot of its window, in order of jobs, each of which has one; `begins` in cells."""

    job: Ints
    slot: Ints
    seconds: Floats
    begins: Ints

    def totals(self, values: Floats) -> Floats:
        return np.asarray(np.add.reduceat(values, self.begins))

    def only(self, order: Ints, seconds: Floats) -> _Cells:
        """Some of the cells, still in order of jobs, with these seconds."""
        job = self.job[order]
        begins = np.nonzero(np.diff(job, prepend=-1))[0]
        return _Cells(job, self.slot[order], seconds, begins)


@dataclass(frozen=True)
class _Ends:
    """One end of the bracket around the best worth: the dual there, and work that is missing (its slope)."""

    worth: Floats
    dual: Floats
    missing_s: Floats

    def where(self, mask: Bools, other: _Ends) -> _Ends:
        """This one for the jobs that `mask` marks, the other for the rest."""
        mine, theirs = ((end.worth, end.dual, end.missing_s) for end in (self, other))
        return _Ends(*(np.where(mask, own, others) for own, others in zip(mine, theirs, strict=True)))


def answers(
    jobs: FluidJobs, levels: Levels, edges_s: Floats, charge: Charge, guess: Floats | None = None
) -> Answers:
    """Every job's own answer to `charge`. `guess` is the worth of answers to a charge not far off."""
    least, worth = np.empty(len(jobs)), np.empty(len(jobs))
    gpu_s, gpu_ws = np.zeros(len(edges_s) - 1), np.zeros(len(edges_s) - 1)
    for some, cells in _blocks(jobs, edges_s):
        part = jobs.only(some)
        block = _Block(part, levels, charge, cells)
        low, high = block.bracket(None if guess is None else guess[some])
        best = np.where(low.dual > high.dual, low.worth, high.worth)
        least[some], worth[some] = block.exact(best), best
        for share, end in zip(_mix(low, high), (low, high), strict=True):
            run_s, drawn_ws = block.use(end.worth, share * part.gpus)
            gpu_s += np.bincount(block.kept.slot, run_s, len(gpu_s))
            gpu_ws += np.bincount(block.kept.slot, drawn_ws, len(gpu_s))
    return Answers(least, worth, gpu_s, gpu_ws)


def least_prices(jobs: FluidJobs, edges_s: Floats, price: Floats) -> Floats:
    """Per job: the lowest price of any slot that its window touches."""
    lowest = np.empty(len(jobs))
    for some, cells in _blocks(jobs, edges_s):
        lowest[some] = np.minimum.reduceat(price[cells.slot], cells.begins)
    return lowest


class _Block:
    """Some of the jobs; `kept` are the cells that each would use first, up to its running time."""

    def __init__(self, jobs: FluidJobs, levels: Levels, charge: Charge, cells: _Cells) -> None:
        self._jobs, self._levels, self._charge, self._cells = jobs, levels, charge, cells
        self.kept = cells

    def bracket(self, guess: Floats | None) -> tuple[_Ends, _Ends]:
        """Two worths of work around the best one, and nearly the same."""
        self.kept = self._first_used(guess)
        highest = self._highest_worth()
        low, high = self._end(highest * _LEAST_SHARE), self._end(highest)
        if guess is not None:
            near = np.clip(guess, highest * _LEAST_SHARE, highest)
            for factor in (1.0 / _NEAR, _NEAR):
                low, high = self._narrowed(low, high, np.clip(near * factor, low.worth, high.worth))
        for _ in range(_HALVINGS if guess is None else _HALVINGS_NEAR):
            low, high = self._narrowed(low, high, np.sqrt(low.worth * high.worth))
        for _ in range(_KINKS):
            low, high = self._narrowed(low, high, _meeting(low, high))
        return low, high

    def exact(self, worth: Floats) -> Floats:
        """The lower bound of each job's cost at this worth of work, over every cell of its window."""
        jobs, cells = self._jobs, self._cells
        marginal = np.maximum(np.minimum.reduceat(self._benefit(self.kept, worth)[0], self.kept.begins), 0.0)
        is_short = cells.totals(cells.seconds) > jobs.longest_s
        time_worth = np.where(is_short, marginal, 0.0)
        benefit = self._benefit(cells, worth)[0] - time_worth[cells.job]
        taken = cells.totals(np.maximum(benefit, 0.0) * cells.seconds)
        return worth * jobs.work_s - time_worth * jobs.longest_s - taken

    def use(self, worth: Floats, gpus: Floats) -> tuple[Floats, Floats]:
        """(GPU-seconds, joules) in each of the kept cells at this worth, of so many GPUs per job."""
        cells = self.kept
        benefit, power_w, _ = self._benefit(cells, worth)
        run_s = np.where(benefit > 0, cells.seconds, 0.0) * gpus[cells.job]
        return run_s, run_s * power_w

    def _benefit(self, cells: _Cells, worth: Floats) -> tuple[Floats, Floats, Floats]:
        """(money gained per second, watts, throughput) of each cell at its best level."""
        per_ws, worth_per_s = self._charge.per_ws[cells.slot], worth[cells.job]
        power_w, pace = self._levels.best(self._jobs.level[cells.job], per_ws, worth_per_s)
        return worth_per_s * pace - per_ws * power_w - self._charge.per_s[cells.slot], power_w, pace

    def _first_used(self, guess: Floats | None) -> _Cells:
        """Each job's most beneficial cells, up to the longest that it may run."""
        cells, jobs = self._cells, self._jobs
        if guess is None:
            typical_w = self._levels.power_w.mean(axis=1)[jobs.level]
            rank = self._charge.per_ws[cells.slot] * typical_w[cells.job] + self._charge.per_s[cells.slot]
        else:
            cells = self._promising(cells, guess)
            rank = -self._benefit(cells, guess)[0]
        order = np.lexsort((rank, cells.job))
        seconds = cells.seconds[order]
        through_s = np.cumsum(seconds)
        before_s = through_s - seconds
        before_s -= before_s[cells.begins][cells.job]
        kept_s = np.clip(jobs.longest_s[cells.job] - before_s, 0.0, seconds)
        used = kept_s > 0
        return cells.only(order[used], kept_s[used])

    def _promising(self, cells: _Cells, guess: Floats) -> _Cells:
        """Those that gain anything even if work is worth some more, of jobs that such cells suffice for."""
        gains = self._benefit(cells, guess * _NEAR**2)[0] > 0
        enough = cells.totals(np.where(gains, cells.seconds, 0.0)) >= self._jobs.work_s
        some = np.nonzero(gains | ~enough[cells.job])[0]
        return cells.only(some, cells.seconds[some])

    def _highest_worth(self) -> Floats:
        """A worth at which every kept cell is used, at full speed: above it nothing changes any more."""
        cells, levels = self.kept, self._levels
        level = self._jobs.level[cells.job]
        per_ws, per_s = self._charge.per_ws[cells.slot], self._charge.per_s[cells.slot]
        dearest = np.abs(per_ws) * levels.power_w[level, -1] + np.abs(per_s)
        steep = np.maximum(per_ws, 0.0) / levels.least_slope[level]
        highest: Floats = np.maximum.reduceat(2.0 * dearest + steep, cells.begins)
        return np.maximum(highest, 1e-30)

    def _end(self, worth: Floats) -> _Ends:
        cells, work_s = self.kept, self._jobs.work_s
        benefit, _, pace = self._benefit(cells, worth)
        dual = worth * work_s - cells.totals(np.maximum(benefit, 0.0) * cells.seconds)
        done_s = cells.totals(np.where(benefit > 0, pace * cells.seconds, 0.0))
        return _Ends(worth, dual, work_s - done_s)

    def _narrowed(self, low: _Ends, high: _Ends, worth: Floats) -> tuple[_Ends, _Ends]:
        middle = self._end(worth)
        rising = middle.missing_s > 0
        return middle.where(rising, low), high.where(rising, middle)


def _meeting(low: _Ends, high: _Ends) -> Floats:
    """Where the tangents at both ends meet: the best worth, if the dual has one kink between them."""
    fall = low.missing_s - high.missing_s
    gained = high.dual - low.dual - high.missing_s * (high.worth - low.worth)
    met = low.worth + np.divide(gained, fall, out=np.zeros_like(fall), where=fall > 0)
    return np.clip(met, low.worth, high.worth)


def _mix(low: _Ends, high: _Ends) -> tuple[Floats, Floats]:
    """Shares of both ends' schedules that together do just the work."""
    fall = low.missing_s - high.missing_s
    of_low = np.clip(np.divide(-high.missing_s, fall, out=np.zeros_like(fall), where=fall > 0), 0.0, 1.0)
    return of_low, 1.0 - of_low


def _blocks(jobs: FluidJobs, edges_s: Floats) -> Iterator[tuple[slice, _Cells]]:
    """All jobs in their order, so many at a time that their cells stay a few million."""
    first = np.searchsorted(edges_s, jobs.start_s, side="right") - 1
    count = np.searchsorted(edges_s, jobs.end_s, side="left") - first
    block = np.cumsum(count) // CELLS_AT_ONCE
    borders = [0, *(np.nonzero(np.diff(block))[0] + 1).tolist(), len(jobs)]
    for begin, end in pairwise(borders):
        some = slice(begin, end)
        yield some, _cells(edges_s, first[some], count[some], jobs.start_s[some], jobs.end_s[some])


def _cells(edges_s: Floats, first: Ints, count: Ints, start_s: Floats, end_s: Floats) -> _Cells:
    begins = np.cumsum(count) - count
    job = np.repeat(np.arange(len(count)), count)
    slot = np.arange(len(job)) - begins[job] + first[job]
    seconds = np.minimum(edges_s[slot + 1], end_s[job]) - np.maximum(edges_s[slot], start_s[job])
    return _Cells(job, slot, seconds, begins)

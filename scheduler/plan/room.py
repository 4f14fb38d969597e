"""What is free in each slot while runs are placed: GPUs, watts, ramp steps and the peak, all hard."""

from __future__ import annotations

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.plan.problem import PlanProblem
from scheduler.plan.runs import SLACK, Chosen, used
from scheduler.plan.spans import from_zero


class Room:
    """Starts as the empty site. `rise_w` is by how much the month's peak may rise."""

    def __init__(self, problem: PlanProblem, rise_w: float = np.inf) -> None:
        site = problem.site
        self._problem = problem
        self.gpus = site.gpus.astype(np.float64)
        self.watts = site.watts.copy()
        self._zone_w = self._over(slice(None)).copy()
        self._under_peak_w = np.full(len(problem.slots), np.inf)
        if site.rise_price_per_w > 0:
            self._under_peak_w = np.maximum(site.peak_w + rise_w - site.draw_w, 0.0)
        self._ramps = bool(np.isfinite(site.ramp_w_per_min))
        self._up_w, self._down_w = site.steps_w(problem.slots)
        self._peaks = bool(np.isfinite(self._under_peak_w).any())

    def _over(self, span: slice) -> Floats:
        """Z x slots of `span`: the least that any domain over the zone has left."""
        under, watts = self._problem.site.under, self.watts[:, span]
        if under.size == 1 and under.all():
            return watts
        return np.asarray(np.where(under[:, :, None], watts[None], np.inf).min(axis=1, initial=np.inf))

    def fits(self, offer: int, first: int, last: int) -> bool:
        """Whether the run breaks nothing."""
        problem, offers, span = self._problem, self._problem.offers, slice(first, last + 1)
        zone, extra_w = offers.zone[offer], offers.extra_w[offer]
        if self.gpus[zone, span].min() < problem.work.gpus[offers.job[offer]]:
            return False
        if self._zone_w[zone, span].min() < offers.watts[offer] - SLACK:
            return False
        if self._peaks and self._under_peak_w[span].min() < extra_w - SLACK:
            return False
        if not self._ramps:
            return True
        ends = last + 1 == len(problem.slots) or self._down_w[last + 1] >= extra_w - SLACK
        return bool(ends and self._up_w[first] >= extra_w - SLACK)

    def open(self, rows: slice, last: Ints) -> Bools:
        """Offers of one job x S: from which slots its runs, which end in `last`, break nothing."""
        problem, offers, count = self._problem, self._problem.offers, len(self._problem.slots)
        zone, extra_w = offers.zone[rows], offers.extra_w[rows, None]
        full = self.gpus[zone] < problem.work.gpus[offers.job[rows.start]]
        full |= self._zone_w[zone] < offers.watts[rows, None] - SLACK
        if self._peaks:
            full |= self._under_peak_w < extra_w - SLACK
        closed = np.where(full, np.arange(count), count)
        free: Bools = last < np.minimum.accumulate(closed[:, ::-1], axis=1)[:, ::-1]
        if self._ramps:
            down_w = np.append(self._down_w, [np.inf, np.inf])[last + 1]
            free &= (self._up_w >= extra_w - SLACK) & (down_w >= extra_w - SLACK)
        return free

    def together(self, runs: Chosen) -> Bools:
        """Per job: whether its run meets only slots in which all these runs fit beside each other.

        None does where ramps count: there a run may need another one beside it.
        """
        if self._ramps:
            return np.zeros(len(runs.offer), dtype=bool)
        gpus, watts, draw_w = used(self._problem, runs)
        full_zone = self._problem.site.under @ (watts > self.watts + SLACK)
        full = (gpus > self.gpus) | full_zone | (draw_w > self._under_peak_w + SLACK)
        sums = from_zero(full.astype(np.float64))
        zone = self._problem.offers.zone[runs.offer]
        rows: Bools = runs.found & (sums[zone, runs.last + 1] == sums[zone, runs.first])
        return rows

    def place_all(self, runs: Chosen) -> None:
        """Take what runs need that fit `together`."""
        gpus, watts, draw_w = used(self._problem, runs)
        self.gpus -= gpus
        self.watts -= watts
        self._zone_w = self._over(slice(None)).copy()
        self._under_peak_w -= draw_w

    def place(self, offer: int, first: int, last: int, sign: float = 1.0) -> None:
        """Take what the run needs; `sign` -1 gives it back."""
        problem, offers, span = self._problem, self._problem.offers, slice(first, last + 1)
        zone, extra_w = offers.zone[offer], sign * offers.extra_w[offer]
        self.gpus[zone, span] -= sign * problem.work.gpus[offers.job[offer]]
        self.watts[problem.site.under[zone], span] -= sign * offers.watts[offer]
        self._zone_w[:, span] = self._over(span)
        self._under_peak_w[span] -= extra_w
        self._up_w[first] -= extra_w
        self._down_w[first] += extra_w
        if last + 1 < len(problem.slots):
            self._up_w[last + 1] += extra_w
            self._down_w[last + 1] -= extra_w

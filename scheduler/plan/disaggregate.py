"""From prices to windows: every job gets one unbroken run that fits what is truly free, or none.

Jobs are taken in small batches, each a fair sample of the queue, each job by the best run that still fits.
After each batch prices follow what it asked for against its share of what was left: slots fill evenly,
jobs to which several slots are equal spread over them, and who can wait makes room for who cannot. What
found no run is tried once more without prices. Where time runs short, batches are large and nobody has a
second choice; all whose first one did not fit are then placed at once. Nothing here breaks a limit: what is
placed is a plan.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from power.arrays import Floats, Ints
from scheduler.plan.prices import SlotPrices
from scheduler.plan.problem import PlanProblem
from scheduler.plan.room import Room
from scheduler.plan.runs import NEVER, Chosen, Runs, used

FEWEST, MOST, BATCHES = 25, 250, 80  # jobs between two movements of prices; and how many movements
HASTY_BATCHES = 40
FILL_BATCH = 1000
ROUNDS_AT_ONCE = 2
FEW = 2000
LARGE = 0.005  # of the largest zone's GPUs
SEED = 0


@dataclass(frozen=True)
class Order:
    """Which jobs come when; `demand_gpu_h` is what each is expected to take."""

    jobs: Ints
    demand_gpu_h: Floats


def order_of(problem: PlanProblem, best: Chosen) -> Order:
    """Those with a net gain first: the few by how much they gain, the many in a fixed random order in which
    only the LARGE come before the others, while there is room for them."""
    able = np.nonzero(np.diff(problem.first_offer) > 0)[0]
    net = best.net[able]
    rank = -net
    if len(able) > FEW:
        large = problem.work.gpus[able] > LARGE * problem.site.gpus.max()
        rank = np.random.default_rng(SEED).random(len(able)) - large
    order = np.argsort(np.where(net > 0, rank, np.inf), kind="stable")
    gpu_h = np.where(net > 0, problem.work.gpus[able] * problem.work.full_h[able], 0.0)
    return Order(able[order], gpu_h[order])


@dataclass
class Placing:
    """Runs in the making. `until_s` is a time of `time.perf_counter`: who would not be placed with care by
    then is placed in haste, and `hurried` counts those who lost by it.

    `price_step` is how far the price of a thing rises over the whole queue, if twice as much of it is asked
    for as there is: in values of the work that it would do.
    """

    problem: PlanProblem
    room: Room
    until_s: float = np.inf
    price_step: float = 1.0
    hurried: int = 0

    def __post_init__(self) -> None:
        jobs = len(self.problem.work)
        self.offer, self.first, self.last = (np.full(jobs, -1, dtype=np.int64) for _ in range(3))

    def chosen(self) -> Chosen:
        """What has been placed so far; its `net` is not kept."""
        net = np.where(self.offer >= 0, 0.0, NEVER)
        return Chosen(net, self.offer, self.first, self.last)

    def at_prices(self, order: Order, prices: SlotPrices) -> Ints:
        """Place in order; those that found no run with a net gain at the prices are returned."""
        count, size = len(order.jobs), int(np.clip(len(order.jobs) // BATCHES, FEWEST, MOST))
        follow = _Follow.of(self.problem, self.price_step / max(count, 1))
        began_s, begin = time.perf_counter(), 0
        without, late = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        while begin < count:
            now_s = time.perf_counter()
            short = now_s + (now_s - began_s) / max(begin, 1) * (count - begin) > self.until_s
            batch = slice(begin, begin + (max(size, count // HASTY_BATCHES) if short else size))
            before = self.room.gpus.copy(), self.room.watts.copy()
            *asked, left_out = self._batch(order.jobs[batch], prices, second=not short)
            (late if short else without).append(left_out)
            demand_gpu_h = float(order.demand_gpu_h[batch].sum())
            if demand_gpu_h > 0:
                share = demand_gpu_h / float(order.demand_gpu_h[begin:].sum())
                excess = [(much - share * there) / share for much, there in zip(asked, before, strict=True)]
                prices = follow.moved(prices, *(much * (batch.stop - begin) for much in excess))
            begin = batch.stop
        self._at_once(np.concatenate(late), prices)
        return np.concatenate(without)

    def fill(self, jobs: Ints) -> None:
        """Place what gains anything and still fits, in the order given, for as long as there is time."""
        free = SlotPrices.zero(self.problem)
        for begin in range(0, len(jobs), FILL_BATCH):
            if time.perf_counter() > self.until_s:
                break
            self._batch(jobs[begin : begin + FILL_BATCH], free)

    def _at_once(self, jobs: Ints, prices: SlotPrices) -> None:
        """All of them together, each by its best run in what is left; some times, at last without prices."""
        self.hurried += len(jobs)
        for paid in (*[prices] * ROUNDS_AT_ONCE, SlotPrices.zero(self.problem)):
            if not len(jobs):
                break
            site = replace(self.problem.site, gpus=self.room.gpus.copy(), watts=self.room.watts.copy())
            left = replace(self.problem, site=site)
            best = Runs(left, self._offers_of(jobs)).best(paid)
            self._put_all(best.only(best.net > 0), jobs)
            jobs = jobs[self.offer[jobs] < 0]

    def _batch(self, jobs: Ints, prices: SlotPrices, *, second: bool = True) -> tuple[Floats, Floats, Ints]:
        """(GPUs Z x S, watts D x S) that the jobs asked for, whether they got them or not; and who of them
        found no run. `second`: whose best run does not fit gets the best that does."""
        problem = self.problem
        best = Runs(problem, self._offers_of(jobs)).best(prices)
        best = best.only(best.net > 0)
        self._put_all(best, jobs)
        if second:
            self._second_choice(jobs[best.found[jobs] & (self.offer[jobs] < 0)], prices)
        gpus, watts, _ = used(problem, best)
        return gpus, watts, jobs[self.offer[jobs] < 0]

    def _second_choice(self, jobs: Ints, prices: SlotPrices) -> None:
        """To each in order the best run that fits beside those placed so far."""
        at, rows = self.problem.first_offer, self._offers_of(jobs)
        nets, lasts = Runs(self.problem, rows).table(prices)
        begin = 0
        for job in jobs.tolist():
            offers = slice(int(at[job]), int(at[job + 1]))
            mine = slice(begin, begin + offers.stop - offers.start)
            net, last, begin = nets[mine], lasts[mine], mine.stop
            open_ = np.where(self.room.open(offers, last), net, NEVER)
            row, first = divmod(int(open_.argmax()), open_.shape[1])
            if open_[row, first] > 0:
                self.put(job, offers.start + row, first, int(last[row, first]))

    def _put_all(self, runs: Chosen, jobs: Ints) -> None:
        """Give the jobs these runs: at once where they fit together, the rest in order where they fit."""
        together = self.room.together(runs)
        if together.any():
            self.room.place_all(runs.only(together))
            self.offer[together] = runs.offer[together]
            self.first[together], self.last[together] = runs.first[together], runs.last[together]
        for job in jobs[runs.found[jobs] & ~together[jobs]].tolist():
            run = int(runs.offer[job]), int(runs.first[job]), int(runs.last[job])
            if self.room.fits(*run):
                self.put(job, *run)

    def _offers_of(self, jobs: Ints) -> Ints:
        at = self.problem.first_offer
        sizes = at[jobs + 1] - at[jobs]
        before = np.cumsum(sizes) - sizes
        return np.repeat(at[jobs] - before, sizes) + np.arange(int(sizes.sum()))

    def put(self, job: int, offer: int, first: int, last: int) -> None:
        """Give the job this run, which must fit."""
        self.room.place(offer, first, last)
        self.offer[job], self.first[job], self.last[job] = offer, first, last

    def take_back(self, job: int, offer: int, first: int, last: int) -> None:
        """Take its run from the job."""
        self.room.place(offer, first, last, sign=-1.0)
        self.offer[job] = -1


@dataclass(frozen=True)
class _Follow:
    """How far prices follow: money per GPU and per watt of excess, as much as is there in a slot."""

    gpu_h: Floats  # Z x S
    watt_h: Floats  # D x S

    @classmethod
    def of(cls, problem: PlanProblem, share: float) -> _Follow:
        """`share` of what the median job's GPU-hour, or its watt-hour, is worth."""
        work, offers = problem.work, problem.offers
        gpu_h = float(np.median(work.worth / (work.gpus * work.full_h)))
        watts = float(np.median(offers.watts / work.gpus[offers.job]))
        return cls(
            share * gpu_h / np.maximum(problem.site.gpus, 1.0),
            share * gpu_h / max(watts, 1.0) / np.maximum(problem.site.watts, 1.0),
        )

    def moved(self, prices: SlotPrices, gpus: Floats, watts: Floats) -> SlotPrices:
        """By what was asked for beyond its share, Z x S and D x S."""
        return replace(
            prices,
            gpu_h=np.maximum(0.0, prices.gpu_h + self.gpu_h * gpus),
            watt_h=np.maximum(0.0, prices.watt_h + self.watt_h * watts),
        )

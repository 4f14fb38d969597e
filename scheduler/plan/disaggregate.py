"""From prices to windows: every job gets one unbroken run that fits what is truly free, or none.

Jobs are taken in small batches, each a fair sample of the queue, each job by the best run that still fits.
After each batch prices follow what it asked for against its share of what was left: slots fill evenly,
jobs to which several slots are equal spread over them, and who can wait makes room for who cannot. What
found no run is tried once more without prices. Nothing here breaks a limit: what is placed is a plan.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from power.arrays import Floats, Ints
from scheduler.plan.prices import SlotPrices
from scheduler.plan.problem import PlanProblem
from scheduler.plan.room import Room
from scheduler.plan.runs import NEVER, Chosen, Runs

FEWEST, MOST, BATCHES = 25, 250, 80  # jobs between two movements of prices; and how many movements
FILL_BATCH = 1000
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
    able = np.nonzero(best.found)[0]
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
    """Runs in the making. `until_s` is a time of `time.perf_counter`: jobs not reached by then get none.

    `price_step` is how far the price of a thing rises over the whole queue, if twice as much of it is asked
    for as there is: in values of the work that it would do.
    """

    problem: PlanProblem
    room: Room
    until_s: float = np.inf
    price_step: float = 1.0
    unreached: int = 0

    def __post_init__(self) -> None:
        jobs = len(self.problem.work)
        self.offer, self.first, self.last = (np.full(jobs, -1, dtype=np.int64) for _ in range(3))

    def chosen(self) -> Chosen:
        """What has been placed so far; its `net` is not kept."""
        net = np.where(self.offer >= 0, 0.0, NEVER)
        return Chosen(net, self.offer, self.first, self.last)

    def at_prices(self, order: Order, prices: SlotPrices) -> Ints:
        """Place in order; those that found no run with a net gain at the prices are returned."""
        left_gpu_h, without = float(order.demand_gpu_h.sum()), list[int]()
        size = int(np.clip(len(order.jobs) // BATCHES, FEWEST, MOST))
        follow = _Follow.of(self.problem, self.price_step * size / max(len(order.jobs), 1))
        began_s, begin = time.perf_counter(), 0
        while begin < len(order.jobs):
            now_s = time.perf_counter()
            if begin and now_s > self.until_s:
                self.unreached += len(order.jobs) - begin
                break
            if begin and (now_s - began_s) / begin * (len(order.jobs) - begin) > self.until_s - now_s:
                size = FILL_BATCH  # larger ones take less time
            batch = order.jobs[begin : begin + size]
            demand = float(order.demand_gpu_h[begin : begin + size].sum())
            before_gpus, before_w = self.room.gpus.copy(), self.room.watts.copy()
            asked_gpus, asked_w = self._batch(batch, prices, without)
            share = demand / left_gpu_h if left_gpu_h > 0 else 0.0
            left_gpu_h -= demand
            begin += size
            if share > 0:
                site = self.problem.site
                prices = follow.moved(
                    prices,
                    (asked_gpus - share * before_gpus) / (share * np.maximum(site.gpus, 1)),
                    (asked_w - share * before_w) / (share * np.maximum(site.watts, 1.0)),
                )
        return np.array(without, dtype=np.int64)

    def fill(self, jobs: Ints) -> None:
        """Place what gains anything and still fits, in the order given."""
        free = SlotPrices.zero(self.problem)
        for begin in range(0, len(jobs), FILL_BATCH):
            if time.perf_counter() > self.until_s:
                self.unreached += len(jobs) - begin
                return
            self._batch(jobs[begin : begin + FILL_BATCH], free, [])

    def _batch(self, jobs: Ints, prices: SlotPrices, without: list[int]) -> tuple[Floats, Floats]:
        """(GPUs Z x S, watts D x S) that the jobs asked for, whether they got them or not."""
        problem, site = self.problem, self.problem.site
        at = problem.first_offer
        sizes = at[jobs + 1] - at[jobs]
        before = np.cumsum(sizes) - sizes
        rows = np.repeat(at[jobs] - before, sizes) + np.arange(int(sizes.sum()))
        nets, lasts = Runs(problem, rows).table(prices)
        asked_gpus, asked_w = np.zeros(site.gpus.shape), np.zeros(site.watts.shape)
        begin, count = 0, len(problem.slots)
        for job, size in zip(jobs.tolist(), sizes.tolist(), strict=True):
            net, last = nets[begin : begin + size], lasts[begin : begin + size]
            begin, offer = begin + size, int(at[job])
            most = int(net.argmax())
            row, first = divmod(most, count)
            if net[row, first] <= 0:
                without.append(job)
                continue
            end, zone = int(last[row, first]), problem.offers.zone[offer + row]
            asked_gpus[zone, first : end + 1] += problem.work.gpus[job]
            asked_w[site.under[zone], first : end + 1] += problem.offers.watts[offer + row]
            if not self.room.fits(offer + row, first, end):
                open_ = np.where(self.room.open(slice(offer, offer + size), last), net, NEVER)
                row, first = divmod(int(open_.argmax()), count)
                if open_[row, first] <= 0:
                    without.append(job)
                    continue
                end = int(last[row, first])
            self.put(job, offer + row, first, end)
        return asked_gpus, asked_w

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
    """How far prices follow: money per unit of relative excess."""

    gpu_h: float
    watt_h: float

    @classmethod
    def of(cls, problem: PlanProblem, share: float) -> _Follow:
        """`share` of what the median job's GPU-hour, or its watt-hour, is worth."""
        work, offers = problem.work, problem.offers
        gpu_h = float(np.median(work.worth / (work.gpus * work.full_h)))
        watts = float(np.median(offers.watts / work.gpus[offers.job]))
        return cls(share * gpu_h, share * gpu_h / max(watts, 1.0))

    def moved(self, prices: SlotPrices, gpus: Floats, watts: Floats) -> SlotPrices:
        """By relative excess, Z x S and D x S."""
        return replace(
            prices,
            gpu_h=np.maximum(0.0, prices.gpu_h + self.gpu_h * gpus),
            watt_h=np.maximum(0.0, prices.watt_h + self.watt_h * watts),
        )

"""Every run that a plan may choose: each offer from each slot, with its gain less what it pays.

What a run pays depends on its slots, of which runs of one length span the same, and by a few factors on its
offer. Worked in pieces that stay in cache; of many offers nothing of the size of offers x slots is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.plan.prices import SlotPrices
from scheduler.plan.problem import PlanProblem
from scheduler.plan.spans import SAME_TIME_H, from_zero

NEVER = -np.inf
SLACK = 1e-6  # of a GPU or a watt
CHUNK = 256  # offers at a time: in cache
MOST_KEPT = 2_000_000  # offers x slots
MOST_PRICE = 1e300  # what a slot without a known price costs more than


@dataclass(frozen=True)
class Chosen:
    """Per job one run, and what it nets; offer -1 and NEVER where it has none."""

    net: Floats
    offer: Ints
    first: Ints
    last: Ints

    @property
    def found(self) -> Bools:
        rows: Bools = self.offer >= 0
        return rows

    def only(self, rows: Bools) -> Chosen:
        """The same, with the runs of other jobs taken out."""
        return Chosen(np.where(rows, self.net, NEVER), np.where(rows, self.offer, -1), self.first, self.last)


@dataclass(frozen=True)
class _Piece:
    """Some offers, from the first slots on: as many as the one with the latest start has."""

    rows: Ints
    zone: Ints
    length: Ints
    gain: Floats  # offers x starts: at no price; NEVER where not allowed


@dataclass(frozen=True)
class Runs:
    """The runs of some offers (default: all) of a problem."""

    problem: PlanProblem
    chosen: Ints | None = None

    @cached_property
    def _rows(self) -> Ints:
        return np.arange(len(self.problem.offers)) if self.chosen is None else self.chosen

    @cached_property
    def _kept(self) -> tuple[_Piece, ...]:
        return tuple(self._made())

    def _pieces(self) -> Iterable[_Piece]:
        """Kept where they are few: whoever asks once asks again, at other prices."""
        few = len(self._rows) * len(self.problem.slots) <= MOST_KEPT
        return self._kept if few else self._made()

    def _made(self) -> Iterator[_Piece]:
        """Offers with about as many starts together: what lies after the last is never looked at."""
        problem, spans, rows = self.problem, self.problem.spans, self._rows
        latest_h = problem.offers.latest_end_h[rows] - problem.offers.hours[rows] + SAME_TIME_H
        in_time = np.searchsorted(problem.slots.edges_h[:-1], latest_h, side="right")
        starts = np.minimum(in_time, spans.starts[spans.length[rows]])
        order = np.argsort(starts, kind="stable")
        order = order[int(np.searchsorted(starts[order], 1)) :]
        for begin in range(0, len(order), CHUNK):
            part = order[begin : begin + CHUNK]
            yield _piece(problem, rows[part], starts[part])

    def nets(self, prices: SlotPrices) -> Iterator[tuple[_Piece, Floats]]:
        """(some offers, offers x starts: gain less what the run pays; NEVER where not allowed)."""
        paid = _Paid.at(self.problem, prices)
        for piece in self._pieces():
            net, factors = piece.gain, self.problem.factors[piece.rows]
            count = net.shape[1]
            if paid.gpu is not None:
                net = net - factors[:, 4, None] * paid.gpu[:, :, :count][piece.zone, piece.length]
            if paid.watt is not None:
                net = net - factors[:, 5, None] * paid.watt[:, :, :count][piece.zone, piece.length]
            if paid.draw is not None:
                net = net - factors[:, 3, None] * paid.draw[:, :count][piece.length]
            yield piece, net

    def best(self, prices: SlotPrices) -> Chosen:
        """Per job of the problem: the run with the highest net gain, the earliest of equals."""
        problem = self.problem
        net = np.full(len(problem.offers), NEVER)
        first = np.zeros(len(problem.offers), dtype=np.int64)
        for piece, nets in self.nets(prices):
            start = nets.argmax(axis=1)
            net[piece.rows] = nets[np.arange(len(start)), start]
            first[piece.rows] = start
        offer = _best_offer(net, problem)
        found = offer >= 0
        last = problem.spans.last[problem.spans.length[offer], first[offer]]
        return Chosen(np.where(found, net[offer], NEVER), offer, first[offer] * found, last * found)

    def table(self, prices: SlotPrices) -> tuple[Floats, Ints]:
        """(net, last slot), offers of `chosen` x S in that order; for a few jobs at a time."""
        rows, spans = self._rows, self.problem.spans
        at = np.zeros(len(self.problem.offers), dtype=np.int64)
        at[rows] = np.arange(len(rows))
        net = np.full((len(rows), len(self.problem.slots)), NEVER)
        for piece, nets in self.nets(prices):
            net[at[piece.rows], : nets.shape[1]] = nets
        return net, spans.last[spans.length[rows]]


def _piece(problem: PlanProblem, rows: Ints, starts: Ints) -> _Piece:
    """Offers with so many starts each, rising."""
    work, spans, count = problem.work, problem.spans, int(starts[-1])
    zone, length, job = problem.offers.zone[rows], problem.spans.length[rows], problem.offers.job[rows]
    factors, share = problem.factors[rows], problem.gang_share[rows]
    gain = factors[:, 0, None] - factors[:, 1, None] * problem.slots.edges_h[:count]
    per_wh, per_w = problem.energy
    gain -= factors[:, 2, None] * per_wh[:, :count][length]
    gain -= factors[:, 3, None] * per_w[:, :count][length]
    gain[np.arange(count) >= starts[:, None]] = NEVER
    for bar, row, most in (
        (spans.dearest, length, np.minimum(work.ceiling_per_mwh[job], MOST_PRICE)),
        (spans.fewest_gpus, zone * len(spans.last) + length, SLACK - work.gpus[job] * share),
        (spans.least_w, zone * len(spans.last) + length, SLACK - problem.offers.watts[rows] * share),
    ):
        bar.put(gain, row, most, never=NEVER)
    return _Piece(rows, zone, length, gain)


@dataclass(frozen=True)
class _Paid:
    """What a run pays for what it holds, to the end of its last slot; None where nothing has a price."""

    gpu: Floats | None  # Z x L x S, per GPU
    watt: Floats | None  # Z x L x S, per watt taken from all domains over the zone
    draw: Floats | None  # L x S, per watt of draw: ramp and peak

    @classmethod
    def at(cls, problem: PlanProblem, prices: SlotPrices) -> _Paid:
        hours, last = problem.slots.hours, np.minimum(problem.spans.last, len(problem.slots) - 1)

        def paid(amounts: Floats) -> Floats | None:
            sums = from_zero(amounts)
            return sums[..., last + 1] - sums[..., None, :-1] if amounts.any() else None

        watt_h = problem.site.under.astype(np.float64) @ prices.watt_h
        return cls(gpu=paid(prices.gpu_h * hours), watt=paid(watt_h * hours), draw=paid(prices.draw))


def used(problem: PlanProblem, runs: Chosen) -> tuple[Floats, Floats, Floats]:
    """(GPUs Z x S, watts D x S, draw S) that the found runs hold."""
    site, offers, count = problem.site, problem.offers, len(problem.slots)
    jobs = np.nonzero(runs.found)[0]
    offer, first, last = runs.offer[jobs], runs.first[jobs], runs.last[jobs]
    zones, width = len(site.zones), count + 1

    def held(amount: Floats) -> Floats:
        at = offers.zone[offer] * width
        begun = np.bincount(at + first, amount, zones * width)
        ended = np.bincount(at + last + 1, amount, zones * width)
        return np.asarray(np.cumsum((begun - ended).reshape(zones, width), axis=1)[:, :count])

    gpus = held(problem.work.gpus[jobs])
    watts = site.under.T.astype(np.float64) @ held(offers.watts[offer])
    return gpus, watts, held(offers.extra_w[offer]).sum(axis=0)


def gains(problem: PlanProblem, runs: Chosen) -> Floats:
    """Per job: money gained by its run over not running in these slots, the peak's rise aside."""
    work, offers, slots = problem.work, problem.offers, problem.slots
    jobs = np.nonzero(runs.found)[0]
    offer, start_h = runs.offer[jobs], slots.edges_h[runs.first[jobs]]
    end_h = start_h + offers.hours[offer]
    paid = from_zero(np.where(slots.known, slots.price_per_mwh, 0.0) * slots.hours)
    per_w = (np.interp(end_h, slots.edges_h, paid) - np.interp(start_h, slots.edges_h, paid)) / 1e6
    gained = np.zeros(len(work))
    delay_h = end_h - work.full_h[jobs]
    gained[jobs] = work.worth[jobs] - work.delay_per_h[jobs] * delay_h - per_w * offers.extra_w[offer]
    return gained


def _best_offer(net: Floats, problem: PlanProblem) -> Ints:
    """Per job: its offer of the highest net, the first of equals; -1 where none is allowed."""
    able = np.nonzero(np.diff(problem.first_offer) > 0)[0]
    offer = np.full(len(problem.work), -1, dtype=np.int64)
    if not len(able):
        return offer
    most = np.full(len(problem.work), NEVER)
    most[able] = np.maximum.reduceat(net, problem.first_offer[able])
    at_most = np.nonzero((net == most[problem.offers.job]) & (net > NEVER))[0]
    offer[problem.offers.job[at_most[::-1]]] = at_most[::-1]
    return offer

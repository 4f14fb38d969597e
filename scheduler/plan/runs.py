"""Every run that a plan may choose: each offer from each slot, with its gain less what it pays.

Offers whose runs span the same slots differ only by a few factors, so that all their runs are one small
matrix product. Worked in pieces; nothing of the size of jobs x slots is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.plan.prices import SlotPrices
from scheduler.plan.problem import PlanProblem
from scheduler.plan.spans import SAME_TIME_H, Span

NEVER = -np.inf
SLACK = 1e-6  # of a GPU or a watt
CHUNK = 192  # offers at a time: in cache, and too small for BLAS to wake its threads


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
class _Alike:
    """Offers in one zone whose runs from any slot end in the same one, and what they meet on the way."""

    zone: int
    rows: Ints
    span: Span


@dataclass(frozen=True)
class Runs:
    """The runs of some offers (default: all) of a problem."""

    problem: PlanProblem
    chosen: Ints | None = None

    @cached_property
    def _alike(self) -> tuple[_Alike, ...]:
        offers = self.problem.offers
        rows = np.arange(len(offers)) if self.chosen is None else self.chosen
        lengths = self.problem.spans.lengths_h
        length = np.searchsorted(lengths, offers.hours[rows] - SAME_TIME_H)
        order = np.lexsort((length, offers.zone[rows]))
        rows, length = rows[order], length[order]
        new = (np.diff(length) != 0) | (np.diff(offers.zone[rows]) != 0)
        cuts = np.concatenate([[0], np.nonzero(new)[0] + 1, [len(rows)]])
        groups = []
        for begin, end in pairwise(cuts.tolist()):
            if begin == end or length[begin] == len(lengths):
                continue  # nothing here, or longer than the horizon
            zone = int(offers.zone[rows[begin]])
            span = self.problem.spans.of(zone, int(length[begin]))
            groups += [_Alike(zone, rows[at : min(at + CHUNK, end)], span) for at in range(begin, end, CHUNK)]
        return tuple(groups)

    def nets(self, prices: SlotPrices) -> Iterator[tuple[_Alike, Floats]]:
        """(offers alike, offers x starts: gain less what the run pays; NEVER where not allowed)."""
        slots, work, offers = self.problem.slots, self.problem.work, self.problem.offers
        paid = _Paid.at(self.problem, prices)
        starts_h = slots.edges_h[:-1]
        for alike in self._alike:
            net = self.problem.factors[alike.rows] @ paid.basis(alike, starts_h)
            span = alike.span
            latest_h = offers.latest_end_h[alike.rows] - offers.hours[alike.rows] + SAME_TIME_H
            first_h, ceiling = starts_h[: net.shape[1]], work.ceiling_per_mwh[offers.job[alike.rows]]
            np.copyto(net, NEVER, where=first_h > latest_h[:, None])
            _bar(net, span.dearest, ceiling)
            share = self.problem.gang_share[alike.rows]
            _bar(net, -span.gpus, SLACK - work.gpus[offers.job[alike.rows]] * share)
            _bar(net, -span.watts, SLACK - offers.watts[alike.rows] * share)
            if span.unknown.any():
                net[:, span.unknown] = NEVER
            yield alike, net

    def best(self, prices: SlotPrices) -> Chosen:
        """Per job of the problem: the run with the highest net gain, the earliest of equals."""
        problem = self.problem
        net = np.full(len(problem.offers), NEVER)
        first, last = (np.zeros(len(problem.offers), dtype=np.int64) for _ in range(2))
        for alike, nets in self.nets(prices):
            if nets.shape[1]:
                start = nets.argmax(axis=1)
                net[alike.rows] = nets[np.arange(len(start)), start]
                first[alike.rows], last[alike.rows] = start, alike.span.last[start]
        offer = _best_offer(net, problem)
        found = offer >= 0
        return Chosen(np.where(found, net[offer], NEVER), offer, first[offer] * found, last[offer] * found)

    def table(self, prices: SlotPrices) -> tuple[Floats, Ints]:
        """(net, last slot), offers of `chosen` x S in that order; for a few jobs at a time."""
        rows = np.arange(len(self.problem.offers)) if self.chosen is None else self.chosen
        count = len(self.problem.slots)
        at = np.zeros(len(self.problem.offers), dtype=np.int64)
        at[rows] = np.arange(len(rows))
        net = np.full((len(rows), count), NEVER)
        last = np.full((len(rows), count), count, dtype=np.int64)
        for alike, nets in self.nets(prices):
            where, starts = at[alike.rows], nets.shape[1]
            net[where, :starts] = nets
            last[where, :starts] = alike.span.last
        return net, last


@dataclass(frozen=True)
class _Paid:
    """Running sums, from 0 to each edge, of what is paid at given prices."""

    gpu: Floats  # Z x (S+1), per GPU
    watt: Floats  # Z x (S+1), per watt taken from all domains over the zone
    rate: Floats  # S, money per watt drawn for an hour
    energy: Floats  # S, per watt drawn: to an hour of the slot it is `energy + rate x hour`
    draw: Floats  # S+1, per watt of draw: ramp and peak, for whole slots

    @classmethod
    def at(cls, problem: PlanProblem, prices: SlotPrices) -> _Paid:
        slots = problem.slots
        watt_h = problem.site.under.astype(np.float64) @ prices.watt_h
        rate = np.where(slots.known, slots.price_per_mwh, 0.0) / 1e6
        return cls(
            gpu=_from_zero(prices.gpu_h * slots.hours),
            watt=_from_zero(watt_h * slots.hours),
            rate=rate,
            energy=(_from_zero(rate * slots.hours) - np.append(rate, 0.0) * slots.edges_h)[:-1],
            draw=_from_zero(prices.draw),
        )

    def basis(self, alike: _Alike, starts_h: Floats) -> Floats:
        """6 x starts: gain per unit of a factor. Energy is paid to the hour, the rest to the slot's end."""
        count, last, zone = len(alike.span.last), alike.span.last, alike.zone
        start_h, to = starts_h[:count], last + 1
        rate = self.rate[last]
        spent = self.energy[last] + rate * start_h - self.energy[:count] - self.rate[:count] * start_h
        rows = np.empty((6, count))
        rows[0] = 1.0
        rows[1] = -start_h
        rows[2] = -rate
        rows[3] = self.draw[:count] - self.draw[to] - spent
        rows[4] = self.gpu[zone, :count] - self.gpu[zone, to]
        rows[5] = self.watt[zone, :count] - self.watt[zone, to]
        return rows


def _bar(net: Floats, per_start: Floats, most: Floats) -> None:
    """NEVER for offers (rows) at starts (columns) that have more than the offer's most."""
    some = np.nonzero(most < per_start.max(initial=NEVER))[0]
    net[some] = np.where(per_start > most[some, None], NEVER, net[some])


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
    paid = _from_zero(np.where(slots.known, slots.price_per_mwh, 0.0) * slots.hours)
    per_w = (np.interp(end_h, slots.edges_h, paid) - np.interp(start_h, slots.edges_h, paid)) / 1e6
    gained = np.zeros(len(work))
    delay_h = end_h - work.full_h[jobs]
    gained[jobs] = work.worth[jobs] - work.delay_per_h[jobs] * delay_h - per_w * offers.extra_w[offer]
    return gained


def _from_zero(amounts: Floats) -> Floats:
    """Running sums along the last axis, with a leading 0."""
    width = [(0, 0)] * (amounts.ndim - 1) + [(1, 0)]
    return np.pad(np.cumsum(amounts, axis=-1), width)


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

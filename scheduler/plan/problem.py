"""The planning problem as plain arrays: slots, what the site has free in them, and the work that can wait.

A plan is on the grid of its slots: a run begins at a slot's start, is never broken, and holds its GPUs and
watts to the end of the slot in which it ends. Hours count from the moment of the plan. Axes in shapes:
S slots, Z zones, D limited domains, J jobs, R offers (a job in a zone at a cap).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.plan.spans import SAME_TIME_H, Spans, from_zero


@dataclass(frozen=True, kw_only=True)
class Slots:
    """The horizon without a hole; `market_per_mwh` is infinite where nobody knows it: nothing runs there.

    `price_per_mwh` is what decisions reckon with: energy and carbon as expected plus a guard against their
    high side. `expected_per_mwh` is energy and carbon as expected, for statements of cost.
    """

    edges_h: Floats  # S + 1, rising, from 0 on
    price_per_mwh: Floats
    expected_per_mwh: Floats
    market_per_mwh: Floats  # energy alone, guarded: what a price ceiling is held against

    def __len__(self) -> int:
        return len(self.price_per_mwh)

    @cached_property
    def hours(self) -> Floats:
        return np.diff(self.edges_h)

    @cached_property
    def known(self) -> Bools:
        rows: Bools = np.isfinite(self.market_per_mwh)
        return rows


@dataclass(frozen=True, kw_only=True)
class Site:
    """What is free for deferred work in each slot, beside what runs already.

    A zone is a set of GPUs of one kind under the same limited domains; a job runs in one zone. `watts` is
    what each limited domain has left for loads above idle (never negative). The site's draw is held
    against the ramp and the demand charge.
    """

    zones: tuple[str, ...]
    domains: tuple[str, ...]
    under: Bools  # Z x D
    gpus: Floats  # Z x S
    watts: Floats  # D x S
    draw_w: Floats  # S: of the site without any deferred work
    ramp_w_per_min: float = math.inf
    demand_charge_per_kw: float = 0.0
    month_peak_w: float = 0.0

    @cached_property
    def zone_w(self) -> Floats:
        """Z x S: the least that any domain over the zone has."""
        over = np.where(self.under[:, :, None], self.watts[None], np.inf)
        return np.asarray(over.min(axis=1, initial=np.inf))

    @property
    def peak_w(self) -> float:
        """The month's peak if nothing is deferred into these slots."""
        return max(self.month_peak_w, float(self.draw_w.max(initial=0.0)))

    @property
    def rise_price_per_w(self) -> float:
        """Money for each watt by which the month's peak rises."""
        return self.demand_charge_per_kw / 1e3

    def steps_w(self, slots: Slots) -> tuple[Floats, Floats]:
        """(most up, most down) by which deferred draw may change at each slot's start; 0 before the first.

        The limit is on the site's draw, from slot to slot: ramp x minutes of the earlier slot (of the first
        slot for the first). A step that running work makes by itself is allowed, so that deferring nothing
        always is.
        """
        earlier_h = np.concatenate([slots.hours[:1], slots.hours[:-1]])
        most_w = self.ramp_w_per_min * 60.0 * earlier_h
        own_w = np.diff(self.draw_w, prepend=self.draw_w[:1])
        return np.maximum(most_w, own_w) - own_w, np.maximum(most_w, -own_w) + own_w


@dataclass(frozen=True, kw_only=True)
class Work:
    """Jobs that can wait, one per row; money is for the whole job."""

    ids: tuple[str, ...]
    gpus: Floats
    gang: Floats  # of these GPUs, how many must be free at once: all, but where a row stands for many jobs
    worth: Floats  # value of the work, without energy
    full_h: Floats  # running time at full speed
    delay_per_h: Floats  # lost by each hour that it ends later than if it ran now, at full speed
    ceiling_per_mwh: Floats  # infinite: none

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Offers:
    """Ways to run a job, of all its GPUs; rows of one job are neighbours, in the order of the jobs."""

    job: Ints
    zone: Ints
    cap_w: Floats  # per GPU
    hours: Floats
    watts: Floats  # taken from every limited domain over the zone
    extra_w: Floats  # mean draw above idle: what running it changes
    draw_w: Floats  # mean draw in all
    latest_end_h: Floats  # infinite: no deadline

    def __len__(self) -> int:
        return len(self.job)


@dataclass(frozen=True, kw_only=True)
class PlanProblem:
    """Slots, site, work and offers. `notes` says in words what was left out of the model."""

    slots: Slots
    site: Site
    work: Work
    offers: Offers
    notes: tuple[str, ...] = ()

    @cached_property
    def first_offer(self) -> Ints:
        """J + 1: where each job's offers begin; a job may have none."""
        return np.searchsorted(self.offers.job, np.arange(len(self.work) + 1))

    @cached_property
    def spans(self) -> Spans:
        """What runs of each length span; its runs are the offers."""
        slots, site = self.slots, self.site
        return Spans(slots.edges_h, slots.market_per_mwh, site.gpus, site.zone_w, self.offers.hours)

    @cached_property
    def energy(self) -> tuple[Floats, Floats]:
        """L x S: what a run pays for energy, to the hour: (per watt-hour that it draws, per watt)."""
        slots, last = self.slots, np.minimum(self.spans.last, len(self.slots) - 1)
        rate = np.where(slots.known, slots.price_per_mwh, 0.0) / 1e6
        upto = (from_zero(rate * slots.hours) - np.append(rate, 0.0) * slots.edges_h)[:-1]
        start_h = slots.edges_h[:-1]
        return rate[last], upto[last] + rate[last] * start_h - upto - rate * start_h

    @cached_property
    def factors(self) -> Floats:
        """R x 6: worth and delay, money per hour late, watt-hours and watts drawn, GPUs, watts taken."""
        work, offers = self.work, self.offers
        job, hours = offers.job, offers.hours
        delay = work.delay_per_h[job]
        worth = work.worth[job] - delay * (hours - work.full_h[job])
        columns = (worth, delay, offers.extra_w * hours, offers.extra_w, work.gpus[job], offers.watts)
        return np.stack(columns, axis=1)

    @cached_property
    def gang_share(self) -> Floats:
        """Per offer: the share of its GPUs, and so of its watts, that must be free at once."""
        return np.asarray((self.work.gang / self.work.gpus)[self.offers.job])

    def occupied_h(self) -> Floats:
        """Per offer: about how many hours of its GPUs a run takes, with the rest of its last slot."""
        usual_h = float(np.median(self.slots.hours)) if len(self.slots) else 1.0
        return np.ceil(self.offers.hours / usual_h - SAME_TIME_H) * usual_h

    def rise_cost(self, draw_w: Floats) -> float:
        """Money for the month's higher peak where deferred work draws `draw_w` (S)."""
        most_w = float((self.site.draw_w + draw_w).max(initial=0.0))
        return self.site.rise_price_per_w * max(0.0, most_w - self.site.peak_w)

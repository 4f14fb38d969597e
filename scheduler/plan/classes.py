"""The problem made small for the LP: jobs of like kind in one class, like neighbouring slots in one.

Only the LP sees this. What it answers (prices) is then held against every job and every slot.
"""

from __future__ import annotations

import numpy as np

from power.arrays import Floats, Ints
from scheduler.plan.problem import Offers, PlanProblem, Work

MAX_SLOTS = 48
LONGEST_H = 2.0  # of a merged slot: deadlines and delays are felt inside it
FEATURE_WEIGHTS = (4.0, 3.0, 2.0, 3.0, 1.0, 1.0)  # value, watts, deepest cap, deadline, length, ceiling


def compressed(problem: PlanProblem, most: int, *, caps: int | None = None) -> PlanProblem:
    """The same site with at most `most` jobs, each standing for its class with as many GPUs as give its work.

    Where jobs are no more than that, all stay as they are. `caps` leaves so many offers per job and zone.
    """
    work = problem.work
    able = np.nonzero(np.diff(problem.first_offer) > 0)[0]
    chosen, gpus = able, work.gpus[able]
    if len(able) > most:
        gpu_h = (work.gpus * work.full_h)[able]
        features = _features(problem)[able]
        group = _split(features, gpu_h, _zone_sets(problem)[able], most)
        nearest = _nearest(features, gpu_h, group)
        chosen, totals = able[nearest], np.bincount(group, gpu_h)
        order = np.argsort(chosen)
        chosen, gpus = chosen[order], (totals / work.full_h[chosen])[order]
    return _of_jobs(problem, chosen, gpus, caps)


def _nearest(features: Floats, weight: Floats, group: Ints) -> Ints:
    """Per group the row nearest to its weighted mean, the first of equals."""
    totals = np.bincount(group, weight)
    means = np.stack([np.bincount(group, weight * f) / totals for f in features.T], axis=1)
    distance = ((features - means[group]) ** 2).sum(axis=1)
    order = np.lexsort((np.arange(len(group)), distance, group))
    return np.asarray(order[np.searchsorted(group[order], np.arange(len(totals)))])


def _of_jobs(problem: PlanProblem, jobs: Ints, gpus: Floats, caps: int | None) -> PlanProblem:
    """The problem of these jobs alone, with other numbers of GPUs."""
    work, offers, first = problem.work, problem.offers, problem.first_offer
    rows = np.concatenate([_thinned(np.arange(first[j], first[j + 1]), offers.zone, caps) for j in jobs])
    at = np.searchsorted(jobs, offers.job[rows])
    times = (gpus / work.gpus[jobs])[at]
    return PlanProblem(
        slots=problem.slots,
        site=problem.site,
        work=Work(
            ids=tuple(work.ids[j] for j in jobs),
            gpus=gpus,
            gang=work.gang[jobs],
            worth=work.worth[jobs] * gpus / work.gpus[jobs],
            full_h=work.full_h[jobs],
            delay_per_h=work.delay_per_h[jobs] * gpus / work.gpus[jobs],
            ceiling_per_mwh=work.ceiling_per_mwh[jobs],
        ),
        offers=Offers(
            job=at,
            zone=offers.zone[rows],
            cap_w=offers.cap_w[rows],
            hours=offers.hours[rows],
            watts=offers.watts[rows] * times,
            extra_w=offers.extra_w[rows] * times,
            draw_w=offers.draw_w[rows] * times,
            latest_end_h=offers.latest_end_h[rows],
        ),
    )


def _thinned(rows: Ints, zone: Ints, caps: int | None) -> Ints:
    """At most `caps` of one job's offers in each zone: its lowest, its highest, and some evenly between."""
    if caps is None or len(rows) <= caps:
        return rows
    parts = np.split(rows, np.nonzero(np.diff(zone[rows]))[0] + 1)
    return np.concatenate(
        [part[np.unique(np.linspace(0, len(part) - 1, caps).round().astype(np.int64))] for part in parts]
    )


def merged_slots(problem: PlanProblem, most: int = MAX_SLOTS) -> Ints:
    """Rows of the slots at which merged ones begin: at jumps of price or limits, and every LONGEST_H."""
    slots, site = problem.slots, problem.site
    count = len(slots)
    if count <= most:
        return np.arange(count)
    price = np.where(slots.known, slots.price_per_mwh, 0.0)
    jump = _jumps(price[None, :]) + _jumps(site.gpus.astype(np.float64)) + _jumps(site.watts)
    jump[1:][slots.known[1:] != slots.known[:-1]] = np.inf
    jump[0] = np.inf
    cut = np.floor(slots.edges_h[:-1] / LONGEST_H)
    jump[1:][cut[1:] != cut[:-1]] = np.inf
    return np.sort(np.argsort(-jump, kind="stable")[: max(most, int(np.isinf(jump).sum()))])


def _jumps(rows: Floats) -> Floats:
    """S: how far each slot is from the one before it, as a share of what the rows range over."""
    span = np.maximum(np.ptp(rows, axis=1, keepdims=True), 1e-9)
    steps: Floats = (np.abs(np.diff(rows, prepend=rows[:, :1], axis=1)) / span).sum(axis=0)
    return steps


def _features(problem: PlanProblem) -> Floats:
    """J x features, each over about one unit: what makes two jobs want the same slots and caps."""
    work, offers, first = problem.work, problem.offers, problem.first_offer
    low, high = np.minimum(first[:-1], len(offers) - 1), np.maximum(first[1:] - 1, 0)
    gpus, horizon_h = work.gpus.astype(np.float64), float(problem.slots.edges_h[-1])
    market = np.sort(problem.slots.market_per_mwh)
    columns = (
        np.log(np.maximum(work.worth / np.maximum(gpus * work.full_h, 1e-9), 1e-6)),
        offers.watts[high] / gpus,
        offers.watts[low] / np.maximum(offers.watts[high], 1e-9),
        np.minimum(offers.latest_end_h[high], horizon_h),
        np.log(offers.hours[high]),
        np.searchsorted(market, work.ceiling_per_mwh, side="right") / len(market),
    )
    spans = [max(float(np.ptp(column)), 1e-9) for column in columns]
    return np.stack(
        [w * column / span for w, column, span in zip(FEATURE_WEIGHTS, columns, spans, strict=True)], axis=1
    )


def _zone_sets(problem: PlanProblem) -> Ints:
    """Per job a number that says in which zones it has offers."""
    marks = np.zeros((len(problem.work), len(problem.site.zones)), dtype=np.int64)
    marks[problem.offers.job, problem.offers.zone] = 1
    return np.asarray(np.unique(marks, axis=0, return_inverse=True)[1]).reshape(-1)


def _split(features: Floats, weight: Floats, kinds: Ints, most: int) -> Ints:
    """Groups by halving the widest ones, round by round, each at its mean across its widest feature."""
    group = np.asarray(np.unique(kinds, return_inverse=True)[1]).reshape(-1)  # no number without a job
    count = int(group.max()) + 1
    while count < most:
        totals = np.bincount(group, weight)
        means = np.stack([np.bincount(group, weight * f) / totals for f in features.T], axis=1)
        off = features - means[group]
        squares = np.stack([np.bincount(group, weight * f**2) for f in off.T], axis=1)
        widest = squares.argmax(axis=1)
        spread = squares[np.arange(count), widest]
        above = off[np.arange(len(group)), widest[group]] > 0
        spread[np.bincount(group, above) == 0] = 0.0  # alike but for the last digits
        halved = np.argsort(-spread, kind="stable")[: min(most - count, -(-count // 2))]
        halved = halved[spread[halved] > 0]
        if not len(halved):
            break
        new = np.full(count, -1, dtype=np.int64)
        new[halved] = count + np.arange(len(halved))
        group = np.where(above & (new[group] >= 0), new[group], group)
        count += len(halved)
    return group

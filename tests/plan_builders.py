"""Small planning problems, and an oracle that counts slot by slot what runs hold, without the plan's code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from scheduler.plan.problem import Offers, PlanProblem, Site, Slots, Work
from scheduler.plan.runs import Chosen
from scheduler.windows import Plan
from tests.builders import NOW, hours

JobRow = tuple[float, float, float, float]  # GPUs, hours at full speed, worth, latest end


def problem(
    jobs: Sequence[JobRow],
    *,
    prices: Sequence[float],
    gpus: Sequence[int] = (2,),
    watts: float = math.inf,
    caps: Sequence[tuple[float, float]] = ((300.0, 1.0),),
    ceilings: Sequence[float] | None = None,
    **site: float,
) -> PlanProblem:
    """One slot per price, an hour each; one zone per entry of `gpus`, all under one domain of `watts`.

    `caps` are (watts per GPU, throughput); all watts are above idle, and drawn in full.
    """
    count, zones = len(prices), len(gpus)
    size = np.array([row[0] for row in jobs])
    full_h = np.array([row[1] for row in jobs])
    rows = list(product(range(len(jobs)), range(zones), caps))
    job = np.array([row[0] for row in rows], dtype=np.int64)
    cap_w = np.array([row[2][0] for row in rows])
    price = np.array(prices, dtype=np.float64)
    return PlanProblem(
        slots=Slots(
            edges_h=np.arange(count + 1.0),
            price_per_mwh=price,
            expected_per_mwh=price,
            market_per_mwh=price,
        ),
        site=Site(
            zones=tuple(f"zone-{zone}" for zone in range(zones)),
            domains=("site",),
            under=np.ones((zones, 1), dtype=bool),
            gpus=np.repeat(np.array(gpus, dtype=np.float64)[:, None], count, axis=1),
            watts=np.full((1, count), min(watts, 1e9)),
            draw_w=np.zeros(count),
            **site,
        ),
        work=Work(
            ids=tuple(f"job-{row}" for row in range(len(jobs))),
            gpus=size,
            gang=size,
            worth=np.array([row[2] for row in jobs]),
            full_h=full_h,
            delay_per_h=np.zeros(len(jobs)),
            ceiling_per_mwh=np.full(len(jobs), np.inf) if ceilings is None else np.array(ceilings),
        ),
        offers=Offers(
            job=job,
            zone=np.array([row[1] for row in rows], dtype=np.int64),
            cap_w=cap_w,
            hours=full_h[job] / np.array([row[2][1] for row in rows]),
            watts=size[job] * cap_w,
            extra_w=size[job] * cap_w,
            draw_w=size[job] * cap_w,
            latest_end_h=np.array([row[3] for row in jobs])[job],
        ),
    )


Run = tuple[int, int, int]  # offer, first slot, last slot


def runs_of(chosen: Chosen) -> list[Run]:
    """The placed runs."""
    columns = (chosen.offer, chosen.first, chosen.last)
    return [run for run in zip(*(column.tolist() for column in columns), strict=True) if run[0] >= 0]


def every_run(case: PlanProblem, job: int) -> list[Run]:
    """All runs of a job that end before the horizon and its deadline, under its ceiling."""
    edges, offers = case.slots.edges_h, case.offers
    found = []
    for offer in np.nonzero(offers.job == job)[0].tolist():
        for first in range(len(case.slots)):
            end_h = edges[first] + offers.hours[offer]
            if end_h > min(edges[-1], offers.latest_end_h[offer]) + 1e-9:
                continue
            last = next(s for s in range(first, len(case.slots)) if edges[s + 1] >= end_h - 1e-9)
            if case.slots.market_per_mwh[first : last + 1].max() <= case.work.ceiling_per_mwh[job]:
                found.append((offer, first, last))
    return found


def broken(case: PlanProblem, runs: Sequence[Run]) -> list[str]:
    """Which limits the runs break, in words."""
    site, offers, count = case.site, case.offers, len(case.slots)
    gpus, watts, draw = np.zeros(site.gpus.shape), np.zeros(site.watts.shape), np.zeros(count)
    for offer, first, last in runs:
        zone = offers.zone[offer]
        for slot in range(first, last + 1):
            gpus[zone, slot] += case.work.gpus[offers.job[offer]]
            watts[:, slot] += site.under[zone] * offers.watts[offer]
            draw[slot] += offers.extra_w[offer]
    words = []
    if (gpus > site.gpus + 1e-6).any():
        words.append("GPUs")
    if (watts > site.watts + 1e-3).any():
        words.append("watts")
    most_w = site.ramp_w_per_min * 60.0 * case.slots.hours
    steps = np.diff(site.draw_w + draw, prepend=site.draw_w[:1])
    if (
        np.abs(steps)
        > np.maximum(
            np.append(most_w[:1], most_w[:-1]), np.abs(np.diff(site.draw_w, prepend=site.draw_w[:1]))
        )
        + 1e-3
    ).any():
        words.append("ramp")
    return words


def gain_of(case: PlanProblem, runs: Sequence[Run]) -> float:
    """Worth less energy less what the month's peak rises by, hour by hour."""
    offers, draw, total = case.offers, case.site.draw_w.copy(), 0.0
    for offer, first, last in runs:
        left_h = float(offers.hours[offer])
        total += float(case.work.worth[offers.job[offer]])
        for slot in range(first, last + 1):
            hours = min(left_h, float(case.slots.hours[slot]))
            total -= hours * float(case.slots.price_per_mwh[slot] * offers.extra_w[offer]) / 1e6
            draw[slot] += offers.extra_w[offer]
            left_h -= hours
    before_w = max(case.site.month_peak_w, float(case.site.draw_w.max()))
    return total - max(0.0, float(draw.max()) - before_w) * case.site.demand_charge_per_kw / 1e3


def best_gain(case: PlanProblem) -> float:
    """By trying every combination."""
    options = [[None, *every_run(case, job)] for job in range(len(case.work))]
    plans = ([run for run in plan if run is not None] for plan in product(*options))
    return max(gain_of(case, plan) for plan in plans if not broken(case, plan))


def drawn(plan: Plan, job_id: str, slots: int = 6) -> str:
    """`..#.` = runs through the third hour, `-` through a part of it."""
    windows = plan.jobs[job_id].windows if job_id in plan.jobs else ()
    marks = ""
    for hour in range(slots):
        start, end = NOW + hours(hour), NOW + hours(hour + 1)
        run = sum(max(hours(0), min(w.end, end) - max(w.start, start)) / hours(1) for w in windows)
        marks += "#" if run > 0.99 else "-" if run > 0.01 else "."
    return marks

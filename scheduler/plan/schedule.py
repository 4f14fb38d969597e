"""A solved problem in the words of the project: windows per job, shadow prices per slot, a certificate."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from power.arrays import Floats
from scheduler.decision import Certificate
from scheduler.plan.prices import SlotPrices
from scheduler.plan.problem import PlanProblem
from scheduler.plan.solve import Solved
from scheduler.windows import Plan, PlannedJob, ShadowPrice, Window


def plan_of(now: datetime, problem: PlanProblem, solved: Solved, *, solve_s: float) -> Plan:
    """Times are from `now` on."""
    certificate = Certificate(
        step="plan",
        value=solved.value,
        bound=max(solved.bound, solved.value),  # they may differ in the last digits
        solve_s=solve_s,
        fallback=solved.fallback,
    )
    return Plan(
        made_at=now,
        jobs=_jobs(now, problem, solved),
        shadow=_shadow(now, problem, solved.prices),
        certificate=certificate,
        notes=problem.notes,
    )


def prices_from(previous: Plan, now: datetime, problem: PlanProblem) -> SlotPrices | None:
    """The last plan's prices on the slots of this problem; None where it had none for any of them."""
    site, count = problem.site, len(problem.slots)
    starts = _times(now, problem.slots.edges_h[:-1] + 1e-4)
    if not previous.shadow or previous.shadow[-1].end <= starts[0]:
        return None
    ends_s = np.array([slot.end.timestamp() for slot in previous.shadow])
    at = np.searchsorted(ends_s, np.array([start.timestamp() for start in starts]), side="right")
    rows = [previous.shadow[min(i, len(ends_s) - 1)] for i in at.tolist()]
    gpu_h = [[row.zone_gpu_h.get(zone, row.gpu_h) for row in rows] for zone in site.zones]
    watt_h = [[row.watt_h.get(domain, 0.0) for row in rows] for domain in site.domains]
    steps = {name: np.array([getattr(row, name) for row in rows]) for name in ("up_w", "down_w", "peak_w")}
    if not np.isfinite(site.ramp_w_per_min):
        steps |= {"up_w": np.zeros(count), "down_w": np.zeros(count)}
    steps["peak_w"] *= min(1.0, site.rise_price_per_w / max(float(steps["peak_w"].sum()), 1e-300))
    return SlotPrices(
        gpu_h=np.array(gpu_h).reshape(len(site.zones), count),
        watt_h=np.array(watt_h).reshape(len(site.domains), count),
        **steps,
    )


def _times(now: datetime, hours: Floats) -> list[datetime]:
    return [now + timedelta(seconds=round(hour * 3600.0, 3)) for hour in hours.tolist()]


def _jobs(now: datetime, problem: PlanProblem, solved: Solved) -> dict[str, PlannedJob]:
    slots, offers, chosen = problem.slots, problem.offers, solved.chosen
    jobs = np.nonzero(chosen.found)[0]
    offer, starts_h = chosen.offer[jobs], slots.edges_h[chosen.first[jobs]]
    ends_h, hours = starts_h + offers.hours[offer], offers.hours[offer]
    draw_mw = offers.draw_w[offer] / 1e6
    then = draw_mw * (_paid(problem, ends_h) - _paid(problem, starts_h))
    at_once = draw_mw * _paid(problem, hours)
    rows = zip(
        jobs.tolist(),
        _times(now, starts_h),
        _times(now, ends_h),
        offers.cap_w[offer].tolist(),
        offers.zone[offer].tolist(),
        then.tolist(),
        at_once.tolist(),
        strict=True,
    )
    return {
        problem.work.ids[job]: PlannedJob(
            windows=(Window(start=start, end=end, share=1.0),),
            expected_cost=cost,
            cost_now=cost_now,
            cap_w=cap_w,
            zone=problem.site.zones[zone],
        )
        for job, start, end, cap_w, zone, cost, cost_now in rows
    }


def _paid(problem: PlanProblem, hours: Floats) -> Floats:
    """Money per MW from 0 to each hour at the expected prices; beyond the last slot at their mean."""
    slots = problem.slots
    sums = np.concatenate([[0.0], np.cumsum(slots.expected_per_mwh * slots.hours)])
    mean = sums[-1] / slots.edges_h[-1]
    beyond = np.maximum(hours - slots.edges_h[-1], 0.0)
    return np.asarray(np.interp(hours, slots.edges_h, sums) + mean * beyond)


def _shadow(now: datetime, problem: PlanProblem, prices: SlotPrices) -> tuple[ShadowPrice, ...]:
    slots, site = problem.slots, problem.site
    times = _times(now, slots.edges_h)
    gpus = np.maximum(site.gpus.astype(np.float64), 1e-9)
    mean_gpu_h = (prices.gpu_h * gpus).sum(axis=0) / gpus.sum(axis=0) if len(site.zones) else slots.hours * 0
    return tuple(
        ShadowPrice(
            start=times[s],
            end=times[s + 1],
            price_per_mwh=float(slots.expected_per_mwh[s]),
            gpu_h=float(mean_gpu_h[s]),
            watt_h=dict(zip(site.domains, prices.watt_h[:, s].tolist(), strict=True)),
            zone_gpu_h=dict(zip(site.zones, prices.gpu_h[:, s].tolist(), strict=True)),
            up_w=float(prices.up_w[s]),
            down_w=float(prices.down_w[s]),
            peak_w=float(prices.peak_w[s]),
        )
        for s in range(len(slots))
        if slots.known[s]
    )

"""When deferrable work runs over the next 48 hours: an LP over jobs and price slots, then whole windows.

The LP is the relaxation: it gives the bound and, per slot, what one more GPU-hour or watt would be worth.
Each job then takes the best unbroken window that is still free, so that what is promised can be kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ortools.math_opt.python import mathopt

from scheduler.decision import Certificate
from scheduler.instance import waiting
from scheduler.model import JobState
from scheduler.quote import energy_cost, quote
from scheduler.snapshot import JobView, Snapshot
from scheduler.windows import Plan, PlannedJob, ShadowPrice, Window
from scheduler.worth import GpuKind, best, curve_on, floor_cap_w, levels

HORIZON_H = 48.0
MAX_JOBS = 100  # most valuable first; the rest is planned when these are done
DELAY_SHARE = 0.1  # of an hour's worth, lost by each hour that a job without a deadline waits
DELAY_SHARE_WITH_DEADLINE = 0.0005  # a deadline says that until then waiting costs nearly nothing
DEADLINE_MARGIN = 0.1  # of the running time, kept free before a deadline

__all__ = ["deferrable", "make_plan", "quote"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One deferrable job at its most economic cap; watts and money are of all its GPUs."""

    view: JobView
    gpus: int
    hours: float
    cap_w: float  # of all its GPUs: what it takes from a budget
    draw_w: float
    worth_per_h: float  # value of its work, without energy
    delay_per_h: float
    latest_end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    start: datetime
    end: datetime
    price_per_mwh: float  # with carbon
    market_per_mwh: float  # without
    gpus: float
    watts: float

    @property
    def hours(self) -> float:
        return (self.end - self.start).total_seconds() / 3600.0


def deferrable(snapshot: Snapshot) -> list[JobView]:
    """Waiting jobs that declare they can wait: pausable, of known length, with a deadline or a ceiling."""
    return [
        v
        for v in waiting(snapshot)
        if v.eligible
        and v.remaining_s
        and (contract := v.job.spec.contract).pausable
        and (contract.deadline is not None or contract.price_ceiling_per_mwh is not None)
    ]


def make_plan(snapshot: Snapshot, *, time_limit_s: float = 1.0) -> Plan:
    """Windows, expected costs and shadow prices; empty where nothing can be deferred."""
    began_s = time.perf_counter()
    slots = _slots(snapshot)
    works = [w for view in deferrable(snapshot) if (w := _work(view, snapshot)) is not None]
    works = sorted(works, key=lambda w: (-w.worth_per_h / w.gpus, w.latest_end))[:MAX_JOBS]
    bound, shadow = _relax(works, slots, snapshot, time_limit_s)
    planned, value = _round(works, slots, snapshot)
    certificate = Certificate(
        step="plan", value=value, bound=max(bound, value), solve_s=time.perf_counter() - began_s
    )
    return Plan(made_at=snapshot.now, jobs=planned, shadow=shadow, certificate=certificate)


def _slots(snapshot: Snapshot) -> list[_Slot]:
    end = snapshot.now + timedelta(hours=HORIZON_H)
    carbon = snapshot.energy_price_per_mwh() - (snapshot.price_per_mwh or 0.0)
    return [
        _Slot(
            start=slot.start,
            end=slot.end,
            price_per_mwh=slot.value + carbon,
            market_per_mwh=slot.value,
            gpus=_free_gpus(snapshot, slot.start),
            watts=_free_watts(snapshot, slot.start),
        )
        for slot in snapshot.prices.between(snapshot.now, end)
    ]


def _held_until(snapshot: Snapshot, when: datetime) -> list[JobView]:
    """Running jobs that still hold their GPUs then; those of unknown length hold them throughout."""
    holding = [v for v in snapshot.jobs if v.job.run is not None and v.job.state is not JobState.STOPPING]
    return [
        v for v in holding if v.remaining_s is None or snapshot.now + timedelta(seconds=v.remaining_s) > when
    ]


def _free_gpus(snapshot: Snapshot, when: datetime) -> float:
    usable = sum(gpu.healthy and not gpu.cordoned and not gpu.foreign for gpu in snapshot.gpus)
    return max(0.0, usable - sum(v.job.spec.gpus for v in _held_until(snapshot, when)))


def _free_watts(snapshot: Snapshot, when: datetime) -> float:
    """Watts under the root for deferred jobs, beside running ones at their contract floors and idle GPUs."""
    root = snapshot.tree.root
    limit_w = snapshot.limits_w.get(root, math.inf)
    held = _held_until(snapshot, when)
    floors_w = sum(v.job.spec.gpus * floor_cap_w(v, v.curve) for v in held)
    idle = [gpu.idle_w for gpu in snapshot.gpus][: max(0, len(snapshot.gpus) - _gpus_of(held))]
    return max(0.0, limit_w - snapshot.tree.base_load_under_w(root) - floors_w - sum(idle))


def _gpus_of(views: Sequence[JobView]) -> int:
    return sum(view.job.spec.gpus for view in views)


def _work(view: JobView, snapshot: Snapshot) -> _Work | None:
    """None for a job that no GPU here suits."""
    wanted = (view.job.spec.gpu_type or "").lower()
    gpu = next((g for g in snapshot.gpus if wanted in g.model.lower()), None)
    if gpu is None or view.remaining_s is None:
        return None
    kind, count = GpuKind.of(gpu), view.job.spec.gpus
    level = best(levels(view, kind, snapshot.energy_price_per_mwh()))
    if level.share <= 0:
        return None
    hours = view.remaining_s / level.share / 3600.0
    deadline = view.job.spec.contract.deadline
    share = DELAY_SHARE if deadline is None else DELAY_SHARE_WITH_DEADLINE
    latest = snapshot.now + timedelta(hours=10 * HORIZON_H)
    if deadline is not None:
        latest = deadline - timedelta(seconds=view.restart_cost_s, hours=hours * DEADLINE_MARGIN)
    return _Work(
        view=view,
        gpus=count,
        hours=hours,
        cap_w=count * level.cap_w,
        draw_w=count * curve_on(view, kind).power_w(level.cap_w),
        worth_per_h=count * view.value_per_gpu_h * level.share,
        delay_per_h=count * view.value_per_gpu_h * share,
        latest_end=latest,
    )


def _allowed_h(work: _Work, slot: _Slot) -> float:
    """Hours of this slot in which the job may run: before its deadline, under its ceiling."""
    ceiling = work.view.job.spec.contract.price_ceiling_per_mwh
    if ceiling is not None and slot.market_per_mwh > ceiling:
        return 0.0
    end = min(slot.end, work.latest_end)
    return max(0.0, (end - slot.start).total_seconds() / 3600.0)


def _gain_per_h(work: _Work, slot: _Slot, now: datetime) -> float:
    """Money per hour of running in this slot: worth less energy less the cost of the delay so far."""
    delay_h = (slot.start - now).total_seconds() / 3600.0
    return work.worth_per_h - slot.price_per_mwh * work.draw_w / 1e6 - work.delay_per_h * delay_h / work.hours


def _relax(
    works: list[_Work], slots: list[_Slot], snapshot: Snapshot, time_limit_s: float
) -> tuple[float, tuple[ShadowPrice, ...]]:
    """(money that no plan can beat, shadow prices per slot) by linear programming."""
    if not works or not slots:
        return 0.0, ()
    model = mathopt.Model(name="plan")
    hours = {
        (j, s): model.add_variable(lb=0.0, ub=min(allowed, work.hours))
        for j, work in enumerate(works)
        for s, slot in enumerate(slots)
        if (allowed := _allowed_h(work, slot)) > 0
    }
    for j, work in enumerate(works):
        model.add_linear_constraint(_sum(v for (i, _), v in hours.items() if i == j) <= work.hours)
    gpu_rows, watt_rows = [], []
    for s, slot in enumerate(slots):
        here = [(works[j], v) for (j, i), v in hours.items() if i == s]
        gpu_rows.append(
            model.add_linear_constraint(_sum(w.gpus * v for w, v in here) <= slot.gpus * slot.hours)
        )
        watts = min(slot.watts, 1e12)
        watt_rows.append(
            model.add_linear_constraint(_sum(w.cap_w * v for w, v in here) <= watts * slot.hours)
        )
    model.maximize(_sum(_gain_per_h(works[j], slots[s], snapshot.now) * v for (j, s), v in hours.items()))
    limit = mathopt.SolveParameters(time_limit=timedelta(seconds=max(0.05, time_limit_s)))
    result = mathopt.solve(model, mathopt.SolverType.GLOP, params=limit)
    if result.termination.reason is not mathopt.TerminationReason.OPTIMAL:
        return math.inf, ()
    gpu_h, watt_h = result.dual_values(gpu_rows), result.dual_values(watt_rows)
    root = snapshot.tree.root
    shadow = tuple(
        ShadowPrice(
            start=slot.start,
            end=slot.end,
            price_per_mwh=slot.price_per_mwh,
            gpu_h=gpu_h[s],
            watt_h={root: watt_h[s]},
        )
        for s, slot in enumerate(slots)
    )
    return result.objective_value(), shadow


def _sum(terms: Any) -> Any:
    return mathopt.LinearSum(list(terms))


def _round(works: list[_Work], slots: list[_Slot], snapshot: Snapshot) -> tuple[dict[str, PlannedJob], float]:
    """Each job's best unbroken window with GPUs and watts to spare; most valuable first."""
    gpus = [slot.gpus for slot in slots]
    watts = [slot.watts for slot in slots]
    planned: dict[str, PlannedJob] = {}
    total = 0.0
    for work in works:
        options = [o for s in range(len(slots)) if (o := _window(work, slots, s, gpus, watts, snapshot.now))]
        if not options:
            continue
        gain, parts = max(options, key=lambda option: option[0])
        for s, _ in parts:
            gpus[s] -= work.gpus
            watts[s] -= work.cap_w
        total += gain
        planned[work.view.job.id] = _planned(work, slots, parts, snapshot)
    return planned, total


def _window(
    work: _Work, slots: list[_Slot], first: int, gpus: list[float], watts: list[float], now: datetime
) -> tuple[float, list[tuple[int, float]]] | None:
    """(gain, [(slot, hours)]) of running without a break from the start of slot `first`; None = no room."""
    left_h, gain = work.hours, 0.0
    parts: list[tuple[int, float]] = []
    for s in range(first, len(slots)):
        if parts and slots[s].start != slots[s - 1].end:
            return None
        hours = min(left_h, _allowed_h(work, slots[s]))
        enough = gpus[s] >= work.gpus and watts[s] >= work.cap_w - 1e-6
        if not enough or hours < min(left_h, slots[s].hours) - 1e-9:
            return None
        gain += hours * _gain_per_h(work, slots[s], now)
        parts.append((s, hours))
        left_h -= hours
        if left_h <= 1e-9:
            return gain, parts
    return None


def _planned(
    work: _Work, slots: list[_Slot], parts: list[tuple[int, float]], snapshot: Snapshot
) -> PlannedJob:
    windows = tuple(
        Window(
            start=slots[s].start,
            end=slots[s].start + timedelta(hours=hours),
            share=min(1.0, hours / slots[s].hours),
        )
        for s, hours in parts
    )
    cost = sum(hours * slots[s].price_per_mwh * work.draw_w / 1e6 for s, hours in parts)
    now_cost = energy_cost(snapshot, snapshot.now, work.hours, work.draw_w)
    return PlannedJob(windows=windows, expected_cost=cost, cost_now=cost if now_cost is None else now_cost)

"""Plan instances of any size with the shape of real ones: jobs of a public trace, prices of a real market.

Sizes and durations are drawn from the trace `jobs/msitp_2021_days_0-30.csv` (0.5 to 24 hours), two days of
prices from `grid/prices/SE4_dayahead_15min_2025-10_2026-04.csv`, both under `WATTMILL_DATA` (default:
`../shared/data` beside the project). GPUs are A40 boards; the site has `LOAD` times too few of them, and
watts for `WATT_SHARE` of them at full cap, less in an evening of demand response known ahead.
"""

from __future__ import annotations

import csv
import os
from functools import cache
from pathlib import Path

import numpy as np

from power.arrays import Floats, Ints
from power.curve import CapCurve, prior
from scheduler.plan.problem import Offers, PlanProblem, Site, Slots, Work

LOAD = 1.3  # GPU-hours asked for, of those that there are
WATT_SHARE = 0.7
EVENT_SHARE = 0.7  # of the budget, in hours 28 to 32
VALUES_PER_GPU_H = (0.5, 1.5, 4.0)
FLEX_SHARES = (0.999, 0.9, 0.75, 0.5)  # least throughput
WORKLOADS = ("bert", "resnet", "deepspeech", "shufflenet", "ncf", "")
HORIZON_H = 48.0
MAX_CAP_W, MIN_CAP_W, IDLE_W = 300.0, 100.0, 31.0
LARGEST_SHARE = 0.25  # of the site's GPUs: the largest gang


def plan_problem(
    *, jobs: int, slots: int = 192, levels: int = 5, seed: int = 0, load: float = LOAD
) -> PlanProblem:
    """`jobs` deferrable jobs over `slots` quarter hours (or what 48 h divides into) at `levels` caps each."""
    chance = np.random.default_rng(seed)
    gpus, full_h = _sizes(jobs, chance)
    site_gpus = max(8, int(np.ceil((gpus * full_h).sum() / HORIZON_H / load)))
    gpus = np.minimum(gpus, max(1, int(site_gpus * LARGEST_SHARE)))
    edges_h = np.linspace(0.0, HORIZON_H, slots + 1)
    price = _prices(edges_h, chance)
    value = chance.choice(VALUES_PER_GPU_H, jobs, p=(0.3, 0.5, 0.2))
    due = chance.random(jobs) < 0.8
    slack = chance.uniform(1.5, 8.0, jobs)
    work = Work(
        ids=tuple(f"job_{row:06}" for row in range(jobs)),
        gpus=gpus.astype(np.float64),
        gang=gpus.astype(np.float64),
        worth=value * gpus * full_h,
        full_h=full_h,
        delay_per_h=np.asarray(value * gpus * np.where(due, 0.0005, 0.1)),
        ceiling_per_mwh=np.where(due, np.inf, np.quantile(price, chance.uniform(0.3, 0.9, jobs))),
    )
    latest_h = np.where(due, full_h * slack + 1.0, np.inf)
    offers = _offers(work, latest_h, levels, chance)
    watts = np.full(slots, site_gpus * WATT_SHARE * (MAX_CAP_W - IDLE_W))
    watts[(edges_h[:-1] >= 28.0) & (edges_h[:-1] < 32.0)] *= EVENT_SHARE
    site = Site(
        zones=("site",),
        domains=("site",),
        under=np.ones((1, 1), dtype=bool),
        gpus=np.full((1, slots), float(site_gpus)),
        watts=watts[None, :],
        draw_w=np.full(slots, site_gpus * IDLE_W),
    )
    hours = Slots(edges_h=edges_h, price_per_mwh=price, expected_per_mwh=price, market_per_mwh=price)
    return PlanProblem(slots=hours, site=site, work=work, offers=offers)


def _offers(work: Work, latest_h: Floats, levels: int, chance: np.random.Generator) -> Offers:
    """Each job at `levels` caps from its contract's floor to the board's maximum."""
    count = len(work)
    curves = [
        prior("NVIDIA A40", min_cap_w=MIN_CAP_W, max_cap_w=MAX_CAP_W, workload=w or None) for w in WORKLOADS
    ]
    menu = np.array([[_levels(c, share, levels) for share in FLEX_SHARES] for c in curves])
    rows = menu[chance.integers(len(curves), size=count), chance.integers(len(FLEX_SHARES), size=count)]
    cap_w, share, draw_w = (rows[:, :, column].ravel() for column in range(3))
    job = np.repeat(np.arange(count), levels)
    gpus, hours = work.gpus[job], work.full_h[job] / share
    return Offers(
        job=job,
        zone=np.zeros(len(job), dtype=np.int64),
        cap_w=cap_w,
        hours=hours,
        watts=gpus * (cap_w - IDLE_W),
        extra_w=gpus * (draw_w - IDLE_W),
        draw_w=gpus * draw_w,
        latest_end_h=latest_h[job],
    )


def _levels(curve: CapCurve, floor_share: float, levels: int) -> list[tuple[float, float, float]]:
    """(cap, throughput, draw) of one GPU, the lowest cap first."""
    caps = np.linspace(curve.cap_for(floor_share), MAX_CAP_W, levels)
    return [(cap, curve.throughput(cap), curve.power_w(cap)) for cap in caps.tolist()]


def _sizes(jobs: int, chance: np.random.Generator) -> tuple[Ints, Floats]:
    trace = _trace()
    rows = trace[chance.integers(len(trace), size=jobs)]
    return rows[:, 0].astype(np.int64), rows[:, 1].copy()


def _prices(edges_h: Floats, chance: np.random.Generator) -> Floats:
    """Two days from a midnight of the market's series, at the middle of each slot."""
    series = _market()
    quarters_a_day = 96
    first = int(chance.integers(len(series) // quarters_a_day - 2)) * quarters_a_day
    middle_h = (edges_h[1:] + edges_h[:-1]) / 2
    return np.asarray(series[first + (middle_h * 4).astype(np.int64)])


@cache
def _trace() -> Floats:
    """(GPUs, hours) of the trace's jobs between half an hour and a day."""
    rows = _column("jobs/msitp_2021_days_0-30.csv", "gpus", "duration_s") / np.array([1.0, 3600.0])
    return np.asarray(rows[(rows[:, 1] >= 0.5) & (rows[:, 1] <= 24.0)])


@cache
def _market() -> Floats:
    return _column("grid/prices/SE4_dayahead_15min_2025-10_2026-04.csv", "value")[:, 0]


def _column(path: str, *names: str) -> Floats:
    folder = Path(os.environ.get("WATTMILL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    with (folder / path).open(newline="") as file:
        return np.array([[float(row[name]) for name in names] for row in csv.DictReader(file)])

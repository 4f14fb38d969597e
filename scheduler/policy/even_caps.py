"""Caps without weighing: every GPU at one share of its board's maximum, less only where a limit is short."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from power.arrays import Bools, Floats
from scheduler.cap_demands import Steered, steered
from scheduler.cap_step import cap_step
from scheduler.decision import Decision
from scheduler.decision_tables import CONDITION_CODE, CapTable
from scheduler.model import Condition
from scheduler.snapshot import Snapshot

FITS_W = 1e-6
HALVINGS = 30  # of the range of shares: to less than a microwatt of any board


def even_caps(snapshot: Snapshot, share: float = 1.0) -> Decision:
    """Every job at `share` (0..1] of its boards' maximum, or what its contract needs, if that is more.

    Where a limit is short of that, the jobs under it share what is left: one share for all of them, the
    highest that fits, first inside their contracts, then below them (EMERGENCY). Where not even the boards'
    least caps fit, the answer is the daemon's own: who stops is no question of policy.
    """
    jobs = steered(snapshot)
    least_w = jobs.demands.curves.min_cap_w[jobs.demands.curve]
    for floor_w in (jobs.demands.floor_w, np.minimum(least_w, jobs.demands.floor_w)):
        cap_w = _within_limits(jobs, floor_w, share)
        if cap_w is not None:
            return Decision(caps=_table(jobs, np.floor(cap_w * 1000 + 1e-6) / 1000))
    return cap_step(snapshot)


def best_share(snapshot: Snapshot) -> float:
    """The highest share of the boards' maximum at which every limit holds with every usable GPU loaded.

    0 where none is low enough: the boards then stand at their least caps, as far as those fit.
    """
    gpus, index = snapshot.gpus, snapshot.tree.index
    if not np.isfinite(snapshot.domain_gpu_w).any():
        return 1.0
    capped = gpus.usable & gpus.settable
    fixed_w = np.where(gpus.usable, gpus.max_cap_w, gpus.accounted_w)

    def fits(share: float) -> bool:
        counted_w = np.where(capped, np.maximum(gpus.min_cap_w, share * gpus.max_cap_w), fixed_w)
        return bool((index.under(gpus.leaf, counted_w) <= snapshot.domain_gpu_w + FITS_W).all())

    return _highest(fits)


def _highest(fits: Callable[[float], bool], most: float = 1.0) -> float:
    """The highest share up to `most` that fits, where less always fits better; 0 where none does."""
    if fits(most):
        return most
    low, high = 0.0, most
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _within_limits(jobs: Steered, floor_w: Floats, share: float) -> Floats | None:
    """Caps per job, those under short domains lowered as far as needed; None where `floor_w` is too much."""
    demands = jobs.demands
    top_w = demands.curves.tdp_w[demands.curve]

    def caps_w(at: float) -> Floats:
        return np.minimum(np.maximum(at * top_w, floor_w), demands.ceiling_w)

    wanted_w, least_w = caps_w(share), caps_w(0.0)
    short = _short(jobs, wanted_w)
    if not short.any():
        return wanted_w
    if _short(jobs, least_w).any():
        return None
    under = _under(jobs, short)

    def lowered_w(at: float) -> Floats:
        return np.where(under, caps_w(at), wanted_w)

    return lowered_w(_highest(lambda at: not _short(jobs, lowered_w(at)).any(), share))


def _short(jobs: Steered, cap_w: Floats) -> Bools:
    """Per domain: whether these caps are too much for it."""
    loads_w = jobs.demands.holdings.used_w(jobs.snapshot.tree.index, cap_w)
    over: Bools = loads_w > jobs.available_w + FITS_W
    return over


def _under(jobs: Steered, domains: Bools) -> Bools:
    """Per job: has a GPU under one of these domains."""
    holdings, index = jobs.demands.holdings, jobs.snapshot.tree.index
    inside = np.append(domains, False)[index.ancestors[holdings.leaf]].any(axis=1)
    found = np.zeros(len(jobs.row), dtype=bool)
    found[holdings.job[inside]] = True
    return found


def _table(jobs: Steered, cap_w: Floats) -> CapTable:
    demands = jobs.demands
    below = jobs.at_work & (cap_w < demands.floor_w - 1e-3)
    full = ~jobs.at_work | (cap_w >= demands.curves.tdp_w[demands.curve] - 1e-3)
    codes = np.select(
        [below, full],
        [CONDITION_CODE[Condition.EMERGENCY], CONDITION_CODE[Condition.NOMINAL]],
        CONDITION_CODE[Condition.CAPPED_BUDGET],
    )

    def cause(entry: int) -> str:
        return f"one cap for all: {cap_w[entry]:.0f} W per GPU"

    return CapTable(
        ids=jobs.snapshot.jobs.ids,
        job=jobs.row,
        cap_w=cap_w,
        condition=codes,
        cause=cause,
        entry=np.arange(len(cap_w)),
    )

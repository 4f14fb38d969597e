"""What people do today, on the same instance: FIFO, and EASY backfill, at one uniform cap.

Each answers with the value of what then runs, in money per hour, by the same formula as ours. The uniform cap
is the best single share of the boards' maximum under which every domain holds; it knows no contracts, so a
baseline is never charged for breaking one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from power.arrays import Floats, Ints
from scheduler.placing.problem import ANY_SPLIT, PlacementProblem
from scheduler.snapshot import Snapshot

_FITS_W = 1e-6


@dataclass(frozen=True)
class Answer:
    """`value` in money per hour; None where no answer came in time."""

    value: float | None
    seconds: float
    starts: int = 0


@dataclass
class _Filling:
    """Pools as they fill up; `rows` and `pools` are the job rows started and where each of their GPUs is."""

    free: Ints
    rows: list[int] = field(default_factory=list)
    pools: list[Ints] = field(default_factory=list)


def fifo_uniform(snapshot: Snapshot, problem: PlacementProblem) -> Answer:
    """Strictly in order of priority and age; the first that does not fit ends the round."""
    return _in_order(snapshot, problem, backfill=False)


def easy_uniform(snapshot: Snapshot, problem: PlacementProblem) -> Answer:
    """EASY: the first that does not fit gets a reserved start, later ones run if they end before it."""
    return _in_order(snapshot, problem, backfill=True)


def _in_order(snapshot: Snapshot, problem: PlacementProblem, *, backfill: bool) -> Answer:
    began_s = time.perf_counter()
    filling = _Filling(problem.pools.free.copy())
    group_of = np.repeat(np.arange(len(problem.groups)), problem.groups.count)
    members = problem.groups.member
    submitted_s = snapshot.jobs.floats("submitted_s")[members]
    order = np.lexsort((submitted_s, -problem.groups.rank[group_of]))
    remaining_s = snapshot.jobs.floats("remaining_s")
    kinds = _kinds(problem)
    shadow_s: float | None = None
    for at in order.tolist():
        group, row = int(group_of[at]), int(members[at])
        if shadow_s is not None and not remaining_s[row] <= shadow_s:
            continue
        taken = _fit(problem, kinds[group], group, filling.free)
        if taken is not None:
            np.subtract.at(filling.free, taken, 1)
            filling.rows.append(row)
            filling.pools.append(taken)
        elif shadow_s is None:
            if not backfill:
                break
            shadow_s = _shadow_s(snapshot, problem, group, int(filling.free.sum()))
    value = _value_at_uniform_cap(snapshot, problem, filling)
    return Answer(value, time.perf_counter() - began_s, len(filling.rows))


def _kinds(problem: PlacementProblem) -> list[list[int]]:
    """Kinds on offer for each group."""
    kinds: list[list[int]] = [[] for _ in range(len(problem.groups))]
    for group, kind in sorted(
        set(zip(problem.offers.group.tolist(), problem.offers.kind.tolist(), strict=True))
    ):
        kinds[group].append(kind)
    return kinds


def _fit(problem: PlacementProblem, kinds: list[int], group: int, free: Ints) -> Ints | None:
    """Pools of each GPU of one job, fullest node first; None where it does not fit."""
    gpus, nodes = int(problem.groups.gpus[group]), int(problem.groups.nodes[group])
    for kind in kinds:
        of_kind = problem.pools.kind == kind
        if nodes == ANY_SPLIT:
            rows = np.nonzero(of_kind & (free > 0))[0]
            spread = np.repeat(rows, free[rows])
            if len(spread) >= gpus:
                return spread[:gpus]
            continue
        part = gpus // nodes
        rows = np.nonzero(of_kind & (free >= part))[0]
        if len(rows) >= nodes:
            best = rows[np.argsort(free[rows], kind="stable")[:nodes]]
            return np.repeat(best, part)
    return None


def _shadow_s(snapshot: Snapshot, problem: PlacementProblem, group: int, free: int) -> float:
    """When enough GPUs of running jobs of known length have come free; 0 = nobody knows."""
    rows = problem.residents.job
    remaining_s = snapshot.jobs.floats("remaining_s")[rows]
    order = np.argsort(remaining_s, kind="stable")
    order = order[np.isfinite(remaining_s[order])]
    freed = free + np.cumsum(problem.residents.gpus[order])
    enough = np.nonzero(freed >= problem.groups.gpus[group])[0]
    return float(remaining_s[order[enough[0]]]) if len(enough) else 0.0


def _value_at_uniform_cap(snapshot: Snapshot, problem: PlacementProblem, filling: _Filling) -> float:
    """Everything that runs at the best single share of its board's maximum that fits every domain."""
    pools, holds = problem.pools, problem.holds
    started = np.concatenate(filling.pools) if filling.pools else np.zeros(0, dtype=np.int64)
    low, high = 0.0, 1.0
    board_w = snapshot.gpus.max_cap_w
    own_w = np.zeros(len(problem.residents))
    np.maximum.at(own_w, problem.options.resident, problem.options.cap_w)
    first = [int(snapshot.gpu_rows(int(row))[0]) for row in problem.residents.job]
    top_w = board_w[first] if first else own_w

    def fits(share: float) -> bool:
        loads = np.zeros(len(problem.index.names))
        cap_w = share * top_w
        np.add.at(loads, holds.leaf, holds.fixed_w + holds.steered * cap_w[holds.resident])
        added = pools.loaded_w(started, share * pools.max_cap_w[started])
        np.add.at(loads, pools.leaf[started], added)
        return bool((problem.index.roll_up(loads) <= problem.room_w + _FITS_W).all())

    for _ in range(30):
        share = (low + high) / 2
        low, high = (share, high) if fits(share) else (low, share)
    running = _worth(snapshot, problem.residents.job, low * top_w, top_w, problem.residents.gpus)
    boards_w = np.array([pools.max_cap_w[taken[0]] for taken in filling.pools], dtype=np.float64)
    rows = np.array(filling.rows, dtype=np.int64)
    counts = np.array([len(taken) for taken in filling.pools], dtype=np.int64)
    return running + _worth(snapshot, rows, low * boards_w, boards_w, counts)


def _worth(snapshot: Snapshot, rows: Ints, cap_w: Floats, board_w: Floats, gpus: Ints) -> float:
    """Money per hour of jobs at these caps, against idle GPUs."""
    if not len(rows):
        return 0.0
    jobs, curves = snapshot.jobs, snapshot.jobs.curves
    curve = jobs.curve[rows]
    scale = board_w / curves.tdp_w[curve]
    share = curves.throughput(curve, cap_w / scale)
    extra_w = (curves.power_w(curve, cap_w / scale) - curves.idle_w[curve]) * scale
    per_gpu = jobs.floats("value_per_gpu_h")[rows] * share
    per_gpu = per_gpu - snapshot.energy_price_per_mwh() * extra_w / 1e6
    return float((per_gpu * gpus).sum())

"""Bounds of the mean completion time that no policy can beat. Pure.

All three hold for every schedule, with or without stops, on `gpus` GPUs at full speed or below:

1. A job ends no earlier than its submission plus its work at full speed.
2. Sharing one machine as fast as all GPUs together among jobs of gpus x work contains every schedule, and
   there least remaining work first has the least sum of completion times (Schrage, Operations Research 1968).
3. A job that progresses no faster than its full speed ends at least half its work after the mean time at
   which its work was done. On that one machine the least sum of these means has least total work first, with
   preemption (Goemans, SODA 1997); half of all work on top bounds the sum of completion times.

With a limit on energy: mixes of caps that together do all work with no more joules take some least time on
the GPUs, and no job ends before its own has passed.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

from power.arrays import Floats, Ints
from scheduler.simulation.bound_levels import Levels

_HALVINGS = 60


def least_mean_jct_s(
    *, submitted_s: Floats, start_s: Floats, work_s: Floats, gpus: Floats, board_count: int
) -> float:
    """The best of the three bounds on mean(end - submission), in seconds; NaN without jobs.

    Args:
        submitted_s: per job.
        start_s: the earliest start, no earlier than the submission.
    """
    if not len(work_s):
        return float(np.nan)
    size_s = work_s * gpus / board_count
    ended_s, _ = _one_machine(start_s, size_s, remaining_first=True)
    _, middle_s = _one_machine(start_s, size_s, remaining_first=False)
    alone_s = (start_s + work_s).mean()
    squashed_s = (middle_s + work_s / 2).mean()
    return float(max(alone_s, ended_s.mean(), squashed_s) - submitted_s.mean())


def least_mean_time_within(
    energy_j: float, *, levels: Levels, level: Ints, work_s: Floats, gpus: Floats
) -> float:
    """The least mean running time of jobs that together draw no more than `energy_j` while they work.

    Infinite where the work cannot be done with that. By the dual in the price of energy, which any price
    bounds from below: a job alone runs at the corner of least time plus price times energy.
    """
    power_w, pace = levels.power_w[level], levels.throughput[level]
    with np.errstate(divide="ignore"):
        time_s = work_s[:, None] / pace
    drawn_j = np.where(np.isfinite(time_s), power_w * time_s * gpus[:, None], np.inf)
    if drawn_j.min(axis=1).sum() > energy_j:
        return float(np.inf)
    best_s = time_s.min(axis=1).sum()
    low, high = 0.0, 1e6 / max(float(drawn_j.min(axis=1).mean()), 1e-300) * float(time_s.min(axis=1).mean())
    for _ in range(_HALVINGS):
        price = (low + high) / 2
        total = time_s + price * drawn_j
        chosen = total.argmin(axis=1)[:, None]
        best_s = max(best_s, float(total.min(axis=1).sum()) - price * energy_j)
        too_much = float(np.take_along_axis(drawn_j, chosen, axis=1).sum()) > energy_j
        low, high = (price, high) if too_much else (low, price)
    return float(best_s / len(work_s))


def _one_machine(start_s: Floats, size_s: Floats, *, remaining_first: bool) -> tuple[Floats, Floats]:
    """(end, mean time of being worked on) per job on one machine, preempted for whoever has less to do.

    Less remaining work, or less work in total.
    """
    order = np.argsort(start_s, kind="stable").tolist()
    left_s, sizes_s, starts_s = size_s.tolist(), size_s.tolist(), start_s.tolist()
    ended_s, moment = np.zeros(len(order)), np.zeros(len(order))
    waiting: list[tuple[float, int]] = []
    now_s, coming = 0.0, 0
    while waiting or coming < len(order):
        if not waiting:
            now_s = max(now_s, starts_s[order[coming]])
        while coming < len(order) and starts_s[order[coming]] <= now_s:
            heappush(waiting, (sizes_s[order[coming]], order[coming]))
            coming += 1
        _, job = heappop(waiting)
        until_s = now_s + left_s[job]
        if coming < len(order) and starts_s[order[coming]] < until_s:
            until_s = starts_s[order[coming]]
            left_s[job] -= until_s - now_s
            heappush(waiting, (left_s[job] if remaining_first else sizes_s[job], job))
        else:
            ended_s[job] = until_s
        moment[job] += (until_s**2 - now_s**2) / 2
        now_s = until_s
    return ended_s, moment / size_s

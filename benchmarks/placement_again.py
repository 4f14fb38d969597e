"""Placement on large sites: from nothing, and again when one job ended, printed as JSON.

python -m benchmarks.placement_again --gpus 131072 --running 20000 --pending 20000
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.placement_case import MODELS, placement_problem
from power.arrays import Ints
from scheduler.placing.problem import Act, Choice, Holds, Options, PlacementProblem, Residents
from scheduler.placing.solve import Warm, solve_warm


def after(problem: PlacementProblem, choice: Choice, *, ended: Ints | None = None) -> PlacementProblem:
    """What remains once the answer was carried out and the residents in rows `ended` had ended."""
    options, holds, residents, pools = problem.options, problem.holds, problem.residents, problem.pools
    gone = options.act[choice.option] == Act.PREEMPT
    gone[np.zeros(0, dtype=np.int64) if ended is None else ended] = True
    free = pools.free.copy()
    inside = (holds.pool >= 0) & gone[holds.resident]
    np.add.at(free, holds.pool[inside], holds.freed[inside])
    np.subtract.at(free, choice.part_pool, choice.part_gpus)
    number = np.cumsum(~gone) - 1
    kept, kept_holds = ~gone[options.resident], ~gone[holds.resident]
    now = np.zeros(len(options), dtype=bool)
    now[choice.option] = True
    paused = (options.act[choice.option] == Act.PAUSE)[options.resident]
    least = np.where(paused, options.act == Act.PAUSE, options.least)  # the frozen stay frozen
    first = int((~gone).sum())
    new_options, new_holds = _started(problem, choice, first)
    groups = problem.groups
    started = np.bincount(choice.start_group, minlength=len(groups))
    waits = np.arange(len(groups.member)) - np.repeat(groups.member_start[:-1], groups.count) >= np.repeat(
        started, groups.count
    )
    left = np.nonzero(gone[holds.resident])[0]
    leaf = np.concatenate([pools.leaf[choice.part_pool], holds.leaf[left]])
    idle_w = np.concatenate([choice.part_gpus * pools.empty_w[choice.part_pool], -holds.empty_w[left]])
    return replace(
        problem,
        room_w=problem.room_w + problem.index.under(leaf, idle_w),
        pools=replace(pools, free=free),
        groups=replace(
            groups,
            member=groups.member[waits],
            member_start=np.concatenate([[0], np.cumsum(groups.count - started)]),
        ),
        residents=Residents(
            job=np.concatenate([residents.job[~gone], choice.start_job]),
            rank=np.concatenate([residents.rank[~gone], groups.rank[choice.start_group]]),
            gpus=np.concatenate([residents.gpus[~gone], groups.gpus[choice.start_group]]),
        ),
        options=Options(
            resident=np.concatenate([number[options.resident[kept]], new_options.resident]),
            act=np.concatenate([options.act[kept], new_options.act]),
            cap_w=np.concatenate([options.cap_w[kept], new_options.cap_w]),
            worth=np.concatenate([options.worth[kept], new_options.worth]),
            least=np.concatenate([least[kept], new_options.least]),
            unchanged=np.concatenate([now[kept], new_options.unchanged]),
        ),
        holds=Holds(
            resident=np.concatenate([number[holds.resident[kept_holds]], new_holds.resident]),
            leaf=np.concatenate([holds.leaf[kept_holds], new_holds.leaf]),
            pool=np.concatenate([holds.pool[kept_holds], new_holds.pool]),
            freed=np.concatenate([holds.freed[kept_holds], new_holds.freed]),
            steered=np.concatenate([holds.steered[kept_holds], new_holds.steered]),
            fixed_w=np.concatenate([holds.fixed_w[kept_holds], new_holds.fixed_w]),
            empty_w=np.concatenate([holds.empty_w[kept_holds], new_holds.empty_w]),
        ),
    )


def _started(problem: PlacementProblem, choice: Choice, first: int) -> tuple[Options, Holds]:
    """Starts as residents, numbered from `first`: every cap on offer, and a stop for all but the top rank."""
    offers, pools, groups = problem.offers, problem.pools, problem.groups
    count = len(choice.start_job)
    kind = pools.kind[choice.part_pool[choice.part_start[:-1]]] if count else np.zeros(0, dtype=np.int64)
    key = offers.group * len(MODELS) + offers.kind
    low = np.searchsorted(key, choice.start_group * len(MODELS) + kind)
    high = np.searchsorted(key, choice.start_group * len(MODELS) + kind, side="right")
    steps = np.arange(1 + int((high - low).max(initial=0))) - 1  # the first is the stop
    offer = low[:, None] + steps
    stops = (groups.rank[choice.start_group] < groups.rank.max(initial=0))[:, None] & (steps < 0)
    there = np.where(steps < 0, stops, offer < high[:, None])
    offer = np.clip(offer, 0, max(0, len(offers.cap_w) - 1))
    gpus = groups.gpus[choice.start_group][:, None]
    lost = 60.0 / 3600.0 * gpus * offers.worth[offer].max(axis=1, initial=0.0)[:, None]
    act = np.where(steps < 0, int(Act.PREEMPT), int(Act.RUN))
    cap_w = np.where(steps < 0, 0.0, offers.cap_w[offer])
    worth = np.where(steps < 0, -lost, offers.worth[offer] * gpus)
    owner = np.broadcast_to(first + np.arange(count)[:, None], there.shape)
    options = Options(
        resident=owner[there],
        act=np.broadcast_to(act, there.shape)[there],
        cap_w=cap_w[there],
        worth=worth[there],
        least=np.broadcast_to(steps == 0, there.shape)[there],
        unchanged=((steps >= 0) & (cap_w == choice.start_cap_w[:, None]))[there],
    )
    part = np.repeat(np.arange(count), np.diff(choice.part_start))
    holds = Holds(
        resident=first + part,
        leaf=pools.leaf[choice.part_pool],
        pool=choice.part_pool,
        freed=choice.part_gpus,
        steered=choice.part_gpus,
        fixed_w=np.zeros(len(part)),
        empty_w=choice.part_gpus * pools.empty_w[choice.part_pool],
    )
    return options, holds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=16384)
    parser.add_argument("--running", type=int, default=2500)
    parser.add_argument("--pending", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--time-limit-s", type=float, default=2.0)
    asked = parser.parse_args()
    sizes = {name: getattr(asked, name) for name in ("gpus", "running", "pending", "seed")}
    problem = placement_problem(**sizes)
    choice, warm, cold = _timed(problem, None, asked.time_limit_s, asked.repeat)
    settled = after(problem, choice)
    again, warm, _ = _timed(settled, warm, asked.time_limit_s, 1)
    ended = np.nonzero(settled.residents.gpus == 8)[0][:1]
    _, _, later = _timed(after(settled, again, ended=ended), warm, asked.time_limit_s, asked.repeat)
    sys.stdout.write(
        json.dumps({"asked": vars(asked), "cold": cold, "one_job_ended": later}, indent=2) + "\n"
    )


def _timed(
    problem: PlacementProblem, warm: Warm | None, time_limit_s: float, repeat: int
) -> tuple[Choice, Warm | None, dict[str, Any]]:
    times = []
    for _ in range(repeat):
        fresh = replace(problem)  # nothing remembered of it
        began_s = time.perf_counter()
        choice, left = solve_warm(fresh, time_limit_s=time_limit_s, warm=warm)
        times.append(time.perf_counter() - began_s)
    return (
        choice,
        left,
        {
            "median_s": round(float(np.median(times)), 4),
            "best_s": round(min(times), 4),
            "starts": len(choice.start_job),
            "stops": int((problem.options.act[choice.option] == Act.PREEMPT).sum()),
            "changed": int((~problem.options.unchanged[choice.option]).sum()),
            "gain": round(choice.value - choice.unchanged, 2),
            "most": round(choice.bound - choice.unchanged, 2),
            "gap": (choice.bound - choice.value) / max(1e-9, choice.bound - choice.unchanged),
            "gap_of_all": (choice.bound - choice.value) / max(1e-9, abs(choice.bound)),
            "fallback": choice.fallback,
        },
    )


if __name__ == "__main__":
    main()

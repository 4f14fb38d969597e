"""Planning: time, gap and fallback over some rounds, and again from the last plan's prices; printed as JSON.

python -m benchmarks.plan --jobs 20000
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from typing import Any

from benchmarks.plan_case import plan_problem
from scheduler.plan.solve import Solved, solve


def measure(
    *, jobs: int, slots: int, levels: int, seed: int, rounds: int, time_limit_s: float
) -> dict[str, Any]:
    """Each round is another instance; the gap is (bound - value) / bound, deferring nothing gaining 0."""
    rows: dict[str, list[tuple[float, Solved]]] = {"cold": [], "from_last_prices": []}
    for number in range(rounds):
        case = plan_problem(jobs=jobs, slots=slots, levels=levels, seed=seed + number)
        began_s = time.perf_counter()
        cold = solve(case, time_limit_s=time_limit_s)
        between_s = time.perf_counter()
        warm = solve(case, time_limit_s=time_limit_s, first=cold.prices)
        rows["cold"].append((between_s - began_s, cold))
        rows["from_last_prices"].append((time.perf_counter() - between_s, warm))
    return {name: _summary(found) for name, found in rows.items()} | {
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    }


def _summary(found: list[tuple[float, Solved]]) -> dict[str, Any]:
    seconds, gaps = [row[0] for row in found], [row[1].gap for row in found]
    return {
        "median_s": round(statistics.median(seconds), 3),
        "worst_s": round(max(seconds), 3),
        "median_gap": round(statistics.median(gaps), 5),
        "worst_gap": round(max(gaps), 5),
        "planned": [int(answer.chosen.found.sum()) for _, answer in found],
        "fallbacks": [answer.fallback for _, answer in found if answer.fallback is not None],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--slots", type=int, default=192)
    parser.add_argument("--levels", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--time-limit-s", type=float, default=5.0)
    asked = vars(parser.parse_args())
    sys.stdout.write(json.dumps({"asked": asked, **measure(**asked)}, indent=2) + "\n")


if __name__ == "__main__":
    main()

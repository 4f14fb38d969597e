"""Placement: solve time, value and gap of the joint decision against the greedy one, printed as JSON.

python -m benchmarks.place --gpus 64 --jobs 100 --time-limit-s 2
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from power.budget import Domain, PowerTree
from power.curve import prior
from scheduler.decision import Decision
from scheduler.greedy import place_greedily
from scheduler.model import Contract, Flex, Job, JobSpec
from scheduler.place import place
from scheduler.snapshot import GpuView, JobView, Snapshot

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
CLASSES = {"low": (0, 0.5), "standard": (1, 1.5), "high": (2, 4.0)}
WORKLOADS = ("bert", "resnet", "deepspeech", "shufflenet", "ncf", None)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One method on one instance; money per hour."""

    method: str
    wall_s: float
    starts: int
    gpus_used: int
    value: float
    bound: float
    gap: float
    fallback: str | None


def random_snapshot(*, gpus: int, jobs: int, watt_share: float, seed: int) -> Snapshot:
    """Empty A40s on nodes of eight, a mixed queue, and `watt_share` of the watts that all GPUs could take."""
    chance = random.Random(seed)
    uuids = [f"gpu-{index}" for index in range(gpus)]
    nodes = [
        Domain(name=f"node-{n}", parent="site", gpu_uuids=tuple(uuids[n * 8 : n * 8 + 8]))
        for n in range(-(-gpus // 8))
    ]
    tree = PowerTree.of([Domain(name="site"), *nodes])
    limits = {"site": watt_share * 300.0 * gpus} | {d.name: watt_share * 1.2 * 2400.0 for d in nodes}
    return Snapshot(
        cycle=1,
        now=NOW,
        tree=tree,
        limits_w=limits,
        gpus=tuple(_gpu(uuid) for uuid in uuids),
        jobs=tuple(_job(index, chance) for index in range(jobs)),
        price_per_mwh=90.0,
        carbon_g_per_kwh=None,
        carbon_cost_per_tonne=0.0,
    )


def _gpu(uuid: str) -> GpuView:
    return GpuView(
        uuid=uuid,
        model="NVIDIA A40",
        min_cap_w=100.0,
        max_cap_w=300.0,
        confirmed_cap_w=300.0,
        accounted_w=45.0,
        idle_w=45.0,
        draw_w=30.0,
        settable=True,
        healthy=True,
        cordoned=False,
        run_id=None,
    )


def _job(index: int, chance: random.Random) -> JobView:
    priority, workload = chance.choice(list(CLASSES)), chance.choice(WORKLOADS)
    flex = chance.choice(list(Flex))
    spec = JobSpec(
        argv=("train",),
        gpus=chance.choice((1, 1, 1, 2, 2, 4, 8)),
        priority=priority,
        workload=workload,
        contract=Contract(flex=flex),
    )
    at = NOW - timedelta(minutes=chance.randrange(600))
    rank, value = CLASSES[priority]
    return JobView(
        job=Job(id=f"job_{index:04}", spec=spec, owner="bench", submitted_at=at, state_since=at),
        curve=prior("A40", min_cap_w=100.0, max_cap_w=300.0, workload=workload),
        floor_share=1.0 - flex.share,
        value_per_gpu_h=value,
        priority_rank=rank,
        restart_cost_s=60.0,
    )


def _result(method: str, decision: Decision, wall_s: float) -> Result:
    certificate = decision.certificates[0]
    return Result(
        method=method,
        wall_s=round(wall_s, 4),
        starts=len(decision.starts),
        gpus_used=sum(len(start.gpu_uuids) for start in decision.starts),
        value=round(certificate.value, 4),
        bound=round(certificate.bound, 4),
        gap=round(certificate.gap, 6),
        fallback=certificate.fallback,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--watt-share", type=float, default=0.6)
    parser.add_argument("--time-limit-s", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    world = random_snapshot(gpus=asked.gpus, jobs=asked.jobs, watt_share=asked.watt_share, seed=asked.seed)
    began_s = time.perf_counter()
    joint = place(world, time_limit_s=asked.time_limit_s)
    between_s = time.perf_counter()
    greedy = place_greedily(world)
    rows = [
        _result("joint", joint, between_s - began_s),
        _result("greedy", greedy, time.perf_counter() - between_s),
    ]
    better = rows[0].value / rows[1].value - 1.0 if rows[1].value else None
    report = {"asked": vars(asked), "results": [asdict(row) for row in rows], "joint_over_greedy": better}
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

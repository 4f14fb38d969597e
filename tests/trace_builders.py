"""Scenarios that read like drawings: `scenario("a 1x600@0  b 2x600@60 low", gpus=4)`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from power.budget import Budget, Domain, PowerTree
from power.device import GpuInfo
from power.series import Series
from scheduler.decision import Decision
from scheduler.model import Contract, Flex, JobSpec
from scheduler.simulation.model import Cadence, Cluster, Scenario, SimulatedJob
from scheduler.snapshot import Snapshot
from tests.builders import NOW, prices

START = NOW
_JOB = re.compile(
    r"(?P<id>\w+) (?P<gpus>\d+)x(?P<work_s>\d+)@(?P<at_s>\d+)"
    r"(?: (?P<flex>none|low|mid|high))?(?: by (?P<due_h>[\d.]+)h)?(?: ceiling (?P<ceiling>\d+))?"
)


def trace(drawing: str, *, guess: float | None = 1.0) -> tuple[SimulatedJob, ...]:
    """One job per line or comma: id, GPUs x seconds of work @ second of submission, flex tier, deadline in
    hours from the submission, price ceiling. `guess` x the work is what its owner says; None = nothing."""
    jobs = []
    for text in re.split(r"[,\n]", drawing):
        if text.strip():
            found = _JOB.fullmatch(text.strip())
            assert found is not None, f"cannot read {text!r}"
            jobs.append(_job(found, guess))
    return tuple(sorted(jobs, key=lambda job: job.submitted_at))


def _job(found: re.Match[str], guess: float | None) -> SimulatedJob:
    at, work_s = START + timedelta(seconds=int(found["at_s"])), float(found["work_s"])
    contract = Contract(
        flex=Flex(found["flex"] or "none"),
        pausable=found["due_h"] is not None or found["ceiling"] is not None,
        deadline=None if found["due_h"] is None else at + timedelta(hours=float(found["due_h"])),
        price_ceiling_per_mwh=None if found["ceiling"] is None else float(found["ceiling"]),
    )
    spec = JobSpec(
        argv=("train",),
        gpus=int(found["gpus"]),
        contract=contract,
        workload="bert",
        estimate_s=None if guess is None else guess * work_s,
    )
    return SimulatedJob(id=found["id"], spec=spec, submitted_at=at, work_s=work_s)


def cluster(gpus: int = 4, *, per_node: int = 4, base_load_w: float = 0.0, pue: float = 1.0) -> Cluster:
    """A40s in nodes under one site."""
    boards = tuple(
        GpuInfo(
            uuid=f"gpu-{index}",
            index=index,
            model="A40",
            min_cap_w=100.0,
            max_cap_w=300.0,
            default_cap_w=300.0,
            memory_bytes=0,
        )
        for index in range(gpus)
    )
    nodes = [
        Domain(
            name=f"node-{number}",
            parent="site",
            base_load_w=base_load_w,
            gpu_uuids=tuple(board.uuid for board in boards[first : first + per_node]),
        )
        for number, first in enumerate(range(0, gpus, per_node))
    ]
    return Cluster(name="test", tree=PowerTree.of([Domain(name="site", pue=pue), *nodes]), boards=boards)


def scenario(drawing: str, *, gpus: int = 4, day: str = "50", **more: Any) -> Scenario:
    """`day`: prices by the hour from the start on, the last one for ever after."""
    guess = more.pop("guess", 1.0)
    levels = day.split()
    row: Series = prices(" ".join([*levels, *[levels[-1]] * (24 * 30 - len(levels))]))
    defaults: dict[str, Any] = {
        "cluster": cluster(gpus),
        "prices": row,
        "start": START,
        "end": START + timedelta(days=1),
        "cadence": Cadence(place_s=10.0),
    }
    return Scenario(jobs=trace(drawing, guess=guess), **(defaults | more))


def limit(watts: float, *, from_h: float = 0.0, until_h: float | None = None, domain: str = "site") -> Budget:
    return Budget(
        id=f"{domain}-{from_h}",
        domain=domain,
        limit_w=watts,
        start=START + timedelta(hours=from_h),
        end=None if until_h is None else START + timedelta(hours=until_h),
    )


class Noted:
    """A policy that also writes down what it saw and said."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self.name: str = policy.name
        self.looks_every_s: float = policy.looks_every_s
        self.placed: list[tuple[Snapshot, Decision]] = []

    def place(self, snapshot: Snapshot, *, time_limit_s: float) -> Decision:
        decision: Decision = self._policy.place(snapshot, time_limit_s=time_limit_s)
        self.placed.append((snapshot, decision))
        return decision

    def caps(self, snapshot: Snapshot) -> Decision:
        caps: Decision = self._policy.caps(snapshot)
        return caps

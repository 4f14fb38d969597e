"""The solvers without processes: what the workers do beside the loop, at once and in its own thread."""

from __future__ import annotations

from dataclasses import replace

from scheduler.decision import Decision
from scheduler.planning import Planned, Question
from scheduler.snapshot import Snapshot
from scheduler.solver_tasks import open_place, open_plan
from scheduler.windows import Plan

LIMIT_S = 0.5
PLAN_EVERY_S = 300.0


class InstantSolvers:
    """A `scheduler.plant.Placer` that plans before it places: no job waits for a plan in the making."""

    def __init__(self) -> None:
        self.asked: Snapshot | None = None  # the last one
        self._answer: Decision | None = None
        self._planned: Planned | None = None
        self._solve_plan, self._solve_place = open_plan(), open_place()

    @property
    def plan(self) -> Plan | None:
        return None if self._planned is None else self._planned.plan

    def submit(self, snapshot: Snapshot) -> None:
        self.asked = snapshot
        question = Question(snapshot=snapshot, last=self._planned, plan_every_s=PLAN_EVERY_S)
        fresh = self._solve_plan(question, LIMIT_S).planned
        self._planned = fresh or self._planned
        answer = self._solve_place(replace(question, last=self._planned), LIMIT_S)
        told = () if fresh is None else (fresh.plan.certificate,)
        self._answer = replace(answer, certificates=(*told, *answer.certificates))

    def poll(self) -> Decision | None:
        answer, self._answer = self._answer, None
        return answer

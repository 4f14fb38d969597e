"""The two solvers beside the loop: plans, made seldom and slowly, and placements under the newest of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from scheduler.config import Control
from scheduler.decision import Certificate, Decision
from scheduler.planning import Planned, Question
from scheduler.snapshot import Snapshot
from scheduler.solver_tasks import PLACE, PLAN
from scheduler.solver_worker import SolverWorker
from scheduler.windows import Plan


class Solvers:
    """Implements `scheduler.plant.Placer`. A plan in the making holds up no placement."""

    def __init__(self, control: Control) -> None:
        self._plan_every = timedelta(seconds=control.plan_period_s)
        self._places = SolverWorker(PLACE, control.solver_time_limit_s)
        self._plans = SolverWorker(PLAN, control.plan_time_limit_s)
        self._last: Planned | None = None
        self._news: Certificate | None = None  # of a plan that no decision has told of yet
        self._asked_at: datetime | None = None  # grid time, as all times here
        self._failed_at: datetime | None = None

    @property
    def plan(self) -> Plan | None:
        """The newest plan; another object whenever there is a new one, or the old one had to stay."""
        return None if self._last is None else self._last.plan

    @property
    def planning(self) -> bool:
        """A plan is being sought."""
        return self._plans.busy

    @property
    def planner_pid(self) -> int | None:
        return self._plans.pid

    def submit(self, snapshot: Snapshot) -> None:
        """Ask for a placement, and for a plan where another is needed."""
        asks = not self.planning and not self._rests(snapshot)
        question = Question(
            snapshot=snapshot,
            last=self._last,
            awaits_plan=asks or self.planning,
            plan_every_s=self._plan_every.total_seconds(),
        )
        if asks:
            self._asked_at = snapshot.now
            self._plans.submit(question)
        self._places.submit(question)

    def poll(self) -> Decision | None:
        """The placement, once, when there is one; the first after a plan has the plan's certificate too."""
        self._take_plan()
        decision = self._places.poll()
        if decision is None or self._news is None:
            return decision
        told, self._news = self._news, None
        return replace(decision, certificates=(told, *decision.certificates))

    def close(self) -> None:
        """Stop both. Safe to call twice."""
        self._places.close()
        self._plans.close()

    def _take_plan(self) -> None:
        answer = self._plans.poll()
        if answer is None:
            return
        self._failed_at = self._asked_at if answer.failed else None
        if answer.planned is not None:
            self._last, self._news = answer.planned, answer.planned.plan.certificate

    def _rests(self, snapshot: Snapshot) -> bool:
        """A solver that failed is not asked again before a new plan would be due anyway."""
        return self._failed_at is not None and snapshot.now < self._failed_at + self._plan_every

"""Ours: what the daemon runs, by the very functions of its two workers. Its levers can be switched off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from power.arrays import Ints
from scheduler.cap_step import cap_step
from scheduler.decision import Certificate, Decision
from scheduler.model import WaitReason
from scheduler.placing.fallback import place_greedily
from scheduler.planning import Planned, Planning, Question
from scheduler.snapshot import Snapshot
from scheduler.solver_tasks import held_back
from scheduler.solver_worker import Solver
from scheduler.steady import steady


@dataclass(kw_only=True)
class Wattmill:
    """Plans when prices are published, budgets change, or the last plan is older than `plan_every_s`; places
    under the last plan; splits watts by water levels.

    The daemon plans at every arrival of a job that can wait, too. Here such a job waits for the next plan,
    where its deadline leaves time for that: `plan_every_s` is how far this is from the daemon.

    Levers, one by one: without `shift` there is no plan; without `cap` no price lowers a cap, only limits
    do; without `pause` nobody who runs is paused for a price; without `pack` jobs are placed one by one in
    order of worth, without a solver. Time limits are in seconds, and guards: with them unreached, the answer
    does not depend on how fast a machine is.

    Args:
        solve_place: as opened by `scheduler.solver_tasks.open_place`.
        solve_plan: as opened by `scheduler.solver_tasks.open_plan`.
        deferrable: rows of the jobs that a plan may shift.

    Raises:
        ValueError: a period or a time limit that is not above 0.
    """

    name: str = "wattmill"
    solve_place: Solver[Decision]
    solve_plan: Solver[Planning]
    deferrable: Callable[[Snapshot], Ints]
    plan_every_s: float = 3600.0
    plan_limit_s: float = 10.0
    place_limit_s: float | None = None  # None: as the caller asks
    cap: bool = True
    shift: bool = True
    pause: bool = True
    pack: bool = True
    looks_every_s: ClassVar[float] = 900.0  # planned windows begin at quarter hours
    _last: Planned | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for name in ("plan_every_s", "plan_limit_s", "place_limit_s"):
            figure = getattr(self, name)
            if figure is not None and not figure > 0.0:
                raise ValueError(f"{name} must be above 0, got {figure}")

    def place(self, snapshot: Snapshot, *, time_limit_s: float) -> Decision:
        told = self._plan(snapshot) if self.shift else ()
        seen = held_back(snapshot, self._unplanned(snapshot)) if self.shift else snapshot
        decision = self._placed(seen, time_limit_s if self.place_limit_s is None else self.place_limit_s)
        pauses = tuple(p for p in decision.pauses if self.pause or p.reason is not WaitReason.PRICE)
        return replace(decision, pauses=pauses, certificates=(*told, *decision.certificates))

    def caps(self, snapshot: Snapshot) -> Decision:
        if not self.cap:
            snapshot = replace(snapshot, price_per_mwh=None, carbon_g_per_kwh=None)
        return steady(cap_step(snapshot), snapshot)

    def _plan(self, snapshot: Snapshot) -> tuple[Certificate, ...]:
        """Make a plan if one is due; its certificate."""
        if not self._due(snapshot):
            return ()
        answer = self.solve_plan(self._question(snapshot), self.plan_limit_s).planned
        if answer is None:
            return ()
        self._last = answer
        return (answer.plan.certificate,)

    def _due(self, snapshot: Snapshot) -> bool:
        """As `scheduler.planning.needs_plan`, but for jobs that came or went since."""
        if self._last is None:
            return True
        basis, age = self._last.basis, snapshot.now - self._last.plan.made_at
        news = basis.prices.slots[-1:] != snapshot.prices.slots[-1:]
        budgets = basis.budgets != snapshot.horizon.budgets
        return news or budgets or age.total_seconds() >= self.plan_every_s

    def _placed(self, snapshot: Snapshot, time_limit_s: float) -> Decision:
        if self.pack:
            return self.solve_place(self._question(snapshot), time_limit_s)
        plan = None if self._last is None else self._last.plan
        return place_greedily(snapshot, plan, fallback="greedy: packing is switched off")

    def _question(self, snapshot: Snapshot) -> Question:
        """No age of the last plan is young enough for the worker: whether one is due was decided here."""
        return Question(snapshot=snapshot, last=self._last, plan_every_s=0.0)

    def _unplanned(self, snapshot: Snapshot) -> frozenset[str]:
        """Jobs that can wait, that no plan has looked at, and whose deadline leaves time for the next one."""
        if self._last is None or not snapshot.prices.slots:
            return frozenset()
        jobs, rows = snapshot.jobs, self.deferrable(snapshot)
        needs_s = jobs.floats("remaining_s") + jobs.floats("restart_cost_s") + self.plan_every_s
        late = jobs.floats("deadline_s") - snapshot.now.timestamp() < needs_s  # NaN: no deadline
        able = rows[~late[rows]]
        return frozenset([jobs.ids[row] for row in able.tolist()]) - self._last.basis.jobs

"""What a plan was made from, and whether it still serves. Pure; these values go to the solvers and back."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from power.budget import Budget
from power.series import Series
from scheduler.decision import Certificate
from scheduler.snapshot import JobView, Snapshot
from scheduler.windows import Plan


@dataclass(frozen=True, slots=True)
class Basis:
    """A plan serves while these stay as they are: prices, budgets in force or to come, jobs that can wait."""

    prices: Series
    budgets: tuple[Budget, ...]
    jobs: frozenset[str]

    @classmethod
    def of(cls, snapshot: Snapshot, deferrable: Iterable[JobView]) -> Basis:
        return cls(snapshot.prices, snapshot.horizon.budgets, frozenset(view.job.id for view in deferrable))


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan and its basis."""

    plan: Plan
    basis: Basis


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the solvers are asked: both workers get the same bytes, made once.

    `last` is the newest plan. `awaits_plan`: another one is being sought, so jobs that the last one did not
    know wait for it. `plan_every_s` is in grid seconds.
    """

    snapshot: Snapshot
    last: Planned | None = None
    awaits_plan: bool = False
    plan_every_s: float

    @cached_property
    def message(self) -> bytes:
        return pickle.dumps(self)


@dataclass(frozen=True, slots=True)
class Planning:
    """A plan worker's answer: the plan, or None because the last one serves (or nothing can wait).

    `failed`: no plan was made, and `planned` is the last one.
    """

    planned: Planned | None = None
    failed: bool = False


def needs_plan(basis: Basis, last: Planned | None, now: datetime, every_s: float) -> bool:
    """True when there is something to plan and `last` was made from something else or is too old.

    Where nothing is left to plan, an empty plan follows the last one that was not.
    """
    if not basis.jobs or not basis.prices.slots:
        return last is not None and bool(last.plan.jobs)
    return last is None or last.basis != basis or (now - last.plan.made_at).total_seconds() > every_s


def unplanned(jobs: Iterable[JobView], question: Question) -> frozenset[str]:
    """Jobs that can wait and that no plan has looked at, while one is being made."""
    if not question.awaits_plan or not question.snapshot.prices.slots:
        return frozenset()
    known = frozenset() if question.last is None else question.last.basis.jobs
    return frozenset(view.job.id for view in jobs) - known


def kept(question: Question, why: str) -> Planning:
    """The last plan, which says why it is not a new one; an empty plan where there is none."""
    last = question.last
    if last is not None:
        certificate = replace(last.plan.certificate, fallback=f"last plan: {why}")
        return Planning(replace(last, plan=replace(last.plan, certificate=certificate)), failed=True)
    certificate = Certificate(step="plan", value=0.0, bound=math.inf, solve_s=0.0, fallback=f"no plan: {why}")
    plan = Plan(made_at=question.snapshot.now, jobs={}, shadow=(), certificate=certificate)
    return Planning(Planned(plan, Basis(Series(), (), frozenset())), failed=True)

"""When a plan no longer serves, and who waits for the next one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from power.budget import Budget
from power.series import Series
from scheduler.decision import Certificate
from scheduler.planning import Basis, Planned, Question, kept, needs_plan, unplanned
from scheduler.snapshot import Snapshot
from scheduler.windows import Plan, PlannedJob
from tests.builders import NOW, gpus, job, prices, snapshot, view

ROW = prices("60 50 10 20")
TARGET = Budget(id="b", domain="site", limit_w=900.0, start=NOW)
BASIS = Basis(ROW, (), frozenset({"a"}))
PLANNED = PlannedJob(windows=(), cap_w=200.0, expected_cost=1.0, cost_now=2.0)


def planned(basis: Basis = BASIS, *, minutes_ago: float = 0.0, **jobs: PlannedJob) -> Planned:
    certificate = Certificate(step="plan", value=1.0, bound=2.0, solve_s=0.1)
    made_at = NOW - timedelta(minutes=minutes_ago)
    return Planned(Plan(made_at=made_at, jobs=jobs, shadow=(), certificate=certificate), basis)


@pytest.mark.parametrize(
    ("basis", "last", "needed"),
    [
        (BASIS, None, True),
        (BASIS, planned(), False),
        (BASIS, planned(minutes_ago=4.0), False),
        (BASIS, planned(minutes_ago=6.0), True),
        (Basis(prices("60 50 10 21"), (), BASIS.jobs), planned(), True),
        (Basis(ROW, (TARGET,), BASIS.jobs), planned(), True),
        (Basis(ROW, (), frozenset({"a", "b"})), planned(), True),
        (Basis(ROW, (), frozenset()), None, False),  # nothing can wait
        (Basis(ROW, (), frozenset()), planned(a=PLANNED), True),  # one last, empty plan
        (Basis(ROW, (), frozenset()), planned(minutes_ago=99.0), False),
        (Basis(Series(), (), BASIS.jobs), None, False),  # without prices there is no better hour
    ],
)
def test_a_plan_serves_while_its_basis_stays(basis: Basis, last: Planned | None, needed: bool) -> None:
    assert needs_plan(basis, last, NOW, 300.0) is needed


def picture(row: Series = ROW) -> Snapshot:
    return snapshot(gpus(1), prices=row)


@pytest.mark.parametrize(
    ("last", "awaits_plan", "row", "waits"),
    [
        (None, True, ROW, {"a", "b"}),
        (planned(), True, ROW, {"b"}),
        (planned(), False, ROW, set()),
        (None, True, Series(), set()),
    ],
)
def test_who_is_new_waits_while_a_plan_is_made(
    last: Planned | None, awaits_plan: bool, row: Series, waits: set[str]
) -> None:
    question = Question(snapshot=picture(row), last=last, awaits_plan=awaits_plan, plan_every_s=300.0)
    assert unplanned([view(job("a")), view(job("b"))], question) == waits


def test_without_any_plan_the_stand_in_is_empty_and_knows_no_bound() -> None:
    answer = kept(Question(snapshot=picture(), plan_every_s=300.0), "why")
    assert answer.failed
    assert answer.planned is not None
    plan = answer.planned.plan
    assert (dict(plan.jobs), plan.certificate.fallback) == ({}, "no plan: why")
    assert plan.certificate.bound == float("inf")
    assert needs_plan(BASIS, answer.planned, NOW, 300.0)

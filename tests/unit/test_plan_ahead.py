"""What is known ahead shapes the plan: limits to come, ramps, the demand charge, uncertain prices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from power.budget import Budget, Domain, PowerTree
from power.grid.forecast import Outlook
from scheduler.horizon import Horizon
from scheduler.model import Job
from scheduler.plan import make_plan
from scheduler.plan.from_snapshot import problem_of, slots_of
from scheduler.snapshot import Snapshot
from scheduler.windows import Plan
from tests.builders import NOW, frozen, gpus, hours, job, prices, running, snapshot, view


def waits(id: str = "a", *, hours_long: float = 1.0, due_h: float = 7.0, **more: object) -> Job:
    return job(id, pausable=True, deadline_h=due_h, estimate_s=hours_long * 3600.0, **more)  # type: ignore[arg-type]


def start_h(plan: Plan, job_id: str = "a") -> float | None:
    planned = plan.jobs.get(job_id)
    start = None if planned is None else planned.planned_start
    return None if start is None else (start - NOW) / hours(1)


def budget(limit_w: float, start: float, end: float | None = None, domain: str = "site") -> Budget:
    until = None if end is None else NOW + hours(end)
    return Budget(id=f"b{start}", domain=domain, limit_w=limit_w, start=NOW + hours(start), end=until)


@pytest.mark.parametrize(
    ("high", "starts_at"),
    [
        ("60 50 60 22", 3.0),  # a forecast of 20 that hardly errs
        ("60 50 60 200", 1.0),  # one that may be ten times that: with the guard it is dearer than 50
    ],
)
def test_a_cheap_forecast_counts_with_part_of_its_tail(high: str, starts_at: float) -> None:
    outlook = Outlook(expected=prices("60 50 60 20"), high=prices(high))
    seen = snapshot(gpus(1), waits(), prices=prices("60 50 60"), price=60.0, horizon=Horizon(prices=outlook))
    assert start_h(make_plan(seen)) == starts_at


def test_carbon_that_is_expected_counts_as_money() -> None:
    cleaner = Outlook(expected=prices("400 400 50 400"), high=prices("400 400 50 400"))
    seen = snapshot(
        gpus(1),
        waits(),
        prices=prices("50 40 45 60"),
        price=50.0,
        carbon_g_per_kwh=400.0,
        carbon_cost_per_tonne=100.0,
        horizon=Horizon(carbon=cleaner),
    )
    assert start_h(make_plan(seen)) == 2.0
    assert start_h(make_plan(replace(seen, carbon_cost_per_tonne=0.0))) == 1.0


def test_a_cut_known_ahead_keeps_its_hours_free() -> None:
    cut = Horizon(budgets=(budget(100.0, 2.0, 3.0),))
    seen = snapshot(gpus(1), waits(), prices=prices("60 50 10 20 80"), price=60.0, horizon=cut)
    assert start_h(make_plan(seen)) == 3.0
    assert start_h(make_plan(replace(seen, horizon=Horizon()))) == 2.0


def test_slots_are_cut_where_a_budget_begins_and_ends() -> None:
    seen = snapshot(
        gpus(1), waits(), prices=prices("60 50"), horizon=Horizon(budgets=(budget(9e9, 0.6, 1.1),))
    )
    slots = slots_of(seen)
    assert slots is not None
    assert slots.edges_h.tolist() == pytest.approx([0, 0.25, 0.5, 0.6, 0.75, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0])


def test_a_limit_of_now_that_no_budget_explains_holds_on() -> None:
    ahead = Horizon(budgets=(budget(5000.0, 3.0),))
    seen = snapshot(
        gpus(1), waits(), prices=prices("60 50 10 20 80"), price=60.0, horizon=ahead, limit_w=100.0
    )
    assert make_plan(seen).jobs == {}


def two_nodes(**limits: float) -> PowerTree:
    leaves = [Domain(name=n, parent="site", gpu_uuids=(f"gpu-{i}",)) for i, n in enumerate(("left", "right"))]
    return PowerTree.of([Domain(name="site"), *(replace(d, limit_w=limits.get(d.name, 1e9)) for d in leaves)])


def test_a_limited_node_carries_less() -> None:
    jobs = (waits("a"), waits("b"))
    row = prices("60 50 10 20 80 90")
    wide = snapshot(gpus(2), *jobs, prices=row, price=60.0, power_tree=two_nodes())
    assert [start_h(make_plan(wide), j) for j in ("a", "b")] == [2.0, 2.0]
    tight = snapshot(gpus(2), *jobs, prices=row, price=60.0, power_tree=two_nodes(left=120.0))
    plan = make_plan(tight)
    assert {start_h(plan, j) for j in ("a", "b")} == {2.0, 3.0}
    assert {planned.zone for planned in plan.jobs.values()} == {"site: NVIDIA A40"}
    assert set(plan.shadow[0].watt_h) == {"site", "left"}


def test_where_gangs_span_limited_nodes_the_sum_of_the_nodes_counts() -> None:
    both = waits("a", gpus=2)
    tree = two_nodes(left=120.0, right=400.0)
    seen = snapshot(gpus(2), both, prices=prices("60 50 10 20"), price=60.0, power_tree=tree)
    plan = make_plan(seen)
    assert plan.notes == ("1 limited domains count only in the sums over them",)
    problem = problem_of(seen)
    assert problem is not None
    assert problem.site.watts.max() == pytest.approx(120.0 + 300.0 - 2 * 45.0)
    assert plan.jobs == {}  # two loads at full speed need more than that


@pytest.mark.parametrize("held", [running(job("r")), frozen(job("r"))])
def test_who_runs_holds_its_gpu_for_the_time_that_remains(held: Job) -> None:
    row = prices("60 10 50 20 80 90")
    soon = snapshot(gpus(1), view(held, remaining_s=2 * 3600.0), waits(), prices=row, price=60.0)
    assert start_h(make_plan(soon)) == 3.0
    unknown = snapshot(gpus(1), view(held), waits(), prices=row, price=60.0)
    assert make_plan(unknown).jobs == {}


def test_a_planned_job_says_its_cap_its_place_and_what_it_saves() -> None:
    seen = snapshot(gpus(1), waits(flex="high"), prices=prices("60 50 10 20 80"), price=60.0)
    planned = make_plan(seen).jobs["a"]
    assert planned.cap_w is not None
    assert planned.cap_w < 300.0  # it may be slow and has time: energy is what counts
    assert planned.zone == "site: NVIDIA A40"
    assert planned.expected_cost < planned.cost_now
    assert planned.windows[-1].end <= NOW + hours(7)


def busy(now_h: float = 0.0) -> Snapshot:
    jobs = [waits(f"j{i}", hours_long=1 + i % 3, due_h=12.0, gpus=1 + i % 2) for i in range(10)]
    row = prices("60 50 10 20 80 90 5 6 7 50 60 80")
    return snapshot(gpus(3), *jobs, prices=row, price=row.at(NOW + hours(now_h)), now=NOW + hours(now_h))


def test_the_last_plan_helps_and_changes_nothing() -> None:
    cold = make_plan(busy())
    warm = make_plan(busy(), previous=cold)
    later = make_plan(busy(0.25), previous=cold)
    assert warm.certificate.value == pytest.approx(cold.certificate.value, rel=0.02)
    assert warm.certificate.fallback is None
    assert later.certificate.gap < 0.2
    assert make_plan(busy(48.0), previous=cold).jobs == {}  # nothing is known of that day


def test_no_time_is_no_error() -> None:
    plan = make_plan(busy(), time_limit_s=0.0)
    assert plan.jobs
    assert str(plan.certificate.fallback).startswith("greedy windows: no LP in the time limit")
    assert plan.certificate.value <= plan.certificate.bound

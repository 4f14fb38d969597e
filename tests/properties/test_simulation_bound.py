"""Nothing that can be done costs less, or ends earlier, than the bound says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache, lru_cache
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ortools.linear_solver import pywraplp

from power.budget import Budget
from power.curve import CapCurve, prior
from power.curve_table import CurveTable
from power.series import Series
from scheduler.model import Contract, Flex, JobSpec
from scheduler.simulation.bound import Bound, completion_bound, cost_bound
from scheduler.simulation.bound_levels import levels_of
from scheduler.simulation.model import Scenario, SimulatedJob, StopTimes
from tests.trace_builders import START, cluster, limit

HOUR_S = 3600.0
CURVES = tuple(
    prior(model, min_cap_w=100.0, max_cap_w=300.0, workload=family)
    for model, family in (("A40", "bert"), ("A40", "ncf"), ("H100", "resnet"))
)
CAPS_W = (300.0, 220.0, 150.0, 100.0)
COMMON = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
ROUNDING = 1e-6  # relative
TIGHT = 0.005  # relative: how far the bound may stay below the linear programme's optimum


@dataclass(frozen=True)
class Asked:
    """A job in whole hours. `work_h` is at full speed; due at the end of hour `due_h`."""

    at_h: int
    due_h: int
    work_h: float
    gpus: int
    flex: str
    curve: int


@dataclass(frozen=True)
class World:
    asked: tuple[Asked, ...]
    prices: tuple[float, ...]
    gpus: int
    limit_w: float = float("inf")

    def scenario(self) -> Scenario:
        jobs = tuple(_job(f"job-{row}", one) for row, one in enumerate(self.asked))
        points = [(START + timedelta(hours=hour), price) for hour, price in enumerate(self.prices)]
        last = START + timedelta(hours=len(self.prices))
        budgets: tuple[Budget, ...] = (limit(self.limit_w),) if self.limit_w < np.inf else ()
        return Scenario(
            jobs=jobs,
            cluster=cluster(self.gpus),
            prices=Series.from_starts(points, end=last),
            budgets=budgets,
            start=START,
            end=last,
            stop_times=StopTimes(launch_s=0.0),
        )

    def bound(self) -> Bound:
        table, row = CurveTable.of([CURVES[one.curve] for one in self.asked])
        return cost_bound(self.scenario(), table, row, until_s=len(self.prices) * HOUR_S)


def _job(id: str, one: Asked) -> SimulatedJob:
    due = START + timedelta(hours=one.due_h)
    contract = Contract(flex=Flex(one.flex), pausable=True, deadline=due)
    spec = JobSpec(argv=("train",), gpus=one.gpus, contract=contract)
    submitted_at = START + timedelta(hours=one.at_h)
    return SimulatedJob(id=id, spec=spec, submitted_at=submitted_at, work_s=one.work_h * HOUR_S)


@st.composite
def asked(draw: st.DrawFn, *, hours: int = 6, gpus: int = 2) -> Asked:
    at_h = draw(st.integers(0, hours - 2))
    due_h = draw(st.integers(at_h + 2, hours))
    return Asked(
        at_h=at_h,
        due_h=due_h,
        work_h=draw(st.sampled_from([0.5, 1.0, 1.5])),
        gpus=draw(st.integers(1, gpus)),
        flex=draw(st.sampled_from(["none", "low", "mid", "high"])),
        curve=draw(st.integers(0, len(CURVES) - 1)),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Three jobs, six hours, prices of either sign, at times a limit of the site."""
    return World(
        asked=tuple(draw(st.lists(asked(), min_size=1, max_size=3))),
        prices=tuple(draw(st.lists(st.integers(-50, 200).map(float), min_size=6, max_size=6))),
        gpus=draw(st.integers(2, 4)),
        limit_w=draw(st.sampled_from([float("inf"), 700.0, 400.0])),
    )


# --- every schedule of whole hours, at one of a few caps in each -----------------------------------


@dataclass(frozen=True)
class Run:
    """One way to do a job: per hour, its GPUs and their watts above idle; and what that costs."""

    cost: float
    above_idle_cost: float
    gpus: tuple[int, ...]
    above_idle_w: tuple[float, ...]
    ended_h: float


@lru_cache(maxsize=4096)
def runs_of(one: Asked, prices: tuple[float, ...]) -> tuple[Run, ...]:
    """Every choice of a cap, or none, per hour of the window that does the work within the tier."""
    curve, window = CURVES[one.curve], range(one.at_h, one.due_h)
    found = []
    for caps in product((None, *CAPS_W), repeat=len(window)):
        run = _run(one, curve, dict(zip(window, caps, strict=True)), prices)
        if run is not None:
            found.append(run)
    return tuple(found)


def _run(one: Asked, curve: CapCurve, caps: dict[int, float | None], prices: tuple[float, ...]) -> Run | None:
    left_h, ran_h, cost, above_cost, ended_h = one.work_h, 0.0, 0.0, 0.0, float("inf")
    gpus, above_w = [0] * len(prices), [0.0] * len(prices)
    for hour, cap_w in caps.items():
        if cap_w is None:
            continue
        if left_h <= 1e-12:
            return None  # the work is done: the same schedule without this hour is there as well
        share = min(1.0, left_h / curve.throughput(cap_w))
        power_w = curve.power_w(cap_w)
        left_h, ran_h, ended_h = left_h - share * curve.throughput(cap_w), ran_h + share, hour + share
        cost += one.gpus * power_w * share * prices[hour] / 1e6
        above_cost += one.gpus * (power_w - curve.idle_w) * share * prices[hour] / 1e6
        gpus[hour], above_w[hour] = one.gpus, one.gpus * (power_w - curve.idle_w)
    kept = left_h <= 1e-12 and one.work_h >= ran_h * (1.0 - Flex(one.flex).share) - 1e-12
    return Run(cost, above_cost, tuple(gpus), tuple(above_w), ended_h) if kept else None


def least_costs(world: World, idle_w: float) -> tuple[float, float]:
    """(of running GPUs, of their draw above idle), over every combination that fits."""
    room_w = world.limit_w - world.gpus * idle_w
    best, best_above = np.inf, np.inf
    cheap = [sorted(runs_of(one, world.prices), key=lambda run: run.cost)[:25] for one in world.asked]
    for chosen in product(*cheap):
        gpus = np.sum([run.gpus for run in chosen], axis=0)
        watts = np.sum([run.above_idle_w for run in chosen], axis=0)
        if (gpus <= world.gpus).all() and (watts <= room_w + 1e-9).all():
            best = min(best, sum(run.cost for run in chosen))
            best_above = min(best_above, sum(run.above_idle_cost for run in chosen))
    return best, best_above


def alike(world: World) -> World:
    """All on boards that rest at the same draw, as all jobs on one kind of board do."""
    return replace(world, asked=tuple(replace(one, curve=one.curve % 2) for one in world.asked))


@given(worlds().map(alike))
@COMMON
def test_no_schedule_costs_less(world: World) -> None:
    found, idle_w = world.bound(), CURVES[0].idle_w
    least, least_above = least_costs(world, idle_w)
    assert found.cost <= least + ROUNDING * abs(least)
    idle_cost = world.gpus * idle_w * sum(world.prices) / 1e6
    assert found.site_cost <= least_above + idle_cost + ROUNDING * (abs(least_above) + abs(idle_cost))


# --- the linear programme itself -------------------------------------------------------------------


def optimum(world: World) -> float | None:
    """Of the relaxation on the same polygons, GPUs shared, by GLOP; None where it has no answer."""
    table, row = CurveTable.of([CURVES[one.curve] for one in world.asked])
    rigid = np.array([one.flex == "none" for one in world.asked])
    levels = levels_of(table, row, rigid)
    solver = pywraplp.Solver.CreateSolver("GLOP")
    hours_held = [solver.Constraint(0.0, float(world.gpus)) for _ in world.prices]
    for index, one in enumerate(world.asked):
        work = solver.Constraint(one.work_h, solver.infinity())
        longest = solver.Constraint(0.0, one.work_h / (1.0 - Flex(one.flex).share))
        for hour in range(one.at_h, one.due_h):
            within = solver.Constraint(0.0, 1.0)
            for power_w, pace in zip(levels.power_w[index], levels.throughput[index], strict=True):
                hours = solver.NumVar(0.0, 1.0, "")
                work.SetCoefficient(hours, float(pace))
                longest.SetCoefficient(hours, 1.0)
                within.SetCoefficient(hours, 1.0)
                hours_held[hour].SetCoefficient(hours, float(one.gpus))
                cost = one.gpus * power_w * world.prices[hour] / 1e6
                solver.Objective().SetCoefficient(hours, float(cost))
    solved = solver.Solve() == pywraplp.Solver.OPTIMAL
    return float(solver.Objective().Value()) if solved else None


@given(worlds(), st.integers(10, 200).map(float))
@COMMON
def test_with_room_for_all_it_is_the_optimum_of_the_relaxation(world: World, lift: float) -> None:
    roomy = replace(world, gpus=8, limit_w=float("inf"))
    best, found = optimum(roomy), roomy.bound()
    assert best is not None
    scale = max(abs(best), lift * 1e-6)
    assert found.cost == pytest.approx(best, abs=1e-4 * scale)
    assert found.gap == pytest.approx(0.0, abs=1e-3) or abs(best) < 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_where_gpus_are_scarce_it_comes_close_to_the_optimum(seed: int) -> None:
    chance = np.random.default_rng(seed)
    jobs = []
    for _ in range(40):
        at_h = int(chance.integers(0, 18))
        work_h = float(chance.uniform(0.5, 2.0))
        due_h = min(24, at_h + int(chance.integers(4, 9)))
        flex = str(chance.choice(["none", "low", "mid", "high"]))
        jobs.append(Asked(at_h, due_h, work_h, int(chance.integers(1, 3)), flex, int(chance.integers(0, 2))))
    world = World(tuple(jobs), tuple(chance.uniform(20.0, 150.0, 24).tolist()), gpus=5)
    best, found = optimum(world), world.bound()
    free = replace(world, gpus=64).bound()
    assert best is not None
    assert found.cost <= best * (1.0 + ROUNDING)
    assert free.cost < found.cost
    assert found.cost >= best * (1.0 - TIGHT)


# --- what must not move it, and what must ----------------------------------------------------------


@given(worlds())
@COMMON
def test_more_gpus_or_time_never_raise_it(world: World) -> None:
    roomy = replace(world, limit_w=float("inf"))
    cost = roomy.bound().cost
    slack = 1e-5 * sum(map(abs, world.prices)) / 1e3
    later = tuple(replace(one, due_h=6) for one in world.asked)
    if replace(roomy, gpus=8).bound().cost == pytest.approx(cost, abs=slack):  # nothing is scarce
        assert replace(roomy, asked=later, gpus=8).bound().cost <= cost + slack
    assert replace(roomy, gpus=8).bound().cost <= optimum_or(roomy, np.inf) + slack


def optimum_or(world: World, otherwise: float) -> float:
    best = optimum(world)
    return otherwise if best is None else best


@given(worlds(), st.sampled_from([0.25, 0.5, 2.0, 8.0]))
@COMMON
def test_it_scales_with_prices(world: World, factor: float) -> None:
    """By powers of two, so that rounding leads the search for prices of scarce things no other way."""
    plain, scaled = world.bound(), replace(world, prices=tuple(p * factor for p in world.prices)).bound()
    assert scaled.cost == pytest.approx(factor * plain.cost, rel=1e-9, abs=1e-12)
    assert scaled.site_cost == pytest.approx(factor * plain.site_cost, rel=1e-9, abs=1e-12)
    assert scaled.energy_kwh == plain.energy_kwh


# --- completion times ------------------------------------------------------------------------------


def least_sum_h(asked: tuple[Asked, ...], gpus: int) -> float:
    """Sum of completion times of the best schedule that starts and stops jobs at half hours."""
    step_h = 0.5

    @cache
    def rest(step: int, left: tuple[int, ...]) -> float:
        if not any(left):
            return 0.0
        open_rows = [row for row, steps in enumerate(left) if steps and asked[row].at_h <= step * step_h]
        best = np.inf if open_rows else rest(step + 1, left)
        for chosen in product((False, True), repeat=len(open_rows)):
            rows = [row for row, runs in zip(open_rows, chosen, strict=True) if runs]
            if not rows or sum(asked[row].gpus for row in rows) > gpus:
                continue
            after = tuple(steps - (row in rows) for row, steps in enumerate(left))
            ended = sum((step + 1) * step_h - asked[row].at_h for row in rows if after[row] == 0)
            best = min(best, ended + rest(step + 1, after))
        return float(best)

    return rest(0, tuple(round(one.work_h / step_h) for one in asked))


@given(st.lists(asked(), min_size=1, max_size=4), st.integers(2, 3))
@COMMON
def test_no_schedule_ends_earlier_on_the_mean(jobs: list[Asked], gpus: int) -> None:
    world = World(tuple(jobs), (50.0,) * 6, gpus)
    least_s = least_sum_h(world.asked, gpus) / len(jobs) * HOUR_S
    assert completion_bound(world.scenario()) <= least_s * (1.0 + ROUNDING)

"""The split of the watts against a linear program: exact where jobs nest, certified where gangs span."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from ortools.linear_solver import pywraplp

from power.arrays import Floats, Ints
from power.budget import Domain, PowerTree
from power.cap_gains import GainTable, gain_classes
from power.capping import CapDemands, CapSplit, split_watts
from power.curve import CapCurve, prior
from tests.cap_builders import CapDemand, columns

CONCAVE = [
    prior(model, min_cap_w=low, max_cap_w=high, workload=workload)
    for model, low, high in (("A40", 100.0, 300.0), ("V100", 100.0, 250.0))
    for workload in ("bert", "shufflenet", None)
]
BENT = [
    prior("RTX 5000 Ada", min_cap_w=50.0, max_cap_w=250.0),
    prior("H100", min_cap_w=150.0, max_cap_w=700.0, workload="bert"),
]
COMMON = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
SAME = 1e-6  # relative
SPANNING_GAP = 0.01  # of the value of all work at full speed; 0.0006 was the most in 300 random sites


@st.composite
def trees(draw: st.DrawFn) -> PowerTree:
    """Any depth; GPUs may hang on any domain."""
    domains = [Domain(name="site", gpu_uuids=("d0g0",))]
    for index in range(1, draw(st.integers(2, 9))):
        parent = draw(st.sampled_from([d.name for d in domains]))
        uuids = tuple(f"d{index}g{n}" for n in range(draw(st.integers(0, 4))))
        domains.append(Domain(name=f"d{index}", parent=parent, base_load_w=20.0 * index, gpu_uuids=uuids))
    return PowerTree.of(domains)


@st.composite
def one(draw: st.DrawFn, key: str, gang: tuple[str, ...], curves: list[CapCurve]) -> CapDemand:
    return CapDemand(
        key=key,
        gpu_uuids=gang,
        floor_w=draw(st.floats(100.0, 260.0)),
        ceiling_w=draw(st.sampled_from([230.0, 400.0, 800.0])),
        rank=draw(st.integers(0, 2)),
        curve=draw(st.sampled_from(curves)),
        value=draw(st.sampled_from([0.5, 1.5, 4.0])),
        price=draw(st.sampled_from([-50.0, 0.0, 90.0, 200.0])),
    )


@st.composite
def nested(draw: st.DrawFn) -> tuple[PowerTree, list[CapDemand]]:
    """Every job on GPUs of one domain."""
    tree = draw(trees())
    jobs: list[CapDemand] = []
    for domain in tree.domains.values():
        left = list(domain.gpu_uuids)
        while left:
            size = draw(st.integers(1, len(left)))
            jobs.append(draw(one(f"j{len(jobs)}", tuple(left[:size]), CONCAVE)))
            left = left[size:]
    return tree, jobs


@st.composite
def spanning(draw: st.DrawFn, curves: list[CapCurve]) -> tuple[PowerTree, list[CapDemand]]:
    """Gangs over GPUs anywhere."""
    tree = draw(trees())
    jobs: list[CapDemand] = []
    left = draw(st.permutations(tree.gpu_uuids()))
    while left:
        size = draw(st.integers(1, min(5, len(left))))
        jobs.append(draw(one(f"j{len(jobs)}", tuple(left[:size]), curves)))
        left = left[size:]
    return tree, jobs


@st.composite
def limits(draw: st.DrawFn, tree: PowerTree, jobs: list[CapDemand], least: float = -0.1) -> Floats:
    """Per domain none, or so far between what floors and tops would take; below 0 floors must break."""
    demands, index = columns(jobs, tree), tree.index
    top_w = demands.holdings.used_w(index, demands.curves.tdp_w[demands.curve])
    floor_w = demands.holdings.used_w(index, demands.floor_w)
    share = np.array([draw(st.sampled_from([least, 0.0, 0.2, 0.5, 0.8, math.inf])) for _ in index.names])
    return np.where(np.isinf(share), np.inf, floor_w + np.nan_to_num(share, posinf=0.0) * (top_w - floor_w))


def split(tree: PowerTree, jobs: list[CapDemand], available_w: Floats) -> tuple[CapDemands, CapSplit]:
    demands = columns(jobs, tree)
    return demands, split_watts(demands, tree.index, available_w)


def lp_value(
    demands: CapDemands,
    found: CapSplit,
    table: GainTable,
    of_class: Ints,
    tree: PowerTree,
    room_w: Floats,
) -> float:
    """The best value of the hulls, by a linear program over caps and gains."""
    solver = pywraplp.Solver.CreateSolver("GLOP")
    hull, index, floors = table.hull, tree.index, found.floors
    ceiling_w = np.clip(demands.ceiling_w, demands.curves.min_cap_w[demands.curve], None)
    economic_w = table.wanted_w(
        of_class, floors.cap_w, np.minimum(ceiling_w, demands.curves.tdp_w[demands.curve])
    )
    gpus = demands.holdings.total(len(of_class))
    used = [solver.Constraint(-solver.infinity(), float(w)) for w in np.where(np.isinf(room_w), 1e12, room_w)]
    fixed = 0.0
    for job in np.nonzero(floors.stays)[0].tolist():
        row, top = of_class[job], int(table.top[of_class[job]])
        cap = solver.NumVar(float(floors.cap_w[job]), float(economic_w[job]), "")
        grid_w = hull.least_w[row] + hull.step_w[row] * np.arange(hull.columns + 1)
        if floors.cap_w[job] >= grid_w[top] - 1e-9:
            fixed += gpus[job] * float(hull.at(np.array([row]), economic_w[[job]])[0])
        else:
            gain = solver.NumVar(-solver.infinity(), solver.infinity(), "")
            for column in range(top):
                slope, at_w = float(hull.slopes[row, column]), float(grid_w[column])
                solver.Add(gain - slope * cap <= float(hull.values[row, column]) - slope * at_w)
            solver.Objective().SetCoefficient(gain, float(gpus[job]))
        for entry in np.nonzero(demands.holdings.job == job)[0].tolist():
            for column in index.ancestors[demands.holdings.leaf[entry]].tolist():
                if column >= 0:
                    used[column].SetCoefficient(cap, used[column].GetCoefficient(cap) + 1.0)
    solver.Objective().SetMaximization()
    assert solver.Solve() == pywraplp.Solver.OPTIMAL
    return fixed + float(solver.Objective().Value())


def classes(demands: CapDemands) -> tuple[GainTable, Ints]:
    return gain_classes(demands.curves, demands.curve, demands.value_per_gpu_h, demands.price_per_mwh)


def hull_value(demands: CapDemands, found: CapSplit, table: GainTable, of_class: Ints) -> float:
    gains = demands.holdings.total(len(of_class)) * table.hull.at(of_class, found.cap_w)
    return float(gains[found.floors.stays].sum())


@COMMON
@given(st.data())
def test_nested_jobs_on_concave_curves_are_split_as_well_as_an_lp_can(data: st.DataObject) -> None:
    tree, jobs = data.draw(nested())
    available_w = data.draw(limits(tree, jobs))
    demands, found = split(tree, jobs, available_w)
    assume(found.floors.stays.any())
    stays = demands.only(np.nonzero(found.floors.stays)[0])
    table, _ = classes(stays)
    for row, top in enumerate(table.top.tolist()):
        assert np.allclose(table.hull.values[row, : top + 1], table.gains[row, : top + 1], atol=1e-9)
    table, of_class = classes(demands)
    best = lp_value(demands, found, table, of_class, tree, available_w)
    assert math.isclose(hull_value(demands, found, table, of_class), best, rel_tol=SAME, abs_tol=1e-7)
    assert best <= found.bound + 1e-7


@COMMON
@given(st.data())
def test_gangs_that_span_domains_come_within_their_certificate(data: st.DataObject) -> None:
    tree, jobs = data.draw(spanning(CONCAVE))
    available_w = data.draw(limits(tree, jobs))
    demands, found = split(tree, jobs, available_w)
    assume(found.floors.stays.any())
    table, of_class = classes(demands)
    best = lp_value(demands, found, table, of_class, tree, available_w)
    full = float((demands.holdings.total(len(jobs)) * demands.value_per_gpu_h).sum())
    assert best <= found.bound + 1e-7
    assert found.value <= found.bound
    assert found.bound - found.value <= SPANNING_GAP * full


@COMMON
@given(st.data())
def test_bent_curves_stay_under_the_bound_and_near_it(data: st.DataObject) -> None:
    """What a bend holds back is at most one job per scarce domain."""
    tree, jobs = data.draw(spanning(BENT + CONCAVE))
    available_w = data.draw(limits(tree, jobs))
    demands, found = split(tree, jobs, available_w)
    table, of_class = classes(demands)
    best = lp_value(demands, found, table, of_class, tree, available_w)
    assert best <= found.bound + 1e-7
    assert found.least - 1e-9 <= found.value <= found.bound


@COMMON
@given(st.data())
def test_no_domain_is_exceeded_and_floors_that_fit_are_kept(data: st.DataObject) -> None:
    tree, jobs = data.draw(spanning(BENT + CONCAVE))
    available_w = data.draw(limits(tree, jobs))
    demands, found = split(tree, jobs, available_w)
    stays = found.floors.stays
    held = demands.holdings.only(stays[demands.holdings.job])
    used_w = held.used_w(tree.index, found.cap_w)
    some = held.used_w(tree.index, np.ones(len(jobs))) > 0
    assert (used_w[some] <= available_w[some] + 1e-6).all()
    least_w, most_w = demands.curves.min_cap_w[demands.curve], demands.curves.tdp_w[demands.curve]
    floor_w = np.clip(demands.floor_w, least_w, np.clip(demands.ceiling_w, least_w, most_w))
    if (demands.holdings.used_w(tree.index, floor_w) <= available_w).all():
        assert (found.cap_w >= floor_w - 1e-9).all()


@COMMON
@given(st.data())
def test_more_watts_never_lower_the_bound(data: st.DataObject) -> None:
    tree, jobs = data.draw(spanning(CONCAVE))
    available_w = data.draw(limits(tree, jobs, least=0.0))
    more_w = available_w + data.draw(st.floats(0.0, 500.0)) * (np.arange(len(available_w)) % 2)
    before, after = split(tree, jobs, available_w)[1], split(tree, jobs, more_w)[1]
    assert after.bound >= before.value - 1e-9
    assert after.bound >= before.bound - 0.002 * abs(before.bound)


@COMMON
@given(st.data())
def test_the_order_of_jobs_and_gpus_does_not_matter(data: st.DataObject) -> None:
    tree, jobs = data.draw(spanning(CONCAVE))
    available_w = data.draw(limits(tree, jobs, least=0.0))
    shuffled = [
        replace(job, gpu_uuids=tuple(data.draw(st.permutations(job.gpu_uuids))))
        for job in data.draw(st.permutations(jobs))
    ]
    one_way, other = split(tree, jobs, available_w)[1], split(tree, shuffled, available_w)[1]
    # Prices of gangs are found by steps, whose sums depend on the order in their last digits.
    assert math.isclose(one_way.bound, other.bound, rel_tol=1e-4, abs_tol=1e-9)
    assert math.isclose(one_way.value, other.value, rel_tol=1e-3, abs_tol=1e-9)

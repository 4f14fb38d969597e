"""Whatever the site and the jobs: budgets hold, floors hold where they can, and nothing beats the bound."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from power.budget import Domain, PowerTree
from power.curve import CapCurve, prior
from tests.cap_builders import CapDemand
from tests.cap_builders import NamedSplit as CapSplit
from tests.cap_builders import split as water_fill

CURVES = [
    prior(model, min_cap_w=low, max_cap_w=high, workload=workload)
    for model, low, high in (("A40", 100.0, 300.0), ("V100", 100.0, 250.0), ("RTX 5000 Ada", 60.0, 250.0))
    for workload in ("bert", "ncf", None)
]


@st.composite
def trees(draw: st.DrawFn) -> PowerTree:
    """One to three levels; GPUs may hang on any domain that is not the root."""
    domains = [Domain(name="site")]
    for index in range(draw(st.integers(1, 5))):
        parent = draw(st.sampled_from([d.name for d in domains]))
        count = draw(st.integers(0 if index else 1, 3))
        uuids = tuple(f"d{index}g{n}" for n in range(count))
        domains.append(Domain(name=f"d{index}", parent=parent, gpu_uuids=uuids))
    return PowerTree.of(domains)


@st.composite
def demand_sets(draw: st.DrawFn, tree: PowerTree) -> list[CapDemand]:
    """Gangs over random GPUs, some of which stay empty."""
    uuids = draw(st.permutations(list(tree.gpu_uuids())))
    jobs: list[CapDemand] = []
    while uuids and len(jobs) < 6:
        size = draw(st.integers(1, min(3, len(uuids))))
        gang, uuids = uuids[:size], uuids[size:]
        curve = draw(st.sampled_from(CURVES))
        jobs.append(draw_demand(draw, f"j{len(jobs)}", tuple(gang), curve))
    return jobs


def draw_demand(draw: st.DrawFn, key: str, gang: tuple[str, ...], curve: CapCurve) -> CapDemand:
    watts = st.floats(0.0, 400.0)
    return CapDemand(
        key=key,
        gpu_uuids=gang,
        floor_w=draw(watts),
        ceiling_w=draw(watts),
        rank=draw(st.integers(0, 2)),
        curve=curve,
        value=draw(st.sampled_from([0.0, 0.5, 1.5, 4.0])),
        price=draw(st.sampled_from([-500.0, 0.0, 90.0, 4000.0, 30000.0])),
    )


@st.composite
def instances(draw: st.DrawFn) -> tuple[PowerTree, list[CapDemand], dict[str, float]]:
    tree = draw(trees())
    names = draw(st.sets(st.sampled_from(sorted(tree.domains))))
    available = {name: draw(st.floats(-100.0, 2500.0)) for name in sorted(names)}
    return tree, draw(demand_sets(tree)), available


def used_w(tree: PowerTree, jobs: list[CapDemand], caps_w: Mapping[str, float]) -> dict[str, float]:
    used = dict.fromkeys(tree.domains, 0.0)
    for job in jobs:
        for uuid in job.gpu_uuids:
            for name in tree.path(uuid):
                used[name] += caps_w.get(job.key, 0.0)
    return used


def effective(job: CapDemand) -> tuple[float, float]:
    """Floor and ceiling as they count."""
    ceiling = min(max(job.ceiling_w, job.curve.min_cap_w), job.curve.tdp_w)
    return min(max(job.floor_w, job.curve.min_cap_w), ceiling), ceiling


def money(job: CapDemand, cap_w: float) -> float:
    energy = job.price * job.curve.power_w(cap_w) / 1e6
    return len(job.gpu_uuids) * (job.value * job.curve.throughput(cap_w) - energy)


def running(split: CapSplit, jobs: list[CapDemand]) -> list[CapDemand]:
    return [job for job in jobs if job.key not in split.must_pause]


@given(instances())
@settings(max_examples=300, deadline=None)
def test_no_domain_is_ever_exceeded(instance: tuple[PowerTree, list[CapDemand], dict[str, float]]) -> None:
    tree, jobs, available = instance
    split = water_fill(jobs, tree, available)
    used = used_w(tree, running(split, jobs), split.caps_w)
    for name, watts in available.items():
        if running(split, [j for j in jobs if any(name in tree.path(u) for u in j.gpu_uuids)]):
            assert used[name] <= watts + 1e-4
    assert set(split.caps_w) == {job.key for job in jobs}


@given(instances())
@settings(max_examples=300, deadline=None)
def test_caps_stay_between_floor_and_ceiling_unless_the_split_says_why(
    instance: tuple[PowerTree, list[CapDemand], dict[str, float]],
) -> None:
    tree, jobs, available = instance
    split = water_fill(jobs, tree, available)
    broken = {b.key: b for b in split.broken}
    for job in running(split, jobs):
        floor, ceiling = effective(job)
        cap = split.caps_w[job.key]
        assert job.curve.min_cap_w - 2e-3 <= cap <= ceiling + 1e-6
        if job.key in broken:
            assert cap <= broken[job.key].floor_w + 1e-6
            assert broken[job.key].domain in available
        else:
            assert cap >= floor - 2e-3
    floors = used_w(tree, jobs, {job.key: effective(job)[0] for job in jobs})
    if all(floors[name] <= watts for name, watts in available.items()):
        assert not split.broken
        assert not split.must_pause


@given(instances())
@settings(max_examples=300, deadline=None)
def test_jobs_pause_only_where_minimums_do_not_fit_and_none_too_many(
    instance: tuple[PowerTree, list[CapDemand], dict[str, float]],
) -> None:
    tree, jobs, available = instance
    split = water_fill(jobs, tree, available)
    assert not split.must_pause or split.missing_w
    least = {job.key: job.curve.min_cap_w for job in running(split, jobs)}
    for key in split.must_pause:
        with_it = least | {job.key: job.curve.min_cap_w for job in jobs if job.key == key}
        used = used_w(tree, [job for job in jobs if job.key in with_it], with_it)
        assert any(used[name] > watts for name, watts in available.items())


@given(instances())
@settings(max_examples=200, deadline=None)
def test_reasons_name_what_holds_the_cap(
    instance: tuple[PowerTree, list[CapDemand], dict[str, float]],
) -> None:
    tree, jobs, available = instance
    split = water_fill(jobs, tree, available)
    used = used_w(tree, running(split, jobs), split.caps_w)
    for job in running(split, jobs):
        reason, domain = split.limited_by[job.key], split.binding[job.key]
        assert (reason == "budget") == (domain is not None)
        if domain is not None:
            assert any(domain in tree.path(uuid) for uuid in job.gpu_uuids)
            assert available[domain] - used[domain] < 10.0  # the domain is full, to a step
        if reason == "nothing":
            assert split.caps_w[job.key] >= effective(job)[1] - 2e-3


@given(instances())
@settings(max_examples=60, deadline=None)
def test_no_split_beats_the_bound_and_few_come_near_the_value(
    instance: tuple[PowerTree, list[CapDemand], dict[str, float]],
) -> None:
    """Against every combination of nine caps per job on at most four jobs."""
    tree, jobs, available = instance
    jobs = jobs[:4]
    split = water_fill(jobs, tree, available)
    active = running(split, jobs)
    given_w = {b.key: b.given_w for b in split.broken}
    ranges = []
    for job in active:
        floor, ceiling = effective(job)
        floor = given_w.get(job.key, floor)
        ranges.append([floor + (ceiling - floor) * step / 8 for step in range(9)])
    best = -math.inf
    for caps in itertools.product(*ranges):
        caps_w = {job.key: cap for job, cap in zip(active, caps, strict=True)}
        used = used_w(tree, active, caps_w)
        if all(used[name] <= watts + 1e-9 for name, watts in available.items()):
            best = max(best, sum(money(job, cap) for job, cap in zip(active, caps, strict=True)))
    reached = sum(money(job, split.caps_w[job.key]) for job in active)
    assert math.isclose(reached, split.value, rel_tol=1e-4, abs_tol=1e-4)
    assert split.value <= split.bound + 1e-9
    if active and best > -math.inf:
        scale = sum(len(job.gpu_uuids) * max(job.value, 0.1) for job in active)
        assert best <= split.bound + 1e-6 * scale
        assert best <= split.value + 0.02 * scale

"""Placement for large sites on random little ones: every rule kept, every bound true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from power.arrays import Ints
from scheduler.placing.dual import Dual, Prices
from scheduler.placing.greedy import choose
from scheduler.placing.large import solve_large
from scheduler.placing.market import Market
from scheduler.placing.problem import PlacementProblem
from scheduler.placing.solve import solve
from tests.placing_check import faults, value_of
from tests.placing_worlds import little_world, optimum

ROUNDING = 2e-3  # of the reference, which counts in integers
SEEDS = st.integers(0, 10_000)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_no_answer_beats_the_bound_and_every_rule_is_kept(seed: int) -> None:
    problem = little_world(seed, nodes=4 + seed % 3, jobs=5 + seed % 5)
    choice, _ = solve_large(problem, time_limit_s=2.0)
    best = optimum(problem)
    assert faults(problem, choice) == []
    assert value_of(problem, choice) == pytest.approx(choice.value)
    assert choice.value <= best + ROUNDING
    assert best <= choice.bound + ROUNDING


@settings(max_examples=40, deadline=None)
@given(SEEDS, SEEDS)
def test_any_prices_bound_every_answer(seed: int, price_seed: int) -> None:
    problem = little_world(seed, nodes=4, jobs=5)
    dual = Dual(Market(problem))
    assert optimum(problem) <= dual.judge(_prices(dual, price_seed)).bound + ROUNDING


@settings(max_examples=40, deadline=None)
@given(SEEDS, SEEDS)
def test_slopes_never_promise_too_much(seed: int, price_seed: int) -> None:
    """Each party's earnings are convex in the prices: its slopes lie below it everywhere."""
    dual = Dual(Market(little_world(seed, nodes=6, jobs=12)))
    at, to = _prices(dual, price_seed), _prices(dual, price_seed + 1)
    here, there = dual.judge(at), dual.judge(to)
    slopes = here.slopes
    rise = ((to.watt - at.watt) * slopes.watt).sum(axis=(1, 2))
    rise += ((to.part - at.part) * slopes.part).sum(axis=(1, 2, 3))
    rise += ((to.zone - at.zone) * slopes.zone).sum(axis=1)
    assert (here.earned + rise <= there.earned + 1e-6).all()


@settings(max_examples=30, deadline=None)
@given(SEEDS, SEEDS)
def test_the_order_of_pools_does_not_matter(seed: int, price_seed: int) -> None:
    problem = little_world(seed, nodes=6, jobs=8)
    turned = _turned(problem, np.random.default_rng(seed).permutation(len(problem.pools)))
    one, other = Dual(Market(problem)), Dual(Market(turned))
    prices = _prices(one, price_seed)
    assert other.judge(prices).bound == pytest.approx(one.judge(prices).bound, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(SEEDS, SEEDS)
def test_more_room_never_lowers_the_bound(seed: int, price_seed: int) -> None:
    problem = little_world(seed, nodes=6, jobs=8)
    dual = Dual(Market(problem))
    prices = _prices(dual, price_seed)
    less = dual.judge(prices).bound
    dual = Dual(Market(_with_more_room(problem)))
    assert dual.judge(prices).bound >= less - 1e-9


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_greedy_is_never_better(seed: int) -> None:
    problem = little_world(seed, nodes=5, jobs=8)
    choice = solve(problem, time_limit_s=2.0)
    assert faults(problem, choice) == []
    assert choose(problem).value <= choice.value + 1e-6


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_no_time_still_keeps_every_rule(seed: int) -> None:
    problem = little_world(seed, nodes=6, jobs=10)
    choice, _ = solve_large(problem, time_limit_s=0.0)
    assert faults(problem, choice) == []
    assert choice.value <= choice.bound + 1e-9


def _prices(dual: Dual, seed: int) -> Prices:
    """Any prices at all; watts below a few times what they are worth."""
    chance, market = np.random.default_rng(seed), dual.market
    shape = (len(market.sizes), max(1, len(market.ranks)))
    return Prices(
        chance.uniform(0.0, 0.03, (len(market.priced), shape[1])) * (chance.random() < 0.8),
        chance.uniform(0.0, 4.0, (2, *shape))[: int(market.zones.kind.max(initial=0)) + 1],
        chance.uniform(-0.5, 0.5, len(market.zones)),
    )


def _turned(problem: PlacementProblem, order: Ints) -> PlacementProblem:
    pools, holds = problem.pools, problem.holds
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    columns = {name: getattr(pools, name)[order] for name in pools.__dataclass_fields__}
    moved = np.where(holds.pool >= 0, place[holds.pool], -1)
    return replace(problem, pools=type(pools)(**columns), holds=replace(holds, pool=moved))


def _with_more_room(problem: PlacementProblem) -> PlacementProblem:
    """A little more under every domain that is tight, such that it stays tight."""
    room_w = problem.room_w.copy()
    room_w[problem.tight] += 1e-3
    return replace(problem, room_w=room_w)

"""The exact solver against every combination of tiny problems, and its proof on sites of 64 GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement, product

import numpy as np
import pytest

from power.arrays import Floats, Ints
from power.budget import Domain, PowerTree
from scheduler.placing.exact import PROVEN_GAP, small_enough, solve_exactly
from scheduler.placing.exact_fill import fullest
from scheduler.placing.problem import (
    ANY_SPLIT,
    Act,
    Choice,
    Groups,
    Holds,
    Offers,
    Options,
    PlacementProblem,
    Pools,
    Residents,
)
from tests.placing_check import faults, value_of

EMPTY_W = 50.0


def ints(*values: int) -> Ints:
    return np.array(values, dtype=np.int64)


def floats(*values: float) -> Floats:
    return np.array(values, dtype=np.float64)


def problem(
    chance: np.random.Generator,
    *,
    nodes: int,
    per_node: int,
    gangs: list[tuple[int, int]],
    residents: int = 0,
    site_share: float = 0.6,
    node_share: float = 0.7,
    levels: int = 2,
    unlike_idle: bool = False,
) -> PlacementProblem:
    """`gangs` are (GPUs, nodes) of one waiting job each. Residents hold one GPU each, picked at random."""
    tree = PowerTree.of([Domain(name="site"), *(Domain(name=f"n{i}", parent="site") for i in range(nodes))])
    index = tree.index
    leaf = np.array([index.column[f"n{i}"] for i in range(nodes)], dtype=np.int64)
    at = chance.permutation(nodes * per_node)[:residents] // per_node
    held = np.bincount(at, minlength=nodes)
    room = np.full(len(index.names), np.inf)
    room[leaf] = np.round(node_share * per_node * 250.0 * chance.uniform(0.8, 1.2, nodes))
    room[0] = round(site_share * nodes * per_node * 250.0)
    caps = np.array([np.sort(100.0 + chance.permutation(200)[:levels]) for _ in gangs])
    worth = np.sort(chance.uniform(0.5, 4.0, (len(gangs), levels)), axis=1)
    rank = chance.integers(0, 3, len(gangs))
    least_w, most_w = chance.integers(100, 150, residents), chance.integers(200, 300, residents)
    seated, options, holds = _residents(chance, at, leaf, least_w, most_w)
    return PlacementProblem(
        index=index,
        room_w=room,
        pools=Pools(
            leaf=leaf,
            kind=np.zeros(nodes, np.int64),
            settable=np.ones(nodes, bool),
            reserved=np.zeros(nodes, bool),
            free=per_node - held,
            coming=np.zeros(nodes, np.int64),
            size=np.full(nodes, per_node),
            empty_w=np.full(nodes, EMPTY_W) + 5.0 * unlike_idle * np.arange(nodes),
            max_cap_w=np.full(nodes, 300.0),
        ),
        groups=_single_jobs(gangs, rank),
        offers=_offers(caps, worth),
        residents=seated,
        options=options,
        holds=holds,
    )


def _single_jobs(gangs: list[tuple[int, int]], rank: Ints) -> Groups:
    return Groups(
        gpus=np.array([gpus for gpus, _ in gangs], dtype=np.int64),
        nodes=np.array([parts for _, parts in gangs], dtype=np.int64),
        rank=rank,
        backfill=np.zeros(len(gangs), bool),
        member_start=np.arange(len(gangs) + 1),
        member=np.arange(len(gangs)),
        head_start=np.zeros(len(gangs)),
    )


def _offers(caps: Floats, worth: Floats) -> Offers:
    """Caps and what they are worth, groups x levels."""
    groups, levels = caps.shape
    return Offers(
        group=np.repeat(np.arange(groups), levels),
        kind=np.zeros(groups * levels, np.int64),
        cap_w=caps.ravel(),
        worth=worth.ravel(),
        top=np.tile(np.arange(levels) == levels - 1, groups),
    )


def _residents(
    chance: np.random.Generator, at: Ints, leaf: Ints, least_w: Ints, most_w: Ints
) -> tuple[Residents, Options, Holds]:
    """One GPU each, on the nodes `at`; each may stop, or run at one of two caps, now at the higher."""
    count = len(at)
    seated = Residents(
        job=100 + np.arange(count),
        rank=chance.integers(0, 3, count),
        gpus=np.ones(count, np.int64),
    )
    worth = [np.full(count, -0.3), chance.uniform(0.2, 1.0, count), np.full(count, 1.5)]
    options = Options(
        resident=np.repeat(np.arange(count), 3),
        act=np.tile([Act.PREEMPT, Act.RUN, Act.RUN], count),
        cap_w=np.column_stack([np.zeros(count), least_w, most_w]).ravel().astype(float),
        worth=np.column_stack(worth).ravel(),
        least=np.tile([False, True, False], count),
        unchanged=np.tile([False, False, True], count),
    )
    holds = Holds(
        resident=np.arange(count),
        leaf=leaf[at],
        pool=at.astype(np.int64),
        freed=np.ones(count, np.int64),
        steered=np.ones(count, np.int64),
        fixed_w=np.zeros(count),
        empty_w=np.full(count, EMPTY_W),
    )
    return seated, options, holds


def choice_of(
    posed: PlacementProblem, option: Ints, starts: list[tuple[int, float, dict[int, int]]]
) -> Choice:
    """`starts` are (group, cap, GPUs by pool)."""
    parts = [sorted(where.items()) for _, _, where in starts]
    return Choice(
        option=option,
        start_job=np.array([group for group, _, _ in starts], dtype=np.int64),
        start_group=np.array([group for group, _, _ in starts], dtype=np.int64),
        start_cap_w=np.array([cap for _, cap, _ in starts], dtype=np.float64),
        part_start=np.concatenate([[0], np.cumsum([len(p) for p in parts])]).astype(np.int64),
        part_pool=np.array([pool for p in parts for pool, _ in p], dtype=np.int64),
        part_gpus=np.array([gpus for p in parts for _, gpus in p], dtype=np.int64),
        value=0.0,
        bound=0.0,
        unchanged=0.0,
        domain_price=np.zeros(len(posed.index.names)),
        solve_s=0.0,
    )


Way = tuple[float, float, dict[int, int]]  # worth, cap, GPUs by pool


def ways(posed: PlacementProblem, group: int) -> Iterator[Way | None]:
    """Everything that one job could do, starting nowhere included."""
    yield None
    gpus, nodes = int(posed.groups.gpus[group]), int(posed.groups.nodes[group])
    for pools in combinations_with_replacement(range(len(posed.pools)), nodes or gpus):
        if nodes != ANY_SPLIT and len(set(pools)) != nodes:
            continue
        where = {pool: pools.count(pool) * int(posed.groups.part[group]) for pool in pools}
        if all(count <= posed.pools.size[pool] for pool, count in where.items()):
            for offer in np.nonzero(posed.offers.group == group)[0]:
                yield gpus * float(posed.offers.worth[offer]), float(posed.offers.cap_w[offer]), where


def profits_nobody(posed: PlacementProblem, choice: Choice) -> bool:
    """Whether even without a start nobody's watts go to residents that its rank keeps them from."""
    ghost = np.unique(posed.groups.rank)
    for rank in ghost.tolist():
        used = np.zeros(len(posed.index.names))
        for row, resident in enumerate(posed.holds.resident.tolist()):
            first = 3 * resident  # stop, least, most
            watts = [EMPTY_W, posed.options.cap_w[first + 1], posed.options.cap_w[first + 2]]
            now = watts[choice.option[resident] - first]
            protected = posed.residents.rank[resident] >= rank
            used[[0, posed.holds.leaf[row]]] += max(now, watts[1]) if protected else now
        if (used > posed.room_w + 1e-6).any():
            return False
    return True


def best_of_all(posed: PlacementProblem) -> float:
    """Money per hour of the best answer that keeps every rule, by trying them from the top."""
    options = [np.nonzero(posed.options.resident == r)[0].tolist() for r in range(len(posed.residents))]
    stays = [(float(posed.options.worth[list(o)].sum()), o) for o in product(*options)]
    plans = list(product(*(list(ways(posed, group)) for group in range(len(posed.groups)))))
    gains = np.array([sum(way[0] for way in plan if way is not None) for plan in plans])
    totals = np.add.outer([worth for worth, _ in stays], gains).ravel()
    for rank in np.argsort(-totals, kind="stable").tolist():
        plan, option = plans[rank % len(plans)], stays[rank // len(plans)][1]
        starts = [(group, way[1], way[2]) for group, way in enumerate(plan) if way is not None]
        choice = choice_of(posed, np.array(option, dtype=np.int64), starts)
        if not faults(posed, choice) and profits_nobody(posed, choice):
            return float(totals[rank])
    raise AssertionError("not even doing nothing is allowed")


def gap(choice: Choice) -> float:
    return (choice.bound - choice.value) / max(choice.bound - choice.unchanged, 1e-9)


TINY = {
    "singles": {"nodes": 2, "per_node": 2, "gangs": [(1, 1)] * 4},
    "pairs": {"nodes": 2, "per_node": 4, "gangs": [(2, 1), (2, 1), (1, 1), (4, 1)]},
    "sizes that do not divide": {"nodes": 2, "per_node": 4, "gangs": [(3, 1), (2, 1), (2, 1), (1, 1)]},
    "gangs over nodes": {"nodes": 3, "per_node": 2, "gangs": [(2, 2), (4, 2), (1, 1)]},
    "any split": {"nodes": 2, "per_node": 3, "gangs": [(4, ANY_SPLIT), (2, 1), (1, 1)]},
    "residents": {"nodes": 2, "per_node": 2, "gangs": [(1, 1), (2, 1)], "residents": 3},
    "residents and little power": {
        "nodes": 2,
        "per_node": 3,
        "gangs": [(1, 1), (2, 1), (1, 1)],
        "residents": 2,
        "site_share": 0.45,
        "node_share": 0.5,
    },
    "unlike idle watts": {"nodes": 3, "per_node": 2, "gangs": [(1, 1), (2, 1), (1, 1)], "unlike_idle": True},
}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", TINY)
def test_nothing_beats_it_on_tiny_problems(shape: str, seed: int) -> None:
    posed = problem(np.random.default_rng(seed), **TINY[shape])  # type: ignore[arg-type]
    choice = solve_exactly(posed, time_limit_s=5.0)
    assert choice is not None
    assert faults(posed, choice) == []
    best = best_of_all(posed)
    assert choice.value == pytest.approx(value_of(posed, choice), abs=1e-6)
    assert choice.bound >= best - 1e-6
    assert choice.value >= best - PROVEN_GAP * max(0.0, choice.bound - choice.unchanged) - 1e-6


@pytest.mark.parametrize("residents", [0, 24])
@pytest.mark.parametrize("seed", range(4))
def test_a_site_of_64_gpus_and_100_jobs_is_proven(seed: int, residents: int) -> None:
    chance = np.random.default_rng(seed)
    gangs = [(int(gpus), 1) for gpus in chance.choice([1, 1, 1, 2, 2, 4, 8], 100 - residents)]
    posed = problem(chance, nodes=8, per_node=8, gangs=gangs, residents=residents, levels=6, node_share=0.9)
    choice = solve_exactly(posed, time_limit_s=20.0)
    assert choice is not None
    assert faults(posed, choice) == []
    assert gap(choice) <= PROVEN_GAP


def test_no_time_no_answer() -> None:
    posed = problem(np.random.default_rng(0), nodes=2, per_node=2, gangs=[(1, 1)])
    assert solve_exactly(posed, time_limit_s=0.0) is None


def test_a_large_site_is_left_to_others() -> None:
    posed = problem(np.random.default_rng(0), nodes=200, per_node=1, gangs=[(1, 1)])
    assert not small_enough(posed)
    assert solve_exactly(posed, time_limit_s=1.0) is None


def test_the_same_problem_has_the_same_answer() -> None:
    posed = problem(np.random.default_rng(3), nodes=4, per_node=4, gangs=[(1, 1), (2, 1), (4, 1)] * 6)
    one, other = (solve_exactly(posed, time_limit_s=20.0) for _ in range(2))
    assert one is not None
    assert other is not None
    for name in ("option", "start_job", "start_cap_w", "part_pool", "part_gpus"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize(
    ("items", "gpus", "spare", "room_w", "chosen"),
    [
        ([(1, 100), (1, 200), (1, 250)], 2, 0, 300, [0, 1]),
        ([(1, 100), (1, 200), (1, 250)], 2, 0, 350, [0, 2]),
        ([(2, 400), (1, 100)], 2, 0, 450, [0]),
        ([(2, 400), (1, 100)], 2, 0, 300, None),
        ([(2, 400), (1, 100)], 2, 1, 300, [1]),
        ([], 0, 0, 0, []),
    ],
)
def test_a_node_is_filled_to_its_last_watt(
    items: list[tuple[int, int]], gpus: int, spare: int, room_w: int, chosen: list[int] | None
) -> None:
    found = fullest(items, gpus, spare, room_w)
    assert found is None if chosen is None else sorted(found or []) == chosen

"""The solver for large sites on sites small enough to draw: which nodes, which racks, who gives way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.placement_again import after
from benchmarks.placement_case import placement_problem
from power.arrays import Ints
from power.budget import Domain, PowerTree
from scheduler.placing.large import solve_large
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
from scheduler.placing.solve import solve, solve_warm
from tests.placing_check import faults, value_of

NODE_GPUS = 8
EMPTY_W, LOW_W, TOP_W = 50.0, 150.0, 250.0
VALUES = (1.0, 2.0, 4.0)  # per GPU-hour, by rank


def ints(*values: int) -> Ints:
    return np.array(values, dtype=np.int64)


def site(
    free: str,
    *jobs: tuple[int, int, int],
    held_by: str = "",
    racks_per_row: int = 2,
    rooms_w: dict[str, float] | None = None,
    reserved: tuple[int, ...] = (),
    backfill: bool = False,
) -> PlacementProblem:
    """`free` draws free GPUs of nodes, racks parted by "|"; `jobs` are (GPUs, nodes, rank).

    `held_by` gives by node the rank of the one resident that holds all other GPUs ("-": nobody to stop).
    """
    racks = [rack.split() for rack in free.split("|")]
    counts = [int(count) for rack in racks for count in rack]
    names = [f"node-{n}" for n in range(len(counts))]
    rack_of = [number for number, rack in enumerate(racks) for _ in rack]
    tree = PowerTree.of(
        [
            Domain(name="site"),
            *(Domain(name=f"row-{n}", parent="site") for n in range(-(-len(racks) // racks_per_row))),
            *(Domain(name=f"rack-{n}", parent=f"row-{n // racks_per_row}") for n in range(len(racks))),
            *(Domain(name=name, parent=f"rack-{rack_of[n]}") for n, name in enumerate(names)),
        ]
    )
    column = tree.index.column
    room_w = np.full(len(column), np.inf)
    for name, watts in (rooms_w or {}).items():
        room_w[column[name]] = watts
    nodes = len(counts)
    pools = Pools(
        leaf=np.array([column[name] for name in names], dtype=np.int64),
        kind=np.zeros(nodes, dtype=np.int64),
        settable=np.ones(nodes, dtype=bool),
        reserved=np.isin(np.arange(nodes), reserved),
        free=ints(*counts),
        coming=np.zeros(nodes, dtype=np.int64),
        size=np.full(nodes, NODE_GPUS),
        empty_w=np.full(nodes, EMPTY_W),
        max_cap_w=np.full(nodes, TOP_W),
    )
    residents, options, holds = _residents(pools, held_by.split())
    return PlacementProblem(
        index=tree.index,
        room_w=room_w,
        pools=pools,
        groups=_groups(jobs, backfill=backfill),
        offers=_offers([rank for _, _, rank in jobs]),
        residents=residents,
        options=options,
        holds=holds,
    )


def _groups(jobs: tuple[tuple[int, int, int], ...], *, backfill: bool) -> Groups:
    return Groups(
        gpus=ints(*(gpus for gpus, _, _ in jobs)),
        nodes=ints(*(nodes for _, nodes, _ in jobs)),
        rank=ints(*(rank for _, _, rank in jobs)),
        backfill=np.full(len(jobs), backfill),
        member_start=np.arange(len(jobs) + 1),
        member=100 + np.arange(len(jobs)),
        head_start=np.full(len(jobs), 1e-4),
    )


def _offers(ranks: list[int]) -> Offers:
    """At 150 W nine tenths of the value, at 250 W all of it."""
    count = len(ranks)
    value = np.array([VALUES[rank] for rank in ranks])
    return Offers(
        group=np.repeat(np.arange(count), 2),
        kind=np.zeros(2 * count, dtype=np.int64),
        cap_w=np.tile([LOW_W, TOP_W], count),
        worth=np.stack([0.9 * value, value], axis=1).ravel(),
        top=np.tile([False, True], count),
    )


def _residents(pools: Pools, ranks: list[str]) -> tuple[Residents, Options, Holds]:
    at = [(node, int(rank)) for node, rank in enumerate(ranks) if rank != "-"]
    node = ints(*(n for n, _ in at))
    rank = ints(*(r for _, r in at))
    gpus = NODE_GPUS - pools.free[node]
    value = np.array([VALUES[r] for r in rank]) * gpus
    count = len(at)
    return (
        Residents(job=np.arange(count), rank=rank, gpus=gpus),
        Options(
            resident=np.repeat(np.arange(count), 3),
            act=np.tile([int(Act.PREEMPT), int(Act.RUN), int(Act.RUN)], count),
            cap_w=np.tile([0.0, LOW_W, TOP_W], count),
            worth=np.stack([-0.1 * value, 0.9 * value, value], axis=1).ravel(),
            least=np.tile([False, True, False], count),
            unchanged=np.tile([False, False, True], count),
        ),
        Holds(
            resident=np.arange(count),
            leaf=pools.leaf[node],
            pool=node,
            freed=gpus,
            steered=gpus,
            fixed_w=np.zeros(count),
            empty_w=gpus.astype(np.float64) * EMPTY_W,
        ),
    )


def answer(problem: PlacementProblem, time_limit_s: float = 5.0) -> Choice:
    choice, _ = solve_large(problem, time_limit_s=time_limit_s)
    assert faults(problem, choice) == []
    assert value_of(problem, choice) == pytest.approx(choice.value)
    assert choice.value <= choice.bound + 1e-6
    return choice


def where(choice: Choice, start: int = 0) -> dict[int, int]:
    """GPUs by node of one start."""
    rows = slice(int(choice.part_start[start]), int(choice.part_start[start + 1]))
    return dict(zip(choice.part_pool[rows].tolist(), choice.part_gpus[rows].tolist(), strict=True))


@pytest.mark.parametrize(
    ("free", "job", "wanted"),
    [
        ("8 3 1", (1, 1, 0), {2: 1}),  # the fullest node that takes it
        ("8 3 1", (2, 1, 0), {1: 2}),
        ("8 8 4 | 5 3", (4, 1, 0), {2: 4}),
        ("8 1 | 8 8 | 8 8 8", (16, 2, 0), {2: 8, 3: 8}),  # the rack that is just large enough
        ("8 0 | 8 0 | 0 8 | 8 8", (16, 2, 0), {6: 8, 7: 8}),  # one rack before one row
        ("8 0 | 0 0 | 8 0 | 8 0", (16, 2, 0), {4: 8, 6: 8}),  # one row before anywhere
        ("8 3 | 8 8", (12, ANY_SPLIT, 0), {2: 8, 3: 4}),  # whole nodes of one rack
        ("8 8 | 4 4 4", (8, 2, 0), {2: 4, 3: 4}),  # leaves whole nodes whole
    ],
)
def test_parts_lie_close_together_and_leave_whole_nodes(
    free: str, job: tuple[int, int, int], wanted: dict[int, int]
) -> None:
    assert where(answer(site(free, job))) == wanted


def test_watts_are_spread_over_domains() -> None:
    rooms_w = {"rack-0": 2400.0, "rack-1": 2600.0}
    choice = answer(site("8 8 | 8 8", (8, 1, 0), rooms_w=rooms_w))
    assert set(where(choice)) <= {2, 3}


@pytest.mark.parametrize(
    ("job_rank", "held_by", "stops"),
    [(2, "0 1", [0]), (2, "1 0", [1]), (1, "1 1", []), (0, "0 0", []), (1, "2 0", [1])],
)
def test_only_a_lower_rank_gives_way_and_the_cheapest(job_rank: int, held_by: str, stops: list[int]) -> None:
    problem = site("0 0", (8, 1, job_rank), held_by=held_by)
    choice = answer(problem)
    assert np.nonzero(problem.options.act[choice.option] == Act.PREEMPT)[0].tolist() == stops
    assert len(choice.start_job) == len(stops)


def test_a_gang_spans_racks_that_have_limits_of_their_own() -> None:
    rooms_w = {"rack-0": 16 * 190.0, "rack-1": 16 * 190.0}
    assert len(where(answer(site("8 8 | 8 8", (32, 4, 0), rooms_w=rooms_w)))) == 4


def test_nobody_stops_where_a_node_is_free() -> None:
    problem = site("0 8", (8, 1, 2), held_by="0 -")
    choice = answer(problem)
    assert where(choice) == {1: 8}
    assert (problem.options.act[choice.option] == Act.RUN).all()


def test_caps_fall_to_let_a_job_in() -> None:
    """Two nodes under 16 x 175 W: both run, one of them or both lower."""
    problem = site("0 8", (8, 1, 0), held_by="0 -", rooms_w={"site": 16 * 175.0 - 8 * EMPTY_W})
    choice = answer(problem)
    assert len(choice.start_job) == 1
    assert min(*problem.options.cap_w[choice.option], *choice.start_cap_w) == LOW_W


def test_a_reserved_node_is_only_for_backfill() -> None:
    assert len(answer(site("8", (8, 1, 2), reserved=(0,))).start_job) == 0
    assert len(answer(site("8", (8, 1, 2), reserved=(0,), backfill=True)).start_job) == 1


def test_the_oldest_members_of_a_group_start() -> None:
    problem = site("8 8", (8, 1, 0))
    queue = replace(problem.groups, member=ints(7, 3, 9), member_start=ints(0, 3))
    assert answer(replace(problem, groups=queue)).start_job.tolist() == [7, 3]


@pytest.mark.parametrize("time_limit_s", [0.0, 0.01, 5.0])
def test_there_is_an_answer_whatever_the_time(time_limit_s: float) -> None:
    problem = placement_problem(gpus=2048, running=300, pending=300, seed=3)
    choice = answer(problem, time_limit_s)
    assert choice.value >= choice.unchanged


def test_a_site_of_2048_gpus_is_nearly_full_value() -> None:
    choice = answer(placement_problem(gpus=2048, running=300, pending=300, seed=3))
    assert choice.bound - choice.value < 0.05 * (choice.bound - choice.unchanged)


def test_the_same_problem_has_the_same_answer() -> None:
    one, other = (answer(placement_problem(gpus=1024, running=150, pending=200, seed=5)) for _ in range(2))
    assert one.value == other.value
    assert one.start_job.tolist() == other.start_job.tolist()
    assert one.part_pool.tolist() == other.part_pool.tolist()


def test_when_one_job_ends_the_others_stay() -> None:
    problem = placement_problem(gpus=2048, running=300, pending=300, seed=1)
    choice, warm = solve_large(problem, time_limit_s=5.0)
    later = after(problem, choice, ended=ints(int(np.argmax(problem.residents.gpus == 8))))
    again, _ = solve_large(later, time_limit_s=5.0, warm=warm)
    assert faults(later, again) == []
    assert again.value >= again.unchanged
    assert (~later.options.unchanged[again.option]).sum() < 0.1 * len(later.residents)


@pytest.mark.parametrize("change", ["no jobs", "nobody runs", "no limits", "no prices remembered"])
def test_unusual_sites(change: str) -> None:
    problem = placement_problem(gpus=256, running=40, pending=40, seed=2)
    if change == "no jobs":
        problem = replace(problem, groups=_groups((), backfill=False), offers=_offers([]))
    elif change == "nobody runs":
        empty = site("8", held_by="-")
        problem = replace(problem, residents=empty.residents, options=empty.options, holds=empty.holds)
    elif change == "no limits":
        problem = replace(problem, room_w=np.full(len(problem.room_w), np.inf))
    answer(problem)


def test_small_sites_are_proven_and_no_time_is_named() -> None:
    problem = site("8 8", (8, 1, 0), (4, 1, 1))
    assert solve(problem, time_limit_s=5.0).fallback is None
    assert solve(problem, time_limit_s=0.0).fallback == "greedy"
    assert solve_warm(problem, time_limit_s=5.0)[0].value == pytest.approx(12 + 4)

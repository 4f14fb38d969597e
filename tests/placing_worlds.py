"""Little placement problems of every kind, and the best that could be done with them, by CP-SAT."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from ortools.sat.python import cp_model

from power.arrays import Ints
from power.budget import Domain, PowerTree
from scheduler.placing.problem import (
    ANY_SPLIT,
    Act,
    Groups,
    Holds,
    Offers,
    Options,
    PlacementProblem,
    Pools,
    Residents,
)

MONEY = 10_000  # integer steps per unit of money
EMPTY_W, TOP_W = (40.0, 60.0), (200.0, 300.0)  # by kind


def little_world(seed: int, *, nodes: int = 4, node_gpus: int = 4, jobs: int = 6) -> PlacementProblem:
    """Two racks of nodes of two kinds, some full, some reserved or not settable; residents of three ranks."""
    chance = np.random.default_rng(seed)
    racks = [f"rack-{n}" for n in range(2)]
    names = [f"node-{n}" for n in range(nodes)]
    tree = PowerTree.of(
        [
            Domain(name="site"),
            *(Domain(name=rack, parent="site") for rack in racks),
            *(Domain(name=name, parent=racks[n * 2 // nodes]) for n, name in enumerate(names)),
        ]
    )
    index = tree.index
    leaf = np.array([index.column[name] for name in names], dtype=np.int64)
    kind = chance.integers(0, 2, nodes) * int(chance.random() < 0.5)
    settable = chance.random(nodes) < 0.85
    held = chance.integers(0, node_gpus + 1, nodes)
    residents, options, holds = _residents(chance, held, leaf, kind, settable)
    pools = Pools(
        leaf=leaf,
        kind=kind,
        settable=settable,
        reserved=chance.random(nodes) < 0.15,
        free=node_gpus - held - (coming := np.minimum(node_gpus - held, chance.integers(0, 2, nodes))),
        coming=coming,
        size=np.full(nodes, node_gpus),
        empty_w=np.array(EMPTY_W)[kind],
        max_cap_w=np.array(TOP_W)[kind],
    )
    groups, offers = _groups(chance, jobs, node_gpus)
    return PlacementProblem(
        index=index,
        room_w=_rooms(chance, index.ancestors, len(index.names), options, holds, nodes * node_gpus),
        pools=pools,
        groups=groups,
        offers=offers,
        residents=residents,
        options=options,
        holds=holds,
    )


def _residents(
    chance: np.random.Generator, held: Ints, leaf: Ints, kind: Ints, settable: Any
) -> tuple[Residents, Options, Holds]:
    rows: list[tuple[int, int, int]] = []  # resident, node, GPUs
    ranks: list[int] = []
    for number, gpus in enumerate(held.tolist()):
        while gpus:
            take = int(chance.integers(1, gpus + 1))
            spans = bool(rows) and chance.random() < 0.2 and rows[-1][1] != number
            if not spans:
                ranks.append(int(chance.integers(0, 3)))
            rows.append((len(ranks) - 1, number, take))
            gpus -= take
    count = len(ranks)
    owner, node, held_gpus = (np.array([row[i] for row in rows], dtype=np.int64) for i in range(3))
    total = np.bincount(owner, held_gpus, count).astype(np.int64)
    options: list[tuple[int, Act, float, float, bool, bool]] = []
    for resident in range(count):
        value = (0.5, 1.5, 4.0)[ranks[resident]] * total[resident]
        caps = sorted({float(c) for c in chance.integers(90, 200, 3)})
        if ranks[resident] < 2 and chance.random() < 0.8:
            loss = value * chance.choice([0.02, 0.5, 3.0])
            options.append((resident, Act.PREEMPT, 0.0, -loss, False, False))
        if chance.random() < 0.3:
            options.append((resident, Act.PAUSE, 80.0, -0.01 * value, False, False))
        for step, cap_w in enumerate(caps):
            worth = value * (1.0 - (1.0 - cap_w / 200.0) ** 2 * 0.8)
            options.append((resident, Act.RUN, cap_w, round(worth, 4), step == 0, step == 0))
    columns = list(zip(*options, strict=True)) if options else [()] * 6
    steered = np.where(settable[node], held_gpus, 0) if count else held_gpus
    pool = np.where(chance.random(len(rows)) < 0.9, node, -1)
    return (
        Residents(job=np.arange(count), rank=np.array(ranks, dtype=np.int64), gpus=total),
        Options(
            resident=np.array(columns[0], dtype=np.int64),
            act=np.array(columns[1], dtype=np.int64),
            cap_w=np.array(columns[2], dtype=np.float64),
            worth=np.array(columns[3], dtype=np.float64),
            least=np.array(columns[4], dtype=bool),
            unchanged=np.array(columns[5], dtype=bool),
        ),
        Holds(
            resident=owner,
            leaf=leaf[node],
            pool=pool,
            freed=np.where(pool >= 0, held_gpus, 0),
            steered=steered,
            fixed_w=np.where(steered > 0, 0.0, held_gpus * np.array(TOP_W)[kind[node]]),
            empty_w=held_gpus * np.array(EMPTY_W)[kind[node]],
        ),
    )


def _groups(chance: np.random.Generator, jobs: int, node_gpus: int) -> tuple[Groups, Offers]:
    shapes = [(1, 1), (1, 1), (2, 1), (node_gpus, 1), (2, 2), (2 * node_gpus, 2), (node_gpus + 1, ANY_SPLIT)]
    counts: list[int] = []
    gpus: list[int] = []
    nodes: list[int] = []
    rank: list[int] = []
    while sum(counts) < jobs:
        shape = shapes[int(chance.integers(len(shapes)))]
        most = 1 if shape[1] != 1 else int(chance.integers(1, 4))
        counts.append(min(jobs - sum(counts), most))
        gpus.append(shape[0])
        nodes.append(shape[1])
        rank.append(int(chance.integers(0, 3)))
    offers: list[tuple[int, int, float, float, bool]] = []
    for group in range(len(counts)):
        for kind in range(2):
            if chance.random() < 0.2:
                continue
            caps = sorted({float(c) for c in chance.integers(90, int(TOP_W[kind]), 3)})
            value = (0.5, 1.5, 4.0)[rank[group]] * chance.uniform(0.8, 1.2)
            for cap_w in caps:
                worth = value * (1.0 - (1.0 - cap_w / TOP_W[kind]) ** 2 * 0.8)
                offers.append((group, kind, cap_w, round(float(worth), 4), cap_w == caps[-1]))
    columns = list(zip(*offers, strict=True)) if offers else [()] * 5
    return (
        Groups(
            gpus=np.array(gpus, dtype=np.int64),
            nodes=np.array(nodes, dtype=np.int64),
            rank=np.array(rank, dtype=np.int64),
            backfill=chance.random(len(counts)) < 0.5,
            member_start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            member=100 + np.arange(sum(counts)),
            head_start=np.full(len(counts), 1e-4),
        ),
        Offers(
            group=np.array(columns[0], dtype=np.int64),
            kind=np.array(columns[1], dtype=np.int64),
            cap_w=np.array(columns[2], dtype=np.float64),
            worth=np.array(columns[3], dtype=np.float64),
            top=np.array(columns[4], dtype=bool),
        ),
    )


def _rooms(
    chance: np.random.Generator, ancestors: Ints, domains: int, options: Options, holds: Holds, gpus: int
) -> Any:
    """Tight rooms, though never below what residents need at their least."""
    least = np.zeros(int(options.resident.max(initial=-1)) + 1)
    least[options.resident[options.least]] = options.cap_w[options.least]
    need = np.zeros(domains)
    for row, leaf in enumerate(holds.leaf):
        watts = holds.fixed_w[row] + holds.steered[row] * least[holds.resident[row]]
        need[ancestors[leaf][ancestors[leaf] >= 0]] += watts
    room = np.full(domains, np.inf)
    for domain in range(domains):
        if chance.random() < 0.6:
            room[domain] = need[domain] + chance.uniform(0.0, 0.8) * 150.0 * gpus / max(1, domain)
    return np.round(room)


def optimum(problem: PlacementProblem) -> float:
    """Money per hour of the best answer, proven; every rule written as plainly as can be."""
    return _Reference(problem).solve()


class _Reference:
    def __init__(self, problem: PlacementProblem) -> None:
        self.problem, self.model = problem, cp_model.CpModel()
        self.takes = [self.model.new_bool_var("") for _ in range(len(problem.options))]
        self.parts: list[tuple[int, int, float, Any]] = []  # rank, pool, cap, GPUs
        self.money: list[Any] = [
            round(worth * MONEY) * take for worth, take in zip(problem.options.worth, self.takes, strict=True)
        ]
        for resident in range(len(problem.residents)):
            self.model.add_exactly_one(self._options_of(resident).values())
        for group in range(len(problem.groups)):
            for _ in range(int(problem.groups.count[group])):
                self._add_member(group)

    def _options_of(self, resident: int) -> dict[int, Any]:
        rows = np.nonzero(self.problem.options.resident == resident)[0]
        return {int(row): self.takes[row] for row in rows}

    def _add_member(self, group: int) -> None:
        """At most one way: settled kind and cap, then GPUs by pool."""
        problem, groups, pools = self.problem, self.problem.groups, self.problem.pools
        gpus, nodes = int(groups.gpus[group]), int(groups.nodes[group])
        ways = []
        for offer in np.nonzero(problem.offers.group == group)[0]:
            for fixed in (False, True):
                if fixed and not problem.offers.top[offer]:
                    continue
                way = self.model.new_bool_var("")
                ways.append(way)
                here = [
                    p
                    for p in range(len(pools))
                    if pools.kind[p] == problem.offers.kind[offer]
                    and (fixed or pools.settable[p])
                    and (groups.backfill[group] or not pools.reserved[p])
                ]
                held = {p: self.model.new_int_var(0, gpus, "") for p in here}
                self.model.add(sum(held.values()) == gpus * way)
                if nodes != ANY_SPLIT:
                    for count in held.values():
                        used = self.model.new_bool_var("")
                        self.model.add(count == gpus // nodes * used)
                cap_w = float(problem.offers.cap_w[offer])
                self.parts += [(int(groups.rank[group]), p, cap_w, count) for p, count in held.items()]
                self.money.append(round(float(problem.offers.worth[offer]) * gpus * MONEY) * way)
        self.model.add(sum(ways) <= 1)

    def _stops(self, resident: int) -> Any:
        acts = self.problem.options.act
        return sum(take for row, take in self._options_of(resident).items() if acts[row] == Act.PREEMPT)

    def _limit_gpus(self, rank: int) -> None:
        problem, pools = self.problem, self.problem.pools
        for pool in range(len(pools)):
            freed = [
                int(problem.holds.freed[row]) * self._stops(int(problem.holds.resident[row]))
                for row in np.nonzero(problem.holds.pool == pool)[0]
                if problem.residents.rank[problem.holds.resident[row]] < rank
            ]
            used = [count for own, p, _, count in self.parts if p == pool and own <= rank]
            self.model.add(sum(used) <= int(pools.free[pool] + pools.coming[pool]) + sum(freed))

    def _limit_watts(self, rank: int) -> None:
        problem = self.problem
        for domain in np.nonzero(np.isfinite(problem.room_w))[0]:
            used = []
            for own, pool, cap_w, count in self.parts:
                if own <= rank and domain in problem.index.ancestors[problem.pools.leaf[pool]]:
                    load = problem.pools.loaded_w(np.array(pool), np.array(cap_w))
                    used.append(round(float(load) * 10) * count)
            for resident in range(len(problem.residents)):
                watts = self._watts_by_option(resident, int(domain))
                rows = [r for r in watts if problem.options.least[r]]
                floor = watts[rows[0]] if rows and problem.residents.rank[resident] >= rank else 0.0
                used += [round(max(w, floor) * 10) * self.takes[row] for row, w in watts.items()]
            self.model.add(sum(used) <= int(problem.room_w[domain] * 10))

    def _watts_by_option(self, resident: int, domain: int) -> dict[int, float]:
        problem, watts = self.problem, defaultdict[int, float](float)
        for hold in np.nonzero(problem.holds.resident == resident)[0]:
            if domain not in problem.index.ancestors[problem.holds.leaf[hold]]:
                continue
            for row in self._options_of(resident):
                if problem.options.act[row] == Act.PREEMPT:
                    watts[row] += float(problem.holds.empty_w[hold])
                else:
                    steered = float(problem.holds.steered[hold]) * float(problem.options.cap_w[row])
                    watts[row] += float(problem.holds.fixed_w[hold]) + steered
        return watts

    def solve(self) -> float:
        for rank in sorted(set(self.problem.groups.rank.tolist())):
            self._limit_gpus(rank)
            self._limit_watts(rank)
        self.model.maximize(sum(self.money))
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = 20.0
        solver.parameters.num_workers = 1
        assert solver.solve(self.model) == cp_model.OPTIMAL
        return float(solver.objective_value) / MONEY

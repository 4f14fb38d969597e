"""The placement with every node by itself, for CP-SAT: where the best answers by counts fit on no nodes.

Columns: starts of each offer; parts of each offer in each class of pools that differ in nothing that watts or
worth depend on; parts of each size and rank on each pool. So like jobs on like nodes are counted once, and
only what takes GPUs is told apart by node. The parts of a gang on several nodes have a column for each pool.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from math import ceil, floor

import numpy as np

from power.arrays import Ints
from scheduler.placing.exact_integer import Program, Relaxation
from scheduler.placing.exact_pack import Part, Start
from scheduler.placing.exact_watts import NO_RANK, WATT_SLACK, ResidentWatts
from scheduler.placing.problem import ANY_SPLIT, Act, PlacementProblem

WATT_STEPS = 1_000  # integer steps per watt


class NodeModel:
    """Every rule of a placement as one integer program; columns of options come first."""

    def __init__(self, problem: PlacementProblem) -> None:
        self.problem, self.watts, self.program = problem, ResidentWatts(problem), Program()
        self.members, self.alike, self.over = _classes(problem)
        self.spare_w = {
            rank: [max(0.0, float(spare_w[path].min())) + WATT_SLACK for path in self.over]
            for rank, spare_w in self.watts.spare_w.items()
        }
        self.part, self.rank = problem.groups.part.tolist(), problem.groups.rank.tolist()
        self.starts: dict[int, int] = {}  # offer: column
        self.spread: dict[tuple[int, int], int] = {}  # (offer, class): column
        self.gangs: dict[tuple[int, int], int] = {}  # (offer, pool): column
        self.parts: dict[tuple[int, int, int], int] = {}  # (size, rank, pool): column
        self.on_pool: list[list[tuple[int, int, int]]] = [
            [] for _ in problem.pools.leaf
        ]  # column, size, rank
        self.loads: list[tuple[int, int, int, int]] = []  # column, class, rank, watts in steps
        self._add_options()
        self._add_offers()
        self._add_parts()
        for pool in range(len(problem.pools)):
            self._limit_gpus(pool)
        self._limit_watts()
        self.relaxed = Relaxation(self.program)

    def _add_options(self) -> None:
        options = self.problem.options
        for worth in options.worth.tolist():
            self.program.add_column(1, worth)
        first = np.searchsorted(options.resident, np.arange(len(self.problem.residents) + 1)).tolist()
        for low, high in pairwise(first):
            self.program.add_row([(option, 1) for option in range(low, high)], 1, equal=True)

    def _add_offers(self) -> None:
        groups, offers = self.problem.groups, self.problem.offers
        count, nodes, gpus = groups.count.tolist(), groups.nodes.tolist(), groups.gpus.tolist()
        mine: dict[int, list[int]] = defaultdict(list)
        for offer, (group, worth) in enumerate(
            zip(offers.group.tolist(), offers.worth.tolist(), strict=True)
        ):
            places = list(self._places(offer, group))
            if worth <= 0 or not places:
                continue
            start = self.program.add_column(count[group], worth * gpus[group])
            self.starts[offer] = start
            mine[group].append(start)
            each, rank = nodes[group] or gpus[group], self.rank[group]
            columns: list[int] = []
            for at, load in places:
                if nodes[group] > 1:
                    columns += self._add_gang(offer, group, at, load)
                    continue
                column = self.program.add_column(count[group] * each)
                self.spread[offer, at] = column
                self.loads.append((column, at, rank, load))
                columns.append(column)
            self.program.add_row([(start, -each), *((c, 1) for c in columns)], 0, equal=True)
        for group, columns in mine.items():
            self.program.add_row([(column, 1) for column in columns], count[group])

    def _places(self, offer: int, group: int) -> Iterator[tuple[int, int]]:
        """(class, watts of one part in steps) wherever one part finds its watts."""
        offers, size, backfill = self.problem.offers, self.part[group], self.problem.groups.backfill[group]
        kind, top, cap_w = int(offers.kind[offer]), offers.top[offer], float(offers.cap_w[offer])
        for at, (own_kind, settable, reserved, empty_w, max_cap_w) in enumerate(self.alike):
            if kind != own_kind or not (settable or top) or (reserved and not backfill):
                continue
            load_w = size * max(0.0, (cap_w if settable else max_cap_w) - empty_w)
            if load_w <= self.spare_w[self.rank[group]][at]:
                yield at, ceil(load_w * WATT_STEPS - 1e-6)

    def _add_gang(self, offer: int, group: int, at: int, load: int) -> Iterator[int]:
        """One part of each start on each pool at most."""
        size, rank, count = self.part[group], self.rank[group], int(self.problem.groups.count[group])
        for pool in self.members[at]:
            if most := min(count, int(self.problem.pools.size[pool]) // size):
                column = self.program.add_column(most)
                self.program.add_row([(column, 1), (self.starts[offer], -1)], 0)
                self.gangs[offer, pool] = column
                self.on_pool[pool].append((column, size, rank))
                self.loads.append((column, at, rank, load))
                yield column

    def _add_parts(self) -> None:
        """What goes to a class goes to its pools."""
        alike: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for (offer, at), column in self.spread.items():
            group = int(self.problem.offers.group[offer])
            alike[self.part[group], self.rank[group], at].append(column)
        for (size, rank, at), columns in alike.items():
            terms = [(column, 1) for column in columns]
            for pool in self.members[at]:
                if most := int(self.problem.pools.size[pool]) // size:
                    self.parts[size, rank, pool] = self.program.add_column(most)
                    self.on_pool[pool].append((self.parts[size, rank, pool], size, rank))
                    terms.append((self.parts[size, rank, pool], -1))
            self.program.add_row(terms, 0)

    def _limit_gpus(self, pool: int) -> None:
        """GPUs, and for each size how many such parts there can be: fractions of stops free no whole node."""
        ready = int(self.problem.pools.free[pool] + self.problem.pools.coming[pool])
        for level in self.watts.ranks:
            here = [(column, size) for column, size, rank in self.on_pool[pool] if rank <= level]
            if not here:
                continue
            freed = self._freed(pool, level)
            self.program.add_row([*here, *((stop, -gpus) for stop, gpus in freed)], ready)
            for size in sorted({size for _, size in here if size > 1}):
                parts = [(column, own // size) for column, own in here if own >= size]
                self._limit_parts(parts, size, ready, freed)

    def _limit_parts(
        self, parts: list[tuple[int, int]], size: int, ready: int, freed: list[tuple[int, int]]
    ) -> None:
        now, total = ready // size, ready + sum(gpus for _, gpus in freed)
        missing = size - ready % size
        spare = total - ready - missing
        if total // size == now:
            self.program.add_row(parts, now)
        elif total // size > now + 1:
            stops = [(stop, -gpus) for stop, gpus in freed]
            self.program.add_row([*((c, missing * n) for c, n in parts), *stops], missing * now)
        elif any(gpus > spare for _, gpus in freed):  # one more part, and not without any of these
            for stop in (stop for stop, gpus in freed if gpus > spare):
                self.program.add_row([*parts, (stop, -1)], now)
        else:
            stops = [(stop, -min(missing, gpus)) for stop, gpus in freed]
            self.program.add_row([*((c, missing * n) for c, n in parts), *stops], missing * now)

    def _freed(self, pool: int, rank: int) -> list[tuple[int, int]]:
        """(option that stops a resident, GPUs of the pool that this frees for the rank)."""
        problem, stops = self.problem, self._stops
        rows = np.nonzero((problem.holds.pool == pool) & (problem.holds.freed > 0))[0]
        return [
            (stops[resident], int(gpus))
            for resident, gpus in zip(
                problem.holds.resident[rows].tolist(), problem.holds.freed[rows].tolist(), strict=True
            )
            if resident in stops and problem.residents.rank[resident] < rank
        ]

    @cached_property
    def _stops(self) -> dict[int, int]:
        options = self.problem.options
        rows = np.nonzero(options.act == Act.PREEMPT)[0]
        return dict(zip(options.resident[rows].tolist(), rows.tolist(), strict=True))

    def _limit_watts(self) -> None:
        over = [set(domains) for domains in self.over]
        for rank in self.watts.ranks or (NO_RANK,):
            taken = np.ceil(self.watts.counted(rank) * WATT_STEPS - 1e-6).astype(np.int64)
            for domain in self.problem.tight.tolist():
                if rank != NO_RANK and self.watts.spare_w[rank][domain] < -WATT_SLACK:
                    continue
                options = np.nonzero(taken[domain])[0]
                terms = list(zip(options.tolist(), taken[domain, options].tolist(), strict=True))
                terms += [(c, w) for c, at, own, w in self.loads if w and own <= rank and domain in over[at]]
                room = floor(float(self.problem.room_w[domain]) * WATT_STEPS + 1e-6)
                self.program.add_row(terms, room)

    def amounts(self, option: Ints, starts: tuple[Start, ...]) -> Ints:
        """An answer as amounts of the columns."""
        amounts = np.zeros(len(self.program.most), dtype=np.int64)
        amounts[option] = 1
        class_of = {pool: at for at, members in enumerate(self.members) for pool in members}
        for start in starts:
            if start.offer not in self.starts:
                continue
            amounts[self.starts[start.offer]] += 1
            for part in start.parts:
                gang = self.gangs.get((start.offer, part.pool))
                spread = self.spread.get((start.offer, class_of[part.pool]))
                on_pool = self.parts.get((part.gpus, part.rank, part.pool))
                columns = (spread, on_pool) if gang is None else (gang,)
                amounts[[column for column in columns if column is not None]] += 1
        return amounts

    def answer(self, amounts: Ints) -> tuple[Ints, tuple[Start, ...]]:
        """(options, starts on pools) of amounts of the columns."""
        options = np.nonzero(amounts[: len(self.problem.options)])[0]
        left = {key: int(amounts[column]) for key, column in self.parts.items()}
        return options, tuple(s for offer in self.starts for s in self._starts(offer, amounts, left))

    def _starts(self, offer: int, amounts: Ints, left: dict[tuple[int, int, int], int]) -> Iterator[Start]:
        """Members one after the other; the parts of a gang each from where most of them are."""
        group = int(self.problem.offers.group[offer])
        size, rank, nodes = self.part[group], self.rank[group], int(self.problem.groups.nodes[group])
        pools: list[int] = []
        for at in range(len(self.members)):
            for _ in range(int(amounts[self.spread[offer, at]]) if (offer, at) in self.spread else 0):
                pool = next(p for p in self.members[at] if left.get((size, rank, p)))
                left[size, rank, pool] -= 1
                pools.append(pool)
        gang = {pool: int(amounts[column]) for (o, pool), column in self.gangs.items() if o == offer}
        for _ in range(int(amounts[self.starts[offer]])):
            each = nodes if nodes != ANY_SPLIT else int(self.problem.groups.gpus[group])
            chosen, pools = pools[:each], pools[each:]
            if nodes > 1:
                chosen = sorted(gang, key=lambda p: (-gang[p], p))[:each]
                for pool in chosen:
                    gang[pool] -= 1
            yield Start(group, offer, tuple(Part(size, 0, rank, [], pool=pool) for pool in chosen))


_Alike = tuple[int, bool, bool, float, float]  # kind, settable, reserved, watts of an empty GPU, highest cap


def _classes(problem: PlacementProblem) -> tuple[list[list[int]], list[_Alike], list[list[int]]]:
    """Per class its pools, what is alike of them, and the domains over the first; all are under the same
    tight ones."""
    pools, tight = problem.pools, set(problem.tight.tolist())
    paths = problem.index.ancestors[pools.leaf].tolist()
    columns = (pools.kind, pools.settable, pools.reserved, pools.empty_w, pools.max_cap_w)
    alike: list[_Alike] = list(zip(*(column.tolist() for column in columns), strict=True))
    members: dict[tuple[_Alike, tuple[int, ...]], list[int]] = defaultdict(list)
    for pool, path in enumerate(paths):
        members[alike[pool], tuple(d for d in path if d in tight)].append(pool)
    over = [[d for d in paths[mine[0]] if d >= 0] for mine in members.values()]
    return list(members.values()), [own for own, _ in members], over

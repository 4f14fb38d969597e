"""Puts an answer by counts on nodes: largest parts first, each onto the fullest node that takes it.

Where watts of nodes run out that way, nodes are filled up one after the other so that no watt is lost, or
each part goes onto the node with most watts per GPU, with exchanges between nodes. That no way was found
is no proof that there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, floor

import numpy as np

from power.arrays import Ints
from scheduler.placing.exact_fill import fullest
from scheduler.placing.exact_watts import WATT_SLACK, ResidentWatts
from scheduler.placing.exact_zones import NOWHERE, Zones
from scheduler.placing.problem import ANY_SPLIT, Act, PlacementProblem

LARGE_PART = 4  # GPUs; from here on parts are placed by themselves before nodes are filled up


@dataclass(slots=True)
class Part:
    """GPUs of one start that go to one pool. `others` are the parts of a gang that must go elsewhere."""

    gpus: int
    zone: int
    rank: int
    load_w: list[float]  # by pool
    others: list[Part] = field(default_factory=list)
    pool: int = NOWHERE


@dataclass(frozen=True, slots=True)
class Start:
    """One member of a group, at one cap; its parts know their pools once they are packed."""

    group: int
    offer: int
    parts: tuple[Part, ...]


class Site:
    """What all answers share: the pools of each zone and the tight domains over each pool."""

    def __init__(self, problem: PlacementProblem, zones: Zones) -> None:
        self.problem, self.watts = problem, ResidentWatts(problem)
        tight = set(problem.tight.tolist())
        ancestors = problem.index.ancestors[problem.pools.leaf].tolist()
        self.above = [[d for d in path if d >= 0] for path in ancestors]
        self.paths = [[d for d in path if d in tight] for path in self.above]
        self.inside = [np.nonzero(zones.of_pool == zone)[0].tolist() for zone in range(zones.count)]
        self.ready = problem.pools.free + problem.pools.coming
        self.loads: dict[int, list[float]] = {}

    def start(self, offer: int, spread: Sequence[int]) -> Start:
        """A start with so many parts in each zone."""
        groups, offers, pools = self.problem.groups, self.problem.offers, self.problem.pools
        group = int(offers.group[offer])
        if offer not in self.loads:
            every = np.arange(len(pools))
            self.loads[offer] = pools.loaded_w(every, np.full(len(pools), offers.cap_w[offer])).tolist()
        gpus, rank = int(groups.part[group]), int(groups.rank[group])
        loads = self.loads[offer] if gpus == 1 else [gpus * load for load in self.loads[offer]]
        parts = [Part(gpus, zone, rank, loads) for zone, count in enumerate(spread) for _ in range(count)]
        if len(parts) > 1:
            apart = int(groups.nodes[group]) != ANY_SPLIT
            for part in parts:
                part.others = [other for other in parts if other is not part] if apart else []
        return Start(group, offer, tuple(parts))


_Key = Callable[[Part, int], tuple[float, ...]]


class Packing:
    """What is left of GPUs and watts while starts go in. `levels` are ranks with unlike room, highest first:
    a start counts against its own and every higher one."""

    def __init__(self, site: Site, option: Ints) -> None:
        self.site, problem = site, site.problem
        self.free = problem.pools.free.tolist()
        self.levels: list[int] = []
        self.gpus: list[list[int]] = []
        self.room_w: list[list[float]] = []
        for rank in site.watts.ranks:
            taken = site.watts.counted(rank)[:, option].sum(axis=1)
            room = (problem.room_w - taken).tolist()
            gpus = (site.ready + self._freed(option, rank)).tolist()
            if not self.levels or room != self.room_w[-1] or gpus != self.gpus[-1]:
                self.levels.append(rank)
                self.gpus.append(gpus)
                self.room_w.append(room)
        self.placed: list[Part] = []

    @property
    def sound(self) -> bool:
        """Whether nobody is promised watts that are not for it; a rank that finds none at all is left out."""
        tight, spare_w = self.site.problem.tight.tolist(), self.site.watts.spare_w
        return all(
            room[domain] >= -WATT_SLACK or spare_w[rank][domain] < -WATT_SLACK
            for rank, room in zip(self.levels, self.room_w, strict=True)
            for domain in tight
        )

    def _freed(self, option: Ints, rank: int) -> Ints:
        holds, problem = self.site.problem.holds, self.site.problem
        stopped = problem.options.act[option] == Act.PREEMPT
        stopped &= problem.residents.rank < rank
        rows = (holds.pool >= 0) & stopped[holds.resident]
        freed: Ints = np.bincount(holds.pool[rows], holds.freed[rows], len(problem.pools)).astype(np.int64)
        return freed

    def put_all(self, starts: Sequence[Start], key: _Key) -> bool:
        """Whether every part found its place."""
        parts = [part for start in starts for part in start.parts]
        parts.sort(key=lambda part: (-part.gpus, not part.others, -max(part.load_w)))
        return all(self._put_best(part, key) or self._exchange(part) for part in parts)

    def put_most(self, starts: Sequence[Start]) -> tuple[Start, ...]:
        """The starts that found their place, largest parts first."""
        placed: list[Start] = []
        for start in sorted(starts, key=lambda start: -start.parts[0].gpus):
            if all(self._put_best(part, self.even) for part in start.parts):
                placed.append(start)
                continue
            for part in start.parts:
                self._move(part, NOWHERE)
            self.placed = [part for part in self.placed if part.pool != NOWHERE]
        return tuple(placed)

    def put_filled(self, starts: Sequence[Start], large: int) -> bool:
        """Gangs and parts of `large` GPUs and more by themselves; then one node after the other is filled up
        with smaller ones so that no watt is lost on it."""
        parts = [part for start in starts for part in start.parts]
        first = [part for part in parts if part.others or part.gpus >= large]
        first.sort(key=lambda part: (-part.gpus, not part.others, -max(part.load_w)))
        if not all(self._put_best(part, self.even) or self._exchange(part) for part in first):
            return False
        rest = [part for part in parts if part.pool == NOWHERE]
        for zone, pools in enumerate(self.site.inside):
            small = [part for part in rest if part.zone == zone]
            if small and not self._fill(pools, small):
                return False
        return True

    def _fill(self, pools: list[int], parts: list[Part]) -> bool:
        levels = self._open_levels(min(part.rank for part in parts))
        left = {p: min(self.gpus[level][p] for level in levels) for p in pools}
        most_w = sum(max(part.load_w) for part in parts)
        room = {
            p: min([most_w, *(self.room_w[at][d] for at in levels for d in self.site.paths[p])])
            for p in pools
        }
        spare = sum(left.values()) - sum(part.gpus for part in parts)
        for pool in sorted(pools, key=lambda p: (room[p] / max(1, left[p]), p)):
            if left[pool] == 0 or not parts:
                continue
            items = [(part.gpus, ceil(part.load_w[pool] - WATT_SLACK)) for part in parts]
            chosen = fullest(items, left[pool], spare, max(0, floor(room[pool] + WATT_SLACK)))
            if chosen is None:
                return False
            spare -= left[pool] - sum(parts[i].gpus for i in chosen)
            for part in (parts[i] for i in chosen):
                if not self._fits(part, pool):
                    return False
                self._move(part, pool)
            parts = [part for i, part in enumerate(parts) if i not in set(chosen)]
        return not parts

    def _put_best(self, part: Part, key: _Key) -> bool:
        taken = [other.pool for other in part.others]
        pools = [p for p in self.site.inside[part.zone] if p not in taken and self._fits(part, p)]
        if not pools:
            return False
        self._move(part, min(pools, key=lambda pool: key(part, pool)))
        self.placed.append(part)
        return True

    def _open_levels(self, rank: int) -> range:
        """Levels that a start of this rank counts against."""
        count = sum(level >= rank for level in self.levels)
        return range(max(1, count))

    def _fits(self, part: Part, pool: int) -> bool:
        levels = self._open_levels(part.rank)
        return all(self.gpus[level][pool] >= part.gpus for level in levels) and self._carries(
            part.rank, pool, part.load_w[pool]
        )

    def _carries(self, rank: int, pool: int, more_w: float) -> bool:
        return more_w <= 0.0 or all(
            self.room_w[level][domain] + WATT_SLACK >= more_w
            for level in self._open_levels(rank)
            for domain in self.site.paths[pool]
        )

    def _move(self, part: Part, pool: int) -> None:
        for at, sign in ((part.pool, 1), (pool, -1)):
            if at == NOWHERE:
                continue
            self.free[at] += sign * part.gpus
            for level in self._open_levels(part.rank):
                self.gpus[level][at] += sign * part.gpus
                for domain in self.site.paths[at]:
                    self.room_w[level][domain] += sign * part.load_w[at]
        part.pool = pool

    def _exchange(self, part: Part) -> bool:
        """Makes room for the part by swapping two placed ones of equal size and rank between nodes."""
        taken = [other.pool for other in part.others]
        for pool in self.site.inside[part.zone]:
            if pool in taken or self.gpus[0][pool] < part.gpus:
                continue
            for here in (p for p in self.placed if p.pool == pool and not p.others):
                for there in (p for p in self.placed if self._swappable(here, p)):
                    self._swap(here, there)
                    if self._fits(part, pool) and self._sound(there.pool) and self._sound(here.pool):
                        self._move(part, pool)
                        self.placed.append(part)
                        return True
                    self._swap(here, there)
        return False

    def _swappable(self, here: Part, there: Part) -> bool:
        return (
            there.pool != here.pool
            and not there.others
            and (there.gpus, there.zone, there.rank) == (here.gpus, here.zone, here.rank)
            and there.load_w[here.pool] < here.load_w[here.pool]
        )

    def _swap(self, one: Part, other: Part) -> None:
        first, second = one.pool, other.pool
        self._move(one, second)
        self._move(other, first)

    def _sound(self, pool: int) -> bool:
        path = self.site.paths[pool]
        return all(room[domain] >= -WATT_SLACK for room in self.room_w for domain in path)

    # --- which pool first -----------------------------------------------------------------------------------

    def tidy(self, part: Part, pool: int) -> tuple[float, ...]:
        """Free GPUs before coming ones, near the rest of the gang, the fullest node, whole nodes last."""
        left = self.gpus[0][pool] - part.gpus
        return (max(0, part.gpus - self.free[pool]), -self._near(part, pool), left, pool)

    def even(self, part: Part, pool: int) -> tuple[float, ...]:
        """The node with most watts for each GPU that is left on it."""
        leaf = self.site.above[pool][0]
        return (-self.room_w[0][leaf] / max(1, self.gpus[0][pool]), self.gpus[0][pool], pool)

    def _near(self, part: Part, pool: int) -> int:
        """How many domains the pool shares with a part of its gang that is placed."""
        for other in part.others:
            if other.pool != NOWHERE:
                return len(set(self.site.above[pool]) & set(self.site.above[other.pool]))
        return 0


def pack_most(site: Site, option: Ints, starts: Sequence[Start]) -> tuple[Start, ...]:
    """Those of the starts that fit beside residents with these options, one after the other."""
    for start in starts:
        for part in start.parts:
            part.pool = NOWHERE
    packing = Packing(site, option)
    return packing.put_most(starts) if packing.sound else ()


def pack(site: Site, option: Ints, starts: Sequence[Start]) -> bool:
    """Whether the starts fit beside residents with these options; then each part has its pool."""
    ways: tuple[Callable[[Packing], bool], ...] = (
        lambda packing: packing.put_all(starts, packing.tidy),
        lambda packing: packing.put_filled(starts, LARGE_PART),
        lambda packing: packing.put_filled(starts, 2 * LARGE_PART),
        lambda packing: packing.put_all(starts, packing.even),
    )
    for way in ways:
        for start in starts:
            for part in start.parts:
                part.pool = NOWHERE
        packing = Packing(site, option)
        if not packing.sound:
            return False
        if way(packing):
            return True
    return False

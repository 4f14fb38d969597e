"""A small placement by counts: how many of each group start at which cap in which zone of like pools.

Nodes of one kind are interchangeable until their GPUs or watts differ, and a model that names them proves
nothing in time. This one leaves the nodes out: a zone's GPUs are bounded for each size of part by how many
such parts its pools hold (exact where sizes divide each other: the largest go first), its watts by the
domains that all of it hangs under and by the sum over its nodes. So every placement is an answer of this
model, and its bound holds; whether an answer can be put on nodes is for `exact_pack` to find out.

Rows are `use @ taken <= limit`; a block is a group (at most `most` taken) or a resident (exactly one).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.exact_watts import WATT_SLACK, ResidentWatts
from scheduler.placing.exact_zones import Ways, Zones, freeable, ways_of
from scheduler.placing.problem import Act, PlacementProblem

OLDER_FIRST = 1e-3  # of the head start: decides between equals and is lost in the proof's tolerance


@dataclass(frozen=True)
class Rows:
    """Rows of the model; `domains` are the columns of the power domains that a row of watts speaks for."""

    use: Floats  # rows x columns
    limit: Floats
    domains: tuple[Ints, ...]


@dataclass(frozen=True)
class CountModel:
    """Columns: first the ways in which a group's member may start, then the options of residents."""

    problem: PlacementProblem
    zones: Zones
    ways: Ways
    rows: Rows

    @cached_property
    def block(self) -> Ints:
        """Per column: its group, or its resident after all groups."""
        return np.concatenate([self.ways.group, len(self.problem.groups) + self.problem.options.resident])

    @cached_property
    def worth(self) -> Floats:
        """Per column: money per hour, with a trace of the older's head start."""
        groups, ways = self.problem.groups, self.ways
        starts = ways.worth + OLDER_FIRST * groups.head_start[ways.group]
        return np.concatenate([starts, self.problem.options.worth])

    @cached_property
    def most(self) -> Ints:
        """Per block: how many may be taken."""
        return np.concatenate([self.problem.groups.count, np.ones(len(self.problem.residents), np.int64)])

    @cached_property
    def least(self) -> Ints:
        """Per block: how many must be taken."""
        return np.where(np.arange(len(self.most)) < len(self.problem.groups), 0, 1)


def count_model(problem: PlacementProblem, zones: Zones) -> CountModel:
    """The model over these zones. Ways that no pool of a zone could carry are left out."""
    watts = ResidentWatts(problem)
    ways = ways_of(problem, zones, watts)
    parts = [*_gpu_rows(problem, zones, ways), *_watt_rows(problem, zones, ways, watts)]
    columns = len(ways.group) + len(problem.options)
    return CountModel(
        problem,
        zones,
        ways,
        Rows(
            use=np.array([use for use, _, _ in parts]).reshape(len(parts), columns),
            limit=np.array([limit for _, limit, _ in parts], dtype=np.float64),
            domains=tuple(domains for _, _, domains in parts),
        ),
    )


_Row = tuple[Floats, float, Ints]
_NO_DOMAIN = np.zeros(0, dtype=np.int64)


def _gpu_rows(problem: PlacementProblem, zones: Zones, ways: Ways) -> Iterator[_Row]:
    """Parts of each size and larger against what the pools of the zone hold of it, by rank of who starts."""
    groups, pools = problem.groups, problem.pools
    part, rank = groups.part[ways.group], groups.rank[ways.group]
    ready = pools.free + pools.coming
    for zone in range(zones.count):
        here = zones.of_pool == zone
        inside = ways.parts[:, zone] > 0
        for size in np.unique(part[inside]):
            last: Floats | None = None
            for top in np.unique(rank[inside])[::-1]:
                freed = _freed_parts(problem, here, int(size), int(top))
                if last is not None and np.array_equal(freed, last):
                    continue  # the row of the higher rank says more
                last = freed
                starts = np.where(inside & (rank <= top), part // size * ways.parts[:, zone], 0)
                yield np.concatenate([starts, -freed]), float((ready[here] // size).sum()), _NO_DOMAIN


def _freed_parts(problem: PlacementProblem, here: Bools, size: int, rank: int) -> Floats:
    """Per option: how many parts of `size` more the pools can hold at most once it stops its resident.

    Where several must stop for one part, each has its share of it: never too few in sum.
    """
    options, holds, pools = problem.options, problem.holds, problem.pools
    gain = np.zeros(len(problem.residents))
    inside = (holds.pool >= 0) & (holds.freed > 0)
    inside &= here[holds.pool] & (problem.residents.rank[holds.resident] < rank)
    stoppable = np.zeros(len(problem.residents), dtype=bool)
    stoppable[options.resident[options.act == Act.PREEMPT]] = True
    rows = np.nonzero(inside & stoppable[holds.resident])[0]
    in_pool: Ints = np.bincount(holds.pool[rows], holds.freed[rows], len(pools)).astype(np.int64)
    ready = pools.free + pools.coming
    more = (ready + in_pool) // size - ready // size  # per pool: parts that all of them together free
    missing = (size - ready % size)[holds.pool[rows]]  # GPUs that the next part lacks
    share = holds.freed[rows] / missing
    share = np.where(more[holds.pool[rows]] == 1, np.minimum(1.0, share), share)
    np.add.at(gain, holds.resident[rows], np.where(more[holds.pool[rows]] > 0, share, 0.0))
    return np.where(options.act == Act.PREEMPT, gain[options.resident], 0.0)


def _watt_rows(problem: PlacementProblem, zones: Zones, ways: Ways, watts: ResidentWatts) -> Iterator[_Row]:
    """Watts under each tight domain that holds whole zones, and over all nodes of each zone together."""
    rank = problem.groups.rank[ways.group]
    for domain in problem.tight:
        whole = [z for z in range(zones.count) if domain in zones.domains[z]]
        load, extra_w = _load(problem, zones, ways, whole)
        for residents, top in watts.by_rank(np.array([domain])):
            starts = np.where(rank <= top, load, 0.0)
            if starts.any() or residents.any():
                limit = float(problem.room_w[domain]) + (extra_w if starts.any() else 0.0)
                yield np.concatenate([starts, residents]), limit + WATT_SLACK, np.array([domain])
    for zone in range(zones.count):
        leaves = zones.leaves[zone]
        if len(leaves) < 2 or not np.isin(leaves, problem.tight).any():
            continue
        load, extra_w = _load(problem, zones, ways, [zone])
        load += ways.parts[:, zone] * _stranded_w(problem, zones, ways, watts, zone)
        room_w = float(np.minimum(problem.room_w, watts.most_w)[leaves].sum())
        for residents, top in watts.by_rank(leaves):
            starts = np.where(rank <= top, load, 0.0)
            if starts.any():
                yield np.concatenate([starts, residents]), room_w + extra_w + WATT_SLACK, leaves


def _stranded_w(
    problem: PlacementProblem, zones: Zones, ways: Ways, watts: ResidentWatts, zone: int
) -> Floats:
    """Per way: watts that one part of it leaves to its node and that no GPU left there can take.

    With room R of a node, F GPUs and at most w watts each, a part of k GPUs counts at least R - (F - k) w:
    whoever else is there takes no more than w for each of the others. As R <= F w, several such parts on one
    node still count no more than R. Over all nodes on which it may go: the least.
    """
    pools = problem.pools
    here = np.nonzero(zones.of_pool == zone)[0]
    part = problem.groups.part[ways.group]
    if (np.bincount(pools.leaf[pools.leaf >= 0])[pools.leaf[here]] > 1).any():
        return np.zeros(len(part))  # a node of several kinds: its room is not of this zone alone
    gpus = (pools.free + pools.coming + freeable(problem))[here]
    most_w = np.maximum(0.0, pools.max_cap_w - pools.empty_w)[here]
    leaves = pools.leaf[here]
    left_w = np.maximum(0.0, problem.room_w[leaves] - watts.highest_w[leaves])
    room_w = np.where(np.isin(leaves, problem.tight), np.minimum(left_w, gpus * most_w), gpus * most_w)
    others_w = (gpus - part[:, None]) * most_w
    counts_w = np.where(gpus >= part[:, None], room_w - others_w, np.inf).min(axis=1)
    stranded: Floats = np.maximum(0.0, counts_w - part * ways.load_w[:, zone])
    return np.where(np.isfinite(stranded), stranded, 0.0)


def _load(problem: PlacementProblem, zones: Zones, ways: Ways, inside: list[int]) -> tuple[Floats, float]:
    """(watts per way in these zones, watts to add to the room).

    Empty GPUs of one zone may count differently. Each start is charged against the least of them, and what
    the others count more is added to the room: exact where every GPU is taken, never too strict.
    """
    load, extra_w = np.zeros(len(ways.group)), 0.0
    for zone in inside:
        load += ways.parts[:, zone] * problem.groups.part[ways.group] * ways.load_w[:, zone]
        extra_w += zones.spread_w[zone]
    return load, extra_w

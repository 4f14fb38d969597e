"""Zones of pools that a model by counts does not tell apart, and the ways in which jobs may start in them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.exact_watts import ResidentWatts
from scheduler.placing.problem import ANY_SPLIT, Act, PlacementProblem

NOWHERE = -1  # the zone of a pool that can take no start
MOST_SPREADS = 400  # ways to spread one gang over zones; more than that is too large to solve exactly


class TooLargeError(Exception):
    """The instance has more combinations than can be listed."""


@dataclass(frozen=True)
class Zones:
    """`of_pool` is each pool's zone or NOWHERE; per zone the tight `domains` that all of it hangs under, its
    `leaves`, and by how many watts its empty GPUs exceed the least of them (`spread_w`)."""

    of_pool: Ints
    domains: tuple[frozenset[int], ...]
    leaves: tuple[Ints, ...]
    least_empty_w: Floats
    spread_w: Floats

    @property
    def count(self) -> int:
        return len(self.domains)


@dataclass(frozen=True)
class Ways:
    """One start each: `parts` (ways x zones) says how many of its parts go where, all at one cap.

    `worth` is of the whole job; `load_w` (ways x zones) of one GPU above the zone's least empty watts.
    """

    group: Ints
    offer: Ints
    worth: Floats
    parts: Ints
    load_w: Floats


def freeable(problem: PlacementProblem) -> Ints:
    """Per pool: GPUs that stopping residents could free."""
    options, holds = problem.options, problem.holds
    stoppable = np.zeros(len(problem.residents), dtype=bool)
    stoppable[options.resident[options.act == Act.PREEMPT]] = True
    rows = (holds.pool >= 0) & stoppable[holds.resident]
    freed: Ints = np.bincount(holds.pool[rows], holds.freed[rows], len(problem.pools)).astype(np.int64)
    return freed


def coarse_zones(problem: PlacementProblem) -> Zones:
    """Pools of one kind under the same tight domains, nodes apart: together."""
    pools, tight = problem.pools, frozenset(problem.tight.tolist())
    above = problem.index.ancestors[pools.leaf, 1:]
    keys = [
        (kind, settable, reserved, tuple(d for d in up if d in tight))
        for kind, settable, reserved, up in zip(
            pools.kind.tolist(),
            pools.settable.tolist(),
            pools.reserved.tolist(),
            above.tolist(),
            strict=True,
        )
    ]
    return _zones(problem, keys)


def _zones(problem: PlacementProblem, keys: Sequence[Hashable]) -> Zones:
    pools, tight = problem.pools, frozenset(problem.tight.tolist())
    most = pools.free + pools.coming + freeable(problem)
    number: dict[Hashable, int] = {}
    of_pool = np.array(
        [number.setdefault(key, len(number)) if most[row] else NOWHERE for row, key in enumerate(keys)],
        dtype=np.int64,
    )
    domains, leaves, least, spread = [], [], [], []
    for zone in range(len(number)):
        here = np.nonzero(of_pool == zone)[0]
        paths = [frozenset(path) for path in problem.index.ancestors[pools.leaf[here]].tolist()]
        domains.append(tight.intersection(*paths))
        leaves.append(np.unique(pools.leaf[here]))
        least.append(float(pools.empty_w[here].min()))
        spread.append(float((most[here] * (pools.empty_w[here] - least[-1])).sum()))
    return Zones(of_pool, tuple(domains), tuple(leaves), np.array(least), np.array(spread))


def ways_of(problem: PlacementProblem, zones: Zones, watts: ResidentWatts) -> Ways:
    """Every start that is worth something and that the pools of its zones could carry."""
    offers, groups, pools = problem.offers, problem.groups, problem.pools
    offer, parts = _spread_offers(problem, zones, _fits(problem, watts) & (offers.worth > 0)[:, None])
    first = np.array([np.nonzero(zones.of_pool == zone)[0][0] for zone in range(zones.count)], dtype=np.int64)
    counted = np.where(pools.settable[first], offers.cap_w[offer][:, None], pools.max_cap_w[first])
    return Ways(
        group=offers.group[offer],
        offer=offer,
        worth=offers.worth[offer] * groups.gpus[offers.group[offer]],
        parts=parts,
        load_w=np.maximum(0.0, counted - zones.least_empty_w),
    )


def _spread_offers(problem: PlacementProblem, zones: Zones, fits: Bools) -> tuple[Ints, Ints]:
    """(offer, parts by zone) of every way: one zone for a job of one part, all mixtures for a gang."""
    groups, most = problem.groups, problem.pools.free + problem.pools.coming + freeable(problem)
    nodes = groups.nodes[problem.offers.group]
    inside = zones.of_pool[:, None] == np.arange(zones.count)
    offer, zone = np.nonzero((fits @ inside) & (nodes == 1)[:, None])
    parts = np.zeros((len(offer), zones.count), dtype=np.int64)
    parts[np.arange(len(offer)), zone] = 1
    more_offers: list[int] = []
    more_parts: list[Ints] = []
    for row in np.nonzero((nodes != 1) & fits.any(axis=1))[0].tolist():
        holds = most if nodes[row] == ANY_SPLIT else np.ones(len(most), dtype=np.int64)
        places = (fits[row] * holds) @ inside
        for spread in _spreads(int(nodes[row] or groups.gpus[problem.offers.group[row]]), places):
            more_offers.append(row)
            more_parts.append(spread)
    if not more_offers:
        return offer, parts
    offer = np.concatenate([offer, more_offers])
    order = np.argsort(offer, kind="stable")
    return offer[order], np.vstack([parts, more_parts])[order]


def _fits(problem: PlacementProblem, watts: ResidentWatts) -> Bools:
    """offers x pools: whether one part could go there, everything else at its least."""
    offers, groups, pools = problem.offers, problem.groups, problem.pools
    part, rank = groups.part[offers.group], groups.rank[offers.group]
    most = pools.free + pools.coming + freeable(problem)
    fits = np.zeros((len(part), len(pools)), dtype=bool)
    for pool in range(len(pools)):
        path = problem.index.ancestors[pools.leaf[pool]]
        least = {r: float(room[path[path >= 0]].min()) for r, room in watts.spare_w.items()}
        room_w = np.array([least[r] for r in rank.tolist()])
        load = part * pools.loaded_w(np.full(len(part), pool), offers.cap_w)
        fits[:, pool] = (part <= most[pool]) & (offers.kind == pools.kind[pool]) & (load <= room_w + 1e-6)
        fits[:, pool] &= offers.top | bool(pools.settable[pool])
        fits[:, pool] &= groups.backfill[offers.group] | (not pools.reserved[pool])
    return fits


def _spreads(parts: int, places: Ints) -> Iterator[Ints]:
    """All ways to put so many parts into zones with so many places each."""
    open_zones = np.nonzero(places)[0]
    if len(open_zones) == 1 and parts <= places[open_zones[0]]:
        open_zones = open_zones[:1]
    for number, chosen in enumerate(combinations_with_replacement(open_zones.tolist(), parts)):
        if number >= MOST_SPREADS:
            raise TooLargeError(f"a gang of {parts} parts has too many ways to spread")
        spread: Ints = np.bincount(chosen, minlength=len(places)).astype(np.int64)
        if (spread <= places).all():
            yield spread

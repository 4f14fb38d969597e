"""A placement problem as a market: who sells GPUs and watts, who buys, and where prices may differ.

Built once per problem. Watts are priced per domain and waiting rank (the rank rules: what a stopped resident
gives up helps only ranks above its own), parts of a node per zone, size and rank. A zone is a set of pools
that no price can tell apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.node_fill import States, classes_for, states_of
from scheduler.placing.problem import ANY_SPLIT, Act, PlacementProblem

MOST_NODE_GPUS = 16  # of larger pools every GPU is priced by itself, which only weakens the bound
MOST_PRICED = 64  # domains; the others are kept by the answer, not by the bound
MOST_PARTIES = 16  # of residents and nodes


def totals(of: Ints, amount: Floats, count: int) -> Floats:
    """Sums of an amount per row, by what the rows belong to."""
    return np.bincount(of, amount, count).astype(np.float64)


@dataclass(frozen=True)
class Zones:
    """Pools by kind, settable, reserved and priced domains over them."""

    of_pool: Ints
    kind: Ints
    settable: Bools
    reserved: Bools
    empty_w: Floats  # the most that an empty GPU of the zone counts at
    max_cap_w: Floats
    mask: Ints

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True)
class Items:
    """GPUs that a stoppable resident could free in one pool, sorted by pool, kind and
    number; `share` of the whole resident."""

    resident: Ints
    pool: Ints
    freed: Ints
    share: Floats
    kind: Ints  # class of GPUs that they would become


class Market:
    """The parts of a problem that do not depend on prices."""

    def __init__(self, problem: PlacementProblem) -> None:
        self.problem = problem
        groups, pools = problem.groups, problem.pools
        self.ranks: Ints = np.unique(groups.rank)
        self.rank: Ints = np.searchsorted(self.ranks, groups.rank)
        self.protected_below: Ints = np.searchsorted(self.ranks, problem.residents.rank, side="right")
        self.sizes: Ints = np.unique(groups.part) if len(groups) else np.ones(1, dtype=np.int64)
        self.size: Ints = np.searchsorted(self.sizes, groups.part)
        self.units: Ints = np.where(groups.nodes == ANY_SPLIT, groups.gpus, groups.nodes)
        self.priced = self._priced_domains()
        self.mask, self.masks = self._masks()
        self.zones = self._zones()
        small = pools.size[pools.size <= MOST_NODE_GPUS]
        most = int(small.max()) if len(small) else 1
        self.classes = classes_for(most, len(self.ranks))
        self.states: States = states_of(
            most, self.classes, tuple(int(s) for s in self.sizes), max(1, len(self.ranks))
        )
        self.small_pool: Bools = pools.size <= MOST_NODE_GPUS

    def _priced_domains(self) -> Ints:
        """Tight domains where residents at their best and starts on all free GPUs need more than there is."""
        problem = self.problem
        tight = problem.tight
        if len(tight) <= MOST_PRICED:
            return tight
        pools, index = problem.pools, problem.index
        rows = np.arange(len(pools))
        wanted = (pools.free + pools.coming) * pools.loaded_w(rows, pools.max_cap_w)
        own = totals(pools.leaf, wanted, len(index.names))
        best = self.stays.best_at(np.zeros(len(problem.residents)))[1]
        holds = problem.holds
        cap_w = self.stays.cap_w[best, np.arange(len(best))] if len(best) else np.zeros(0)
        own += totals(holds.leaf, holds.fixed_w + holds.steered * cap_w[holds.resident], len(index.names))
        used = index.roll_up(own)
        over = used[tight] - problem.room_w[tight]
        chosen = np.argsort(-over, kind="stable")[:MOST_PRICED]
        return np.sort(tight[chosen[over[chosen] > 0]])

    def _masks(self) -> tuple[Ints, Floats]:
        """(row of masks per column of the tree, masks x priced domains: 1 where the domain is above)."""
        index = self.problem.index
        above = np.zeros((len(index.names), len(self.priced)), dtype=bool)
        place = np.full(len(index.names) + 1, -1)
        place[self.priced] = np.arange(len(self.priced))
        for step in range(index.ancestors.shape[1]):
            column = place[index.ancestors[:, step]]
            rows = np.nonzero(column >= 0)[0]
            above[rows, column[rows]] = True
        packed = np.packbits(above, axis=1) if len(self.priced) else np.zeros((len(above), 1), np.uint8)
        _, first, mask = np.unique(
            np.ascontiguousarray(packed).view(f"V{packed.shape[1]}").ravel(),
            return_index=True,
            return_inverse=True,
        )
        return mask.ravel().astype(np.int64), above[first].astype(np.float64)

    def _zones(self) -> Zones:
        pools = self.problem.pools
        mask = self.mask[pools.leaf]
        kinds = int(pools.kind.max(initial=0)) + 1
        key = ((mask * kinds + pools.kind) * 2 + pools.settable) * 2 + pools.reserved
        _, first, zone = np.unique(key, return_index=True, return_inverse=True)
        empty_w, max_cap_w = np.zeros(len(first)), np.zeros(len(first))
        np.maximum.at(empty_w, zone.ravel(), pools.empty_w)
        max_cap_w[:] = np.inf
        np.minimum.at(max_cap_w, zone.ravel(), pools.max_cap_w)
        return Zones(
            of_pool=zone.ravel().astype(np.int64),
            kind=pools.kind[first],
            settable=pools.settable[first],
            reserved=pools.reserved[first],
            empty_w=empty_w,
            max_cap_w=max_cap_w,
            mask=mask[first],
        )

    @cached_property
    def party(self) -> Ints:
        """Per mask: the party of residents and nodes there. What each party would do is learned by itself."""
        masks = len(self.masks)
        found: Ints = np.arange(masks) * min(masks, MOST_PARTIES) // masks
        return found

    @cached_property
    def cell(self) -> Ints:
        """Per group: the size of its parts and its rank as one number."""
        found: Ints = self.size * max(1, len(self.ranks)) + self.rank
        return found

    @property
    def parties(self) -> int:
        """Parties of residents and nodes; waiting jobs are others."""
        return int(self.party[-1]) + 1

    @cached_property
    def home(self) -> Ints:
        """Per resident: the party it belongs to, that of its first node."""
        holds, residents = self.problem.holds, len(self.problem.residents)
        found = np.zeros(residents, dtype=np.int64)
        found[holds.resident[::-1]] = self.party[self.mask[holds.leaf[::-1]]]
        return found

    @cached_property
    def tight_above(self) -> Ints:
        """Per column of the tree: rows of `tight` over it, -1 where a level has none."""
        index, tight = self.problem.index, self.problem.tight
        row = np.full(len(index.names) + 1, -1, dtype=np.int64)
        row[tight] = np.arange(len(tight))
        above = row[index.ancestors]
        found: Ints = above[:, (above >= 0).any(axis=0)]
        return found

    @cached_property
    def tight_holds(self) -> tuple[Ints, Ints]:
        """(row of a hold, row of a tight domain over it), for every such pair."""
        above = self.tight_above[self.problem.holds.leaf]
        row, column = np.nonzero(above >= 0)
        return row, above[row, column]

    @cached_property
    def stays(self) -> Stays:
        """What residents may do without being stopped."""
        return Stays(self.problem)

    @cached_property
    def stop_option(self) -> Ints:
        """Per resident: the row of the option that stops it, -1 where there is none."""
        options = self.problem.options
        rows = np.full(len(self.problem.residents), -1, dtype=np.int64)
        stops = np.nonzero(options.act == Act.PREEMPT)[0]
        rows[options.resident[stops]] = stops
        return rows

    @cached_property
    def least_w(self) -> Floats:
        """Per hold: watts while the resident stands at its least."""
        options, holds = self.problem.options, self.problem.holds
        cap_w = np.zeros(len(self.problem.residents))
        least = np.nonzero(options.least)[0]
        cap_w[options.resident[least]] = options.cap_w[least]
        watts: Floats = holds.fixed_w + holds.steered * cap_w[holds.resident]
        return watts

    @cached_property
    def items(self) -> Items:
        """Everything that could be freed for some waiting rank."""
        holds, ranks = self.problem.holds, len(self.ranks)
        total = np.bincount(holds.resident, np.where(holds.pool >= 0, holds.freed, 0), len(self.stop_option))
        able = (holds.pool >= 0) & (holds.freed > 0) & (self.stop_option[holds.resident] >= 0)
        able &= self.protected_below[holds.resident] < ranks
        rows = np.nonzero(able)[0]
        kind = np.minimum(self.protected_below[holds.resident[rows]], self.classes - 1)
        order = np.lexsort((holds.freed[rows], kind, holds.pool[rows]))
        rows, kind = rows[order], kind[order]
        resident = holds.resident[rows]
        return Items(
            resident=resident,
            pool=holds.pool[rows],
            freed=holds.freed[rows],
            share=holds.freed[rows] / total[resident],
            kind=kind,
        )


class Stays:
    """Options of residents that keep them on their GPUs, one column per resident, lowest watts first."""

    def __init__(self, problem: PlacementProblem) -> None:
        options, count = problem.options, len(problem.residents)
        rows = np.nonzero(options.act != Act.PREEMPT)[0]
        owner = options.resident[rows]
        number = np.bincount(owner, minlength=count)
        start = np.concatenate([[0], np.cumsum(number)])[:-1]
        step = np.arange(len(rows)) - start[owner]
        deep = int(number.max(initial=1))
        self.option = np.full((deep, count), -1, dtype=np.int64)
        self.option[step, owner] = rows
        self.cap_w = np.zeros((deep, count))
        self.cap_w[step, owner] = options.cap_w[rows]
        self.worth = np.full((deep, count), -np.inf)
        self.worth[step, owner] = options.worth[rows]

    def best_at(self, cap_price: Floats) -> tuple[Floats, Ints]:
        """(worth less price of watts, step) per resident, where a watt of cap costs it `cap_price`."""
        best = self.worth[0] - cap_price * self.cap_w[0]
        step, other = np.zeros(len(best), dtype=np.int16), np.empty(len(best))
        for row in range(1, len(self.worth)):
            np.multiply(cap_price, self.cap_w[row], out=other)
            np.subtract(self.worth[row], other, out=other)
            np.maximum(step, (other > best) * np.int16(row), out=step)
            np.maximum(best, other, out=best)
        return best, step.astype(np.int64)

"""What nodes would sell: the best set of residents to stop on each, and the best parts to fill it with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.market import Market, totals
from scheduler.placing.node_fill import Fill


@dataclass(frozen=True)
class Supply:
    """Money that nodes earn beyond what stopping costs, per zone; parts sold by (zone, size, rank); items
    freed."""

    money: Floats
    parts: Floats
    stopped: Bools


@dataclass(frozen=True)
class _Sets:
    """Every set of residents worth looking at on every small pool that has any: of those that free equally
    much for the same ranks (a run of items), always the cheapest few.

    `pool` and `number` of its sets, `start` where they begin; `state` per set. For each place in a set:
    `paid` are (rows of sets that have it, the last item chosen for it), `run` and `taken` (places x sets) the
    run that it chooses from, and how many; a set without it takes none of a run that nobody has.
    """

    pool: Ints
    number: Ints
    start: Ints
    state: Ints
    paid: list[tuple[Ints, Ints]]
    run: Ints
    taken: Ints


class Stops:
    """Supply at any prices."""

    def __init__(self, market: Market) -> None:
        self._market = market
        pools, items = market.problem.pools, market.items
        self._ready = (pools.free + pools.coming).astype(np.int64)
        self._small_item = market.small_pool[items.pool]
        run_key = (items.pool * market.classes + items.kind) * (int(items.freed.max(initial=0)) + 1)
        key = run_key + items.freed
        first = np.concatenate([[True], key[1:] != key[:-1]]) if len(key) else np.zeros(0, dtype=bool)
        self._run_start = np.nonzero(first)[0]
        self._length = np.diff(np.append(self._run_start, len(key)))
        self._place = np.arange(len(key)) - np.repeat(self._run_start, self._length)
        self._mixed = self._mixed_runs()
        self._there = self._mixed >= 0
        self._sets = self._all_sets(self._run_start, self._length)
        self._cell = self._cells(self._sets.pool, self._sets.number) + self._sets.state
        self._idle_nodes = self._idle(np.bincount(items.pool, minlength=len(pools)) == 0)
        self._large = np.nonzero(~market.small_pool)[0]
        self._large_items = np.nonzero(~self._small_item)[0]

    def _mixed_runs(self) -> Ints:
        """Items of runs of more than one, a run a row, as many columns as the longest has; -1: no more."""
        runs = np.nonzero(self._length > 1)[0]
        column = np.arange(int(self._length.max(initial=0)))
        return np.where(column < self._length[runs, None], self._run_start[runs, None] + column, -1)

    def _cells(self, pool: Ints, number: Ints) -> Ints:
        """Where the states of each pool's zone begin in a table of zones and states, `number` times each."""
        return np.repeat(self._market.zones.of_pool[pool] * len(self._market.states.counts), number)

    def _idle(self, nobody: Bools) -> Floats:
        """zones x states: small pools on which nobody could be stopped."""
        market = self._market
        idle = np.nonzero(market.small_pool & nobody)[0]
        counts = np.zeros((len(idle), market.classes), dtype=np.int64)
        counts[:, 0] = self._ready[idle]
        cell = self._cells(idle, np.ones(len(idle), dtype=np.int64)) + market.states.of(counts)
        shape = (len(market.zones), len(market.states.counts))
        return np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)

    def _all_sets(self, run_start: Ints, length: Ints) -> _Sets:
        market, items = self._market, self._market.items
        small = np.nonzero(self._small_item[run_start])[0]
        run_start, length = run_start[small], length[small]
        pool, first_run, runs = np.unique(items.pool[run_start], return_index=True, return_counts=True)
        place = np.arange(len(run_start)) - np.repeat(first_run, runs)
        stride = np.ones(len(run_start), dtype=np.int64)
        total = np.ones(len(pool), dtype=np.int64)
        for turn in range(int(runs.max(initial=0))):
            rows = np.nonzero(place == turn)[0]
            owner = np.searchsorted(first_run, rows, side="right") - 1
            stride[rows] = total[owner]
            total[owner] *= length[rows] + 1
        of = np.repeat(np.arange(len(pool)), total)
        start = np.cumsum(total) - total
        number = np.arange(len(of)) - start[of]
        counts = np.zeros((len(of), market.classes), dtype=np.int64)
        counts[:, 0] = self._ready[pool][of]
        paid = []
        places = (int(runs.max(initial=0)), len(of))
        all_runs, all_taken = np.full(places, len(self._length)), np.zeros(places, dtype=np.int64)
        for turn in range(places[0]):
            rows = np.nonzero(runs[of] > turn)[0]
            run = first_run[of[rows]] + turn
            taken = number[rows] // stride[run] % (length[run] + 1)
            rows, run, taken = rows[taken > 0], run[taken > 0], taken[taken > 0]
            begin = run_start[run]
            counts[rows, items.kind[begin]] += taken * items.freed[begin]
            paid.append((rows, begin + taken - 1))
            all_runs[turn, rows], all_taken[turn, rows] = small[run], taken
        return _Sets(pool, total, start, market.states.of(counts), paid, all_runs, all_taken)

    def choose(self, fill: Fill, part_price: Floats, loss: Floats) -> Supply:
        """`fill`: the best for `part_price`; `loss`: what stopping each resident costs."""
        market, items, sets = self._market, self._market.items, self._sets
        cost = loss[items.resident] * items.share
        order = self._cheapest_first(cost)
        earned = fill.money.ravel()[self._cell]
        paid = np.cumsum(cost[order])
        paid -= np.repeat(np.concatenate([[0.0], paid])[self._run_start], self._length)
        for rows, last in sets.paid:
            earned[rows] -= paid[last]
        stopped = np.zeros(len(cost), dtype=bool)
        nodes, money = self._idle_nodes, (fill.money * self._idle_nodes).sum(axis=1)
        if len(sets.pool):
            best = np.maximum.reduceat(earned, sets.start)
            money += np.bincount(market.zones.of_pool[sets.pool], best, len(money))
            hit = np.nonzero(earned >= np.repeat(best, sets.number))[0]
            if len(hit) > len(best):
                hit = hit[np.searchsorted(hit, sets.start)]
            nodes = nodes + np.bincount(self._cell[hit], minlength=nodes.size).reshape(nodes.shape)
            stopped[order] = self._place < np.repeat(self._taken(hit), self._length)
        parts = fill.sold(nodes)
        if len(self._large):
            money += self._sell_large(part_price, cost, stopped, parts)
        return Supply(money, parts, stopped)

    def _cheapest_first(self, cost: Floats) -> Ints:
        """All items, those of one run by cost."""
        order = np.arange(len(cost))
        ranked = np.argsort(np.append(cost, np.inf)[self._mixed], axis=1)
        first = np.arange(len(ranked))[:, None] * self._mixed.shape[1]
        order[self._mixed[self._there]] = self._mixed.ravel()[(ranked + first)[self._there]]
        return order

    def _taken(self, hit: Ints) -> Ints:
        """Per run: how many of its items are in these sets."""
        number = np.zeros(len(self._length) + 1, dtype=np.int64)
        for run, taken in zip(self._sets.run, self._sets.taken, strict=True):
            number[run[hit]] = taken[hit]
        return number[:-1]

    def _sell_large(self, part_price: Floats, cost: Floats, stopped: Bools, parts: Floats) -> Floats:
        """Per zone. Large pools: every GPU at the best price of any part of one, whatever fits beside it."""
        market, items = self._market, self._market.items
        zones, ranks = market.zones, part_price.shape[2]
        per_gpu = part_price / market.sizes[None, :, None]
        best_size = per_gpu.argmax(axis=1)  # zones x ranks
        best = per_gpu.max(axis=1)
        rate = np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1]
        at = np.empty(best.shape, dtype=np.int64)
        for rank in range(ranks):
            at[:, rank] = rank + best[:, rank:].argmax(axis=1)
        zone = zones.of_pool[self._large]
        rows = self._large_items
        item_zone = zones.of_pool[items.pool[rows]]
        gain = rate[item_zone, items.kind[rows]] * items.freed[rows] - cost[rows]
        stopped[rows] = gain > 0
        gpus = np.zeros(rate.shape)
        np.add.at(gpus[:, 0], zone, self._ready[self._large])
        np.add.at(gpus, (item_zone, items.kind[rows]), items.freed[rows] * (gain > 0))
        for one in range(len(rate)):
            for kind in range(ranks):
                if gpus[one, kind] and rate[one, kind] > 0:
                    rank = at[one, kind]
                    size = best_size[one, rank]
                    parts[one, size, rank] += gpus[one, kind] / market.sizes[size]
        money = totals(zone, rate[zone, 0] * self._ready[self._large], len(rate))
        return money + totals(item_zone, np.maximum(gain, 0.0), len(rate))

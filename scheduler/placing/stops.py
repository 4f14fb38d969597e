"""What nodes would sell: the best set of residents to stop on each, and the best parts to fill it with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.market import Market
from scheduler.placing.node_fill import Fill


@dataclass(frozen=True)
class Supply:
    """Money that nodes earn beyond what stopping costs; parts sold by (zone, size, rank); items freed."""

    money: float
    parts: Floats
    stopped: Bools


@dataclass(frozen=True)
class _Sets:
    """Every set of residents worth looking at on every small pool that has any: of those that free equally
    much for the same ranks (a run of items), always the cheapest few.

    `start` is where each pool's sets begin. `runs`: for each place in a set, (rows of sets that have it,
    where its run begins, where the chosen part of it ends).
    """

    pool: Ints
    start: Ints
    of: Ints
    state: Ints
    runs: list[tuple[Ints, Ints, Ints]]


class Stops:
    """Supply at any prices."""

    def __init__(self, market: Market) -> None:
        self._market = market
        pools, items = market.problem.pools, market.items
        self._ready = (pools.free + pools.coming).astype(np.int64)
        self._small_item = market.small_pool[items.pool]
        number = np.bincount(items.pool, minlength=len(pools))
        self._idle = np.nonzero(market.small_pool & (number == 0))[0]
        counts = np.zeros((len(self._idle), market.classes), dtype=np.int64)
        counts[:, 0] = self._ready[self._idle]
        self._idle_state = market.states.of(counts)
        run_key = (items.pool * market.classes + items.kind) * (int(items.freed.max(initial=0)) + 1)
        key = run_key + items.freed
        first = np.concatenate([[True], key[1:] != key[:-1]]) if len(key) else np.zeros(0, dtype=bool)
        self._run = np.cumsum(first) - 1
        run_start = np.nonzero(first)[0]
        self._sets = self._all_sets(run_start, np.diff(np.append(run_start, len(key))))
        several = np.bincount(self._run, minlength=len(run_start)) > 1
        self._mixed = np.nonzero(several[self._run])[0] if len(key) else np.zeros(0, dtype=np.int64)
        self._large = np.nonzero(~market.small_pool)[0]
        self._large_items = np.nonzero(~self._small_item)[0]

    def _all_sets(self, run_start: Ints, length: Ints) -> _Sets:
        market, items = self._market, self._market.items
        keep = self._small_item[run_start]
        run_start, length = run_start[keep], length[keep]
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
        chosen = []
        for turn in range(int(runs.max(initial=0))):
            rows = np.nonzero(runs[of] > turn)[0]
            run = first_run[of[rows]] + turn
            taken = number[rows] // stride[run] % (length[run] + 1)
            rows, run, taken = rows[taken > 0], run[taken > 0], taken[taken > 0]
            begin = run_start[run]
            counts[rows, items.kind[begin]] += taken * items.freed[begin]
            chosen.append((rows, begin, begin + taken))
        return _Sets(pool, start, of, market.states.of(counts), chosen)

    def choose(self, fill: Fill, part_price: Floats, loss: Floats) -> Supply:
        """`fill`: the best for `part_price`; `loss`: what stopping each resident costs."""
        market, items, sets = self._market, self._market.items, self._sets
        zone = market.zones.of_pool
        cost = loss[items.resident] * items.share
        order = np.arange(len(cost))
        by_cost = np.lexsort((cost[self._mixed], self._run[self._mixed]))
        order[self._mixed] = self._mixed[by_cost]
        paid = np.concatenate([[0.0], np.cumsum(cost[order])])
        earned = fill.money[zone[sets.pool][sets.of], sets.state]
        for rows, begin, end in sets.runs:
            earned[rows] -= paid[end] - paid[begin]
        stopped = np.zeros(len(cost), dtype=bool)
        nodes = np.zeros(fill.money.shape)
        np.add.at(nodes, (zone[self._idle], self._idle_state), 1.0)
        money = float(fill.money[zone[self._idle], self._idle_state].sum())
        if len(sets.pool):
            best = np.maximum.reduceat(earned, sets.start)
            money += float(best.sum())
            hit = np.nonzero(earned >= best[sets.of])[0]
            hit = hit[np.concatenate([[True], sets.of[hit][1:] != sets.of[hit][:-1]])]
            np.add.at(nodes, (zone[sets.pool], sets.state[hit]), 1.0)
            stopped[order[self._taken(hit)]] = True
        parts = fill.sold(nodes)
        if len(self._large):
            money += self._sell_large(part_price, cost, stopped, parts)
        return Supply(money, parts, stopped)

    def _taken(self, hit: Ints) -> Ints:
        """Positions of the items in these sets, cheapest first in each run."""
        chosen = np.zeros(len(self._sets.of), dtype=bool)
        chosen[hit] = True
        edge = np.zeros(len(self._run) + 1, dtype=np.int64)
        for rows, begin, end in self._sets.runs:
            here = chosen[rows]
            edge[begin[here]] += 1
            np.subtract.at(edge, end[here], 1)
        return np.nonzero(np.cumsum(edge)[:-1] > 0)[0]

    def _sell_large(self, part_price: Floats, cost: Floats, stopped: Bools, parts: Floats) -> float:
        """Large pools: every GPU at the best price of any part of one, whatever fits beside it."""
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
        return float((rate[zone, 0] * self._ready[self._large]).sum() + np.maximum(gain, 0.0).sum())

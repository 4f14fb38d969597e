"""One consistent set of wishes out of the many that a search for prices looked at.

At the best prices many are indifferent: whole groups want to start or wait, residents to stop or stay. The
weights of the search say how often each wish should be granted so that, in sum, all that is shared suffices.
Every node takes one of the rounds as its own, spread evenly by weight; groups split their members.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.market import Market
from scheduler.placing.prices import Found

GOLDEN = 0.6180339887498949  # multiples of it, modulo 1, fill the unit interval evenly
WHOLE = 0.5  # a resident stops where at least this share of its GPUs would be sold


@dataclass(frozen=True)
class Wishes:
    """Steps that residents take, which of them stop, and members by zone and group."""

    step: Ints
    stops: Bools
    members: Floats  # zones x groups
    part_w: Floats  # zones x groups: mean watts of one part of them, 0 where nobody goes


def mixed(market: Market, found: Found, turn: float = 0.0) -> Wishes:
    """The wishes of all rounds, by weight; `turn` (0..1) deals the rounds out to nodes in another way."""
    residents = len(market.problem.residents)
    rounds = _round_of(market, found.weight[:, : market.parties], turn)
    step = np.zeros(residents, dtype=np.int64)
    share = np.zeros(residents)
    items = market.items
    members = np.zeros((len(market.zones), len(market.problem.groups)))
    watts = np.zeros_like(members)
    for row, seen in enumerate(found.looked):
        mine = rounds == row
        if mine.any():
            step[mine] = seen.step[mine]
            sold = seen.stopped & mine[items.resident]
            share += np.bincount(items.resident[sold], items.share[sold], residents)
        weight = found.weight[row, market.parties :][market.cell]
        goes = np.nonzero((seen.zone >= 0) & (weight > 0))[0]
        number = weight[goes] * market.problem.groups.count[goes]
        members[seen.zone[goes], goes] += number
        watts[seen.zone[goes], goes] += number * seen.part_w[goes]
    return Wishes(step, share >= WHOLE, members, watts / np.maximum(members, 1e-9))


def _round_of(market: Market, weight: Floats, turn: float) -> Ints:
    """Per resident: the round that its first node takes as its own, by the `weight` (rounds x parties)."""
    holds, index = market.problem.holds, market.problem.index
    first = np.full(len(market.problem.residents), len(index.names))
    np.minimum.at(first, holds.resident, holds.leaf)
    edges = np.cumsum(weight, axis=0)
    share = (first * GOLDEN + turn) % 1.0
    chosen = np.zeros(len(first), dtype=np.int64)
    for party in range(market.parties):
        mine = np.nonzero(market.home == party)[0]
        place = share[mine] * edges[-1, party]
        chosen[mine] = np.searchsorted(edges[:, party], place, side="right")
    return np.minimum(chosen, len(weight) - 1)


def whole_members(members: Floats, count: Ints, turn: float = 0.0) -> Ints:
    """Rounded: no group gets more than it has, nor less in all than its wishes, rounded."""
    total = np.minimum(np.cumsum(members, axis=0), count)
    return np.diff(np.floor(total + (0.5 + turn) % 1.0), axis=0, prepend=0.0).astype(np.int64)

"""One placement as arrays: what the solvers read (`PlacementProblem`) and what they answer (`Choice`).

Money is per hour, watts are of GPUs. A job's GPUs all run at one cap. Nothing here knows a job by name: jobs
are rows of the snapshot's job table, domains columns of its tree's index.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.tree_index import TreeIndex

ANY_SPLIT = 0  # `Groups.nodes` of a gang that no single node could hold: spread in any way


class Act(IntEnum):
    """What becomes of a resident."""

    PREEMPT = 0
    PAUSE = 1  # freezes, or stays frozen: a load at its least cap
    EMERGENCY = 2  # runs below its contract floor
    RUN = 3


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Interchangeable usable GPUs, one kind on one node, a row each; in the order of the tree.

    `free` may take a start now; `coming` are held by a run that is being stopped. `empty_w` is what an empty
    one counts at. In a pool that is not `settable` every loaded GPU counts at its maximum. A `reserved` pool
    is kept for the head of the queue: only groups that `backfill` may use it meanwhile. Nothing is free under
    a domain that is short.
    """

    leaf: Ints
    kind: Ints
    settable: Bools
    reserved: Bools
    free: Ints
    coming: Ints
    size: Ints
    empty_w: Floats
    max_cap_w: Floats

    def __len__(self) -> int:
        return len(self.leaf)

    def loaded_w(self, pool: Ints, cap_w: Floats) -> Floats:
        """Watts that one more loaded GPU adds to every domain over it (rows and caps of one shape)."""
        counted_w = np.where(self.settable[pool], cap_w, self.max_cap_w[pool])
        return np.maximum(0.0, counted_w - self.empty_w[pool])


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Waiting jobs that are alike in all that counts, a row each; members are job rows, oldest first.

    Each member asks for `gpus` GPUs in `nodes` equal parts, one pool each (ANY_SPLIT: in any way), all of
    one kind. `member_start` has one entry more than there are groups.
    """

    gpus: Ints
    nodes: Ints
    rank: Ints
    backfill: Bools  # sure to end before the head of the queue may start, or ahead of it; or itself
    member_start: Ints
    member: Ints
    head_start: Floats  # money per hour: what each group's oldest is worth more for its age (tiny)

    def __len__(self) -> int:
        return len(self.gpus)

    @property
    def count(self) -> Ints:
        """Members of each group."""
        return np.diff(self.member_start)

    @property
    def part(self) -> Ints:
        """GPUs on one node: all of them, or an equal share; 1 where any split will do."""
        return np.where(self.nodes == ANY_SPLIT, 1, self.gpus // np.maximum(self.nodes, 1))


@dataclass(frozen=True, kw_only=True)
class Offers:
    """Caps at which a group may run on a kind of GPU: sorted by group, kind, cap; worth is of ONE GPU.

    On pools that are not settable only the `top` one of its group and kind is on offer.
    """

    group: Ints
    kind: Ints
    cap_w: Floats
    worth: Floats
    top: Bools


@dataclass(frozen=True, kw_only=True)
class Residents:
    """Running and frozen jobs that a placement may touch, a row each."""

    job: Ints
    rank: Ints
    gpus: Ints

    def __len__(self) -> int:
        return len(self.job)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What may become of each resident, sorted by resident, then by watts; worth is of the whole job.

    `least` marks the fewest watts at which the resident stays what it is (under a domain that not even all of
    these fit into: its fewest of all); `unchanged` what it is now, as far as its contract allows that.
    """

    resident: Ints
    act: Ints  # Act
    cap_w: Floats
    worth: Floats
    least: Bools
    unchanged: Bools

    def __len__(self) -> int:
        return len(self.resident)


@dataclass(frozen=True, kw_only=True)
class Holds:
    """GPUs that a resident holds, one row per resident and pool (or node, where no pool has them).

    A resident's watts on this row: `fixed_w + steered x cap` while it stays (whatever the act), `empty_w`
    once it is stopped; then `freed` GPUs of `pool` (-1: none) come free.
    """

    resident: Ints
    leaf: Ints
    pool: Ints
    freed: Ints
    steered: Ints
    fixed_w: Floats
    empty_w: Floats


@dataclass(frozen=True, kw_only=True)
class PlacementProblem:
    """Everything the solvers may look at.

    `room_w` is what each domain has for residents and starts: its limit less base loads and every GPU that
    stays as it is; infinite where there is no limit.

    Rules: a resident takes exactly one option. A start may use free and coming GPUs, and GPUs and watts that
    a stopped resident of LOWER rank gives up; watts that residents of equal or higher rank give up by
    stopping or pausing profit nobody of this rank or below, watts given up by a lower cap profit everybody.
    """

    index: TreeIndex
    room_w: Floats
    pools: Pools
    groups: Groups
    offers: Offers
    residents: Residents
    options: Options
    holds: Holds

    @cached_property
    def tight(self) -> Ints:
        """Columns of domains that could be overdrawn: limited, and unable to carry everything at its most."""
        most = self.index.roll_up(self.most_own_w)
        return np.nonzero(np.isfinite(self.room_w) & (most > self.room_w))[0]

    @cached_property
    def most_own_w(self) -> Floats:
        """Per column of the tree: watts that everything right at it could take at its most."""
        own = np.zeros(len(self.index.names))
        pools, holds, options = self.pools, self.holds, self.options
        rows = np.arange(len(pools))
        np.add.at(own, pools.leaf, (pools.free + pools.coming) * pools.loaded_w(rows, pools.max_cap_w))
        highest = np.zeros(len(self.residents))
        np.maximum.at(highest, options.resident, options.cap_w)
        stays_w = holds.fixed_w + holds.steered * highest[holds.resident]
        freed_w = np.zeros(len(holds.pool))
        back = holds.pool >= 0  # a GPU that comes free may be loaded to its top again
        freed_w[back] = holds.freed[back] * pools.loaded_w(
            holds.pool[back], pools.max_cap_w[holds.pool[back]]
        )
        np.add.at(own, holds.leaf, np.maximum(stays_w, holds.empty_w + freed_w))
        return own


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An answer. `option` is the row of the option that each resident takes.

    Starts: `start_job` are job rows, `start_cap_w` their caps; the parts of the i-th start are rows
    `part_start[i] .. part_start[i + 1]` of `part_pool` and `part_gpus`. Certificate: `value` reached, `bound`
    that no answer can beat, `unchanged` (residents as they are, no start), all money per hour.
    `domain_price` is what one more watt under each domain would be worth (money per watt-hour, per column,
    0 where it does not bind); `fallback` names the simpler method that answered, if any.
    """

    option: Ints
    start_job: Ints
    start_group: Ints
    start_cap_w: Floats
    part_start: Ints
    part_pool: Ints
    part_gpus: Ints
    value: float
    bound: float
    unchanged: float
    domain_price: Floats
    solve_s: float
    fallback: str | None = None

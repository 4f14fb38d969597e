"""A snapshot as a placement problem: pools, groups with offers, residents with options, room. In columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from power.arrays import Bools, Ints
from scheduler.placing.candidates import Terraces, groups_of, terraces_of, within_reach
from scheduler.placing.focus import Focus
from scheduler.placing.levels import Boards, boards_of
from scheduler.placing.paths import under_any
from scheduler.placing.plan_gate import plan_gate
from scheduler.placing.pools import PoolMap, base_counts_w, held_by, pools_of
from scheduler.placing.price_gate import PriceGate, price_gate
from scheduler.placing.problem import PlacementProblem, Pools
from scheduler.placing.queue import Queue, eligible_rows, queue_of
from scheduler.placing.reservation import Reservation, nothing_reserved, reserve
from scheduler.placing.residents import Cast, cast_of, movable
from scheduler.placing.shadow import shadow_of
from scheduler.snapshot import Snapshot
from scheduler.windows import Plan


@dataclass(frozen=True, kw_only=True)
class Posed:
    """A problem and what its answer is put into words with.

    `price_held` says by job row why the price or the plan holds a job back; `group_of` is each queue entry's
    group, -1 where it is in none; `short` are domains (columns) whose residents do not fit even at their
    contract floors; in the problem nothing is free under them, in `pools` it still is.
    """

    snapshot: Snapshot
    plan: Plan | None
    problem: PlacementProblem
    pools: PoolMap
    boards: Boards
    gate: PriceGate
    queue: Queue
    terraces: Terraces
    cast: Cast
    group_of: Ints
    reservation: Reservation
    price_held: dict[int, str]

    @property
    def short(self) -> Bools:
        """Per domain column."""
        return self.cast.short

    @cached_property
    def short_pool(self) -> Bools:
        """Per pool: under a domain that is short."""
        return under_any(self.snapshot.tree.index, self.short)[self.problem.pools.leaf]


def build_problem(snapshot: Snapshot, plan: Plan | None = None, focus: Focus | None = None) -> Posed:
    """The snapshot as a placement problem. With a `plan`, deferrable jobs wait for their cheap window; with a
    `focus`, only a part of the jobs is in it and everybody else counts as they are."""
    pools = pools_of(snapshot)
    boards = boards_of(snapshot.jobs.curves, snapshot.gpus.kinds)
    gate = price_gate(snapshot)
    job = eligible_rows(snapshot) if focus is None else focus.waiting(snapshot)
    moving = movable(snapshot)
    if focus is not None:
        moving = moving[focus.jobs[moving]]
    planned = plan_gate(snapshot, plan, job)
    held = gate.shut[job] | planned.held
    price_held = planned.reasons | {row: gate.reason(row) for row in job[gate.shut[job]].tolist()}
    queue = queue_of(snapshot, pools, job, held, planned.planned_now)
    tight = tight_domains(snapshot, pools, moving)
    cast = cast_of(snapshot, pools, boards, gate, moving, top_rank=queue.top_rank(), tight=tight)
    shadow = shadow_of(snapshot, pools, plan)
    terraces = terraces_of(queue, pools, boards, shadow, under_any(snapshot.tree.index, tight))
    reach = within_reach(queue, pools, cast)
    reservation = nothing_reserved(queue, pools) if focus else reserve(queue, pools, cast, terraces)
    groups, offers, group_of = groups_of(queue, terraces, reach, reservation.backfill)
    problem = PlacementProblem(
        index=snapshot.tree.index,
        room_w=cast.room_w,
        pools=_open_pools(pools, reservation, _shut(snapshot, cast, focus)),
        groups=groups,
        offers=offers,
        residents=cast.residents,
        options=cast.options,
        holds=cast.holds,
    )
    return Posed(
        snapshot=snapshot,
        plan=plan,
        problem=problem,
        pools=pools,
        boards=boards,
        gate=gate,
        queue=queue,
        terraces=terraces,
        cast=cast,
        group_of=group_of,
        reservation=reservation,
        price_held=price_held,
    )


def tight_domains(snapshot: Snapshot, pools: PoolMap, rows: Ints) -> Bools:
    """Per domain: limited, and unable to carry every GPU under it that may be loaded at its maximum.

    `rows` are the jobs that may be touched.
    """
    gpus = snapshot.gpus
    moving = np.zeros(len(snapshot.jobs), dtype=bool)
    moving[rows] = True
    loaded = held_by(snapshot, moving) | pools.free | pools.coming
    most_w = np.where(loaded, np.maximum(gpus.max_cap_w, gpus.accounted_w), base_counts_w(pools, loaded))
    return np.asarray(snapshot.tree.index.under(gpus.leaf, most_w) > snapshot.domain_gpu_w + 1e-6, dtype=bool)


def _shut(snapshot: Snapshot, cast: Cast, focus: Focus | None) -> Bools:
    """Per domain: nothing may start right under it."""
    short = under_any(snapshot.tree.index, cast.short)
    return short if focus is None else np.asarray(short | focus.closed, dtype=bool)


def _open_pools(pools: PoolMap, reservation: Reservation, shut_leaf: Bools) -> Pools:
    """Nothing may start under a domain that is short; what is reserved is marked."""
    board = pools.pools
    shut = shut_leaf[board.leaf]
    return replace(
        board,
        reserved=reservation.reserved,
        free=np.where(shut, 0, board.free),
        coming=np.where(shut, 0, board.coming),
    )

"""Who is first in line, and which nodes are kept for it: so that wide gangs do not starve.

EASY backfilling (Lifka 1995): the head of the queue gets the nodes that come free first, as far as is known;
others may use them meanwhile if they are sure to be gone by then. Where nobody knows when running jobs end,
the nodes nearest to empty are drained once the head has waited long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.candidates import Terraces
from scheduler.placing.pools import PoolMap
from scheduler.placing.problem import ANY_SPLIT
from scheduler.placing.queue import NEVER, Queue
from scheduler.placing.residents import Cast

DRAIN_AFTER_S = 3600.0  # grid seconds that the head waits before nodes are kept without a known end
NO_JOB = -1


@dataclass(frozen=True, kw_only=True)
class Seat:
    """The head of the queue for one kind of GPU and the pools kept for it.

    `start_s` is when they are expected to be free (seconds since the epoch): now where they are, infinite
    where nobody knows. `last` is the row of the job whose end that is, NO_JOB if it waits for none.
    """

    entry: int
    kind: int
    pools: Ints
    start_s: float
    last: int


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """All seats; `reserved` per pool, `backfill` per queue entry: may use reserved pools meanwhile."""

    seats: tuple[Seat, ...]
    reserved: Bools
    backfill: Bools


@dataclass(frozen=True)
class Ready:
    """When GPUs come free, as far as is known: in `pool` at `at_s`, by `job`; sorted by pool and time.

    `so_far` counts GPUs of the same pool up to and with this row; `begin` is the first row of each pool.
    """

    pool: Ints
    at_s: Floats
    job: Ints
    so_far: Ints
    begin: Ints

    def pools_at(self, part: int) -> tuple[Floats, Ints]:
        """Per pool: (when it has `part` GPUs, row of this table that completes them)."""
        rows = np.arange(len(self.pool))
        enough = np.where(self.so_far >= part, rows, len(rows))
        first = np.minimum.reduceat(enough, self.begin)
        at = np.minimum(first, len(rows) - 1)
        return np.where(first < len(rows), self.at_s[at], np.inf), at


def nothing_reserved(queue: Queue, pools: PoolMap) -> Reservation:
    """Nobody has a seat."""
    return Reservation(
        seats=(),
        reserved=np.zeros(len(pools.pools), dtype=bool),
        backfill=np.zeros(len(queue.job), dtype=bool),
    )


def reserve(queue: Queue, pools: PoolMap, cast: Cast, terraces: Terraces) -> Reservation:
    """One seat at most for each kind of GPU; the most important first, then the oldest."""
    none = nothing_reserved(queue, pools)
    places = _places_now(queue, pools)
    heads = _heads(queue, terraces, places)
    if not heads:
        return none
    ready = _ready(queue, pools, cast)
    seats: list[Seat] = []
    taken: set[int] = set()
    for entry in heads:
        kinds = set(np.nonzero(queue.fits[queue.kin.gpu_type[queue.kin_of[entry]]])[0].tolist())
        if kinds & taken:
            continue
        seat = _seat(queue, pools, ready, entry, sorted(kinds))
        if seat is not None:
            seats.append(seat)
            taken.add(seat.kind)
    for seat in seats:
        none.reserved[seat.pools] = True
    return Reservation(
        seats=tuple(seats), reserved=none.reserved, backfill=_backfill(queue, terraces, tuple(seats))
    )


def _places_now(queue: Queue, pools: PoolMap) -> Ints:
    """Per kin: how many gangs its free and coming GPUs could take, at least; 0: none."""
    board, kin = pools.pools, queue.kin
    there = board.free + board.coming
    part = np.where(kin.nodes > 0, kin.gpus // np.maximum(kin.nodes, 1), 1)
    places = np.zeros(len(kin), dtype=np.int64)
    for kind in range(queue.fits.shape[1]):
        sizes = np.sort(there[board.kind == kind])
        wide = (len(sizes) - np.searchsorted(sizes, part)) // np.maximum(kin.nodes, 1)
        here = np.where(kin.nodes == ANY_SPLIT, int(sizes.sum()) // kin.gpus, wide)
        places += np.where(queue.fits[kin.gpu_type, kind] & (kin.nodes != NEVER), here, 0)
    return places


def _heads(queue: Queue, terraces: Terraces, places: Ints) -> list[int]:
    """Per gpu type the first entry that lacks GPUs, or is wide, has waited long and has one place left."""
    kin, jobs = queue.kin, queue.snapshot.jobs
    earns = np.zeros(len(kin), dtype=bool)
    earns[terraces.kin[terraces.offered.any(axis=1)]] = True
    waited_s = queue.snapshot.now.timestamp() - jobs.floats("submitted_s")[queue.job]
    wide = (kin.nodes != 1) | (2 * kin.gpus >= _node_size(queue))
    last_place = (places == 1) & wide  # smaller jobs would take it, one by one
    lacks = (places == 0)[queue.kin_of] | (last_place[queue.kin_of] & (waited_s >= DRAIN_AFTER_S))
    entry = np.nonzero(queue.able & lacks & (earns & (kin.nodes != NEVER))[queue.kin_of])[0]
    rank = kin.rank[queue.kin_of[entry]]
    entry = entry[np.argsort(-rank, kind="stable")]
    _, first = np.unique(kin.gpu_type[queue.kin_of[entry]], return_index=True)
    return [int(e) for e in entry[np.sort(first)]]


def _node_size(queue: Queue) -> int:
    """GPUs on the largest node."""
    gpus = queue.snapshot.gpus
    return int(np.bincount(gpus.leaf[gpus.leaf >= 0]).max(initial=1))


def _ready(queue: Queue, pools: PoolMap, cast: Cast) -> Ready:
    snapshot, board, holds = queue.snapshot, pools.pools, cast.holds
    now_s = snapshot.now.timestamp()
    remaining_s = snapshot.jobs.floats("remaining_s")[cast.residents.job]
    with np.errstate(divide="ignore", invalid="ignore"):
        end_s = now_s + remaining_s / cast.speed
    end_s = np.where(np.isnan(end_s) | cast.frozen | cast.forced, np.inf, end_s)
    rows = np.nonzero(holds.pool >= 0)[0]
    every = np.arange(len(board))
    pool = np.concatenate([every, holds.pool[rows]])
    at_s = np.concatenate([np.full(len(every), now_s), end_s[holds.resident[rows]]])
    count = np.concatenate([board.free + board.coming, holds.freed[rows]])
    job = np.concatenate([np.full(len(every), NO_JOB), cast.residents.job[holds.resident[rows]]])
    order = np.lexsort((at_s, pool))
    pool, at_s, count, job = pool[order], at_s[order], count[order], job[order]
    count = np.where(np.isfinite(at_s), count, 0)
    begin = np.searchsorted(pool, every)
    total = np.cumsum(count)
    before = np.concatenate([[0], total])[begin]
    return Ready(pool, at_s, job, total - before[pool], begin)


def _seat(queue: Queue, pools: PoolMap, ready: Ready, entry: int, kinds: list[int]) -> Seat | None:
    """On the kind that can have it first; where nobody knows, nearest to empty, once it has waited."""
    found = [s for kind in kinds if (s := _seat_on(queue, pools, ready, entry, kind)) is not None]
    if not found:
        return None
    seat = min(found, key=lambda s: s.start_s)
    waited_s = queue.snapshot.now.timestamp() - float(
        queue.snapshot.jobs.floats("submitted_s")[queue.job[entry]]
    )
    return seat if math.isfinite(seat.start_s) or waited_s >= DRAIN_AFTER_S else None


def _seat_on(queue: Queue, pools: PoolMap, ready: Ready, entry: int, kind: int) -> Seat | None:
    kin, board = queue.kin, pools.pools
    row = queue.kin_of[entry]
    gpus, nodes = int(kin.gpus[row]), int(kin.nodes[row])
    part = gpus // nodes if nodes != ANY_SPLIT else 0
    mine = np.nonzero((board.kind == kind) & (board.size >= max(1, part)))[0]
    if nodes == ANY_SPLIT:
        at_s, last = _whole(ready, board.size)
    else:
        at_s, last = ready.pools_at(part)
    unknown = board.size - ready.so_far[np.append(ready.begin[1:], len(ready.pool)) - 1]
    # Among equals the tightest; where nothing is known, the one with the fewest GPUs of unknown end.
    order = np.lexsort((board.size[mine], unknown[mine], at_s[mine]))
    enough = _enough(board.size[mine[order]], gpus, nodes)
    if enough is None:
        return None
    chosen = mine[order[:enough]]
    latest = int(chosen[np.argmax(at_s[chosen])])
    start_s = float(at_s[latest])
    job = int(ready.job[last[latest]]) if math.isfinite(start_s) else NO_JOB
    return Seat(entry=entry, kind=kind, pools=np.sort(chosen), start_s=start_s, last=job)


def _enough(size: Ints, gpus: int, nodes: int) -> int | None:
    """How many of these pools, in their order, hold the gang; None if all of them do not."""
    if nodes != ANY_SPLIT:
        return nodes if len(size) >= nodes else None
    total = np.cumsum(size)
    return int(np.searchsorted(total, gpus)) + 1 if len(total) and total[-1] >= gpus else None


def _whole(ready: Ready, size: Ints) -> tuple[Floats, Ints]:
    """Per pool: (when all of it is free, the row that completes it)."""
    end = np.append(ready.begin[1:], len(ready.pool)) - 1
    known = ready.so_far[end] >= size
    return np.where(known, ready.at_s[end], np.inf), end


def _backfill(queue: Queue, terraces: Terraces, seats: tuple[Seat, ...]) -> Bools:
    """Sure to be gone before every seat on a kind that suits it is taken; or ahead of it in the queue."""
    kin, jobs = queue.kin, queue.snapshot.jobs
    slowest = np.full(len(kin), np.inf)
    np.minimum.at(slowest, terraces.kin, terraces.lowest_share)
    with np.errstate(divide="ignore", invalid="ignore"):
        run_s = jobs.floats("remaining_s")[queue.job] / slowest[queue.kin_of]
    end_s = queue.snapshot.now.timestamp() + np.where(np.isnan(run_s), np.inf, run_s)
    may = np.ones(len(queue.job), dtype=bool)
    for seat in seats:
        head = queue.kin_of[seat.entry]
        ahead = (kin.rank > kin.rank[head])[queue.kin_of] | (queue.kin_of == head)
        elsewhere = ~queue.fits[kin.gpu_type, seat.kind][queue.kin_of]
        may &= ahead | elsewhere | ((end_s <= seat.start_s) & np.isfinite(end_s))
    return may

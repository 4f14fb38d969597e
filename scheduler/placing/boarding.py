"""Which GPUs by name each start gets: free ones first, then those that a run is leaving."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from power.arrays import Bools, Ints
from scheduler.placing.build import Posed
from scheduler.placing.pools import NO_POOL, held_by
from scheduler.placing.problem import Act, Choice


@dataclass(frozen=True)
class Boarding:
    """`gpu` are GPU rows, those of the i-th start of the choice at `begin[i] .. begin[i + 1]`; `order` are
    the starts as they are proposed.

    `late` marks starts whose GPUs are not all free yet. `stopped` are the jobs (rows) that leave GPUs to late
    starts, sorted; `heir` are those starts, most GPUs first, at `heir_begin[i] .. heir_begin[i + 1]`.
    """

    gpu: Ints
    begin: Ints
    order: Ints
    late: Bools
    stopped: Ints
    heir: Ints
    heir_begin: Ints

    def heirs(self, job: int) -> Ints:
        """Starts that get the GPUs of a job that is being stopped."""
        at = self._place.get(job)
        return self.heir[:0] if at is None else self.heir[self.heir_begin[at] : self.heir_begin[at + 1]]

    @cached_property
    def _place(self) -> dict[int, int]:
        """Where each stopped job stands in `stopped`."""
        return {job: at for at, job in enumerate(self.stopped.tolist())}

    @cached_property
    def owners(self) -> dict[int, list[int]]:
        """By start: the jobs that hold its GPUs, where any does."""
        found: dict[int, list[int]] = {}
        owner = np.repeat(self.stopped, np.diff(self.heir_begin))
        for start, job in zip(self.heir.tolist(), owner.tolist(), strict=True):
            found.setdefault(start, []).append(job)
        return found


def board(posed: Posed, choice: Choice) -> Boarding:
    """Most important first; who can start at once takes free GPUs before those who must wait anyway."""
    order = _order(posed, choice)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    start = np.repeat(np.arange(len(order)), np.diff(choice.part_start))
    late = _late(posed, choice, start, place)
    gpu = _seated(posed, choice, start, place, late)
    begin = np.concatenate([[0], np.cumsum(choice.part_gpus)])[choice.part_start]
    owner = posed.snapshot.gpus.holder[gpu]
    whose = np.repeat(np.arange(len(order)), np.diff(begin))
    left = np.nonzero(owner >= 0)[0]
    pair, count = np.unique(owner[left] * max(1, len(order)) + place[whose[left]], return_counts=True)
    stopped, heir = pair // max(1, len(order)), order[pair % max(1, len(order))]
    by_share = np.lexsort((-count, stopped))  # stable: the more important of equals
    stopped, heir = stopped[by_share], heir[by_share]
    first = np.nonzero(np.concatenate([[True], stopped[1:] != stopped[:-1]])[: len(stopped)])[0]
    return Boarding(
        gpu=gpu,
        begin=begin,
        order=order,
        late=late,
        stopped=stopped[first],
        heir=heir,
        heir_begin=np.append(first, len(stopped)),
    )


def _order(posed: Posed, choice: Choice) -> Ints:
    """Most important first, then most valuable, then oldest."""
    jobs, rows = posed.snapshot.jobs, choice.start_job
    keys = (jobs.floats("submitted_s")[rows], -jobs.floats("value_per_gpu_h")[rows], -jobs.ints("rank")[rows])
    order: Ints = np.lexsort(keys)
    return order


def _late(posed: Posed, choice: Choice, start: Ints, place: Ints) -> Bools:
    """Per start: the free GPUs are not enough for it after the others. One more in each pool at a time steps
    back, until the rest fits."""
    free, pool = posed.problem.pools.free, choice.part_pool
    late = np.zeros(len(place), dtype=bool)
    rows = np.lexsort((place[start], pool))
    while len(rows):
        over = _so_far(pool[rows], choice.part_gpus[rows]) > free[pool[rows]]
        if not over.any():
            break
        _, first = np.unique(pool[rows[over]], return_index=True)
        late[start[rows[over][first]]] = True
        rows = rows[~late[start[rows]]]
    return late


def _so_far(pool: Ints, gpus: Ints) -> Ints:
    """Running sums by pool, of rows sorted by pool."""
    total = np.cumsum(gpus)
    first = np.searchsorted(pool, pool)
    return np.asarray(total - (total - gpus)[first], dtype=np.int64)


def _seated(posed: Posed, choice: Choice, start: Ints, place: Ints, late: Bools) -> Ints:
    """GPU rows of all parts, in the order of the choice."""
    there, first = _there(posed, choice)
    rows = np.lexsort((place[start], late[start], choice.part_pool))
    pool, gpus = choice.part_pool[rows], choice.part_gpus[rows]
    offset = np.empty(len(rows), dtype=np.int64)
    offset[rows] = first[pool] + _so_far(pool, gpus) - gpus
    count = choice.part_gpus
    within = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    return np.asarray(there[np.repeat(offset, count) + within], dtype=np.int64)


def _there(posed: Posed, choice: Choice) -> tuple[Ints, Ints]:
    """(GPU rows that starts may have, sorted by pool: free, coming, left by those that are stopped; where
    each pool's begin)."""
    snapshot, pools = posed.snapshot, posed.pools
    stops = np.zeros(len(snapshot.jobs), dtype=bool)
    act = posed.problem.options.act[choice.option]
    stops[posed.problem.residents.job[act == int(Act.PREEMPT)]] = True
    turn = np.select([pools.free, pools.coming, held_by(snapshot, stops)], [0, 1, 2], default=3)
    rows = np.nonzero((turn < 3) & (pools.of_gpu != NO_POOL))[0]
    rows = rows[np.lexsort((turn[rows], pools.of_gpu[rows]))]
    return rows, np.searchsorted(pools.of_gpu[rows], np.arange(len(pools.pools)))

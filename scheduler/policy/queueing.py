"""What the queueing policies share: who waits, in which order, at which cap; strict order and EASY backfill.

EASY after Lifka, `The ANL/IBM SP Scheduling System` (JSSPP 1995): the first job that does not fit gets the
earliest start that the known lengths of what runs allow. Later ones start meanwhile if they end before it, or
use only what it will not need. Here that holds for GPUs by node and for watts by domain alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.decision import Decision, Preempt, Start
from scheduler.gpu_table import NOBODY
from scheduler.model import JobState
from scheduler.placing.pools import PoolMap, pools_of
from scheduler.placing.price_gate import price_gate
from scheduler.placing.queue import eligible_rows, type_fits
from scheduler.policy.room import Gang, Room, Seats
from scheduler.snapshot import Snapshot
from scheduler.worth import FULL_SHARE


def queue(snapshot: Snapshot, held: Bools | None = None) -> Ints:
    """Rows of jobs that may start now, by priority, then age. `held` (per job row) are left out.

    So are those whose own price ceiling, or an operator's price rule, keeps them from running.
    """
    jobs, rows = snapshot.jobs, eligible_rows(snapshot)
    shut = price_gate(snapshot).shut
    rows = rows[~(shut if held is None else shut | held)[rows]]
    rows = rows[jobs.ints("run_gpus")[rows] == 0]
    ordered: Ints = rows[np.argsort(-jobs.ints("rank")[rows], kind="stable")]
    return ordered


def strict(snapshot: Snapshot, rows: Ints) -> Decision:
    """Starts in the order of `rows`; the first that has to wait makes all others wait."""
    filling = Filling(snapshot)
    filling.start_until_one_waits(iter(rows.tolist()))
    return filling.decision()


def easy(snapshot: Snapshot, rows: Ints, *, share: float = 1.0) -> Decision:
    """Starts in the order of `rows`, with backfill behind the first that has to wait.

    Args:
        share: of its board's maximum, the cap at which a job starts; more where its contract asks for more.
    """
    filling = Filling(snapshot, share=share)
    waiting = iter(rows.tolist())
    head = filling.start_until_one_waits(waiting)
    if head is not None and filling.room.free.any():
        filling.backfill(list(waiting), head)
    return filling.decision()


@dataclass(frozen=True)
class Caps:
    """At which caps jobs start, where all are held to one share of their boards' maximum (0..1].

    A contract that such a cap would break gets what it needs: `verify` lets nobody start below.
    """

    snapshot: Snapshot
    share: float = 1.0

    @cached_property
    def start_w(self) -> Floats:
        """Jobs x kinds of GPU: the cap of each job there, in whole watts where the board has them."""
        kinds = self.snapshot.gpus.kinds
        least_w = np.array([kind.min_cap_w for kind in kinds], dtype=np.float64)
        most_w = np.array([kind.max_cap_w for kind in kinds], dtype=np.float64)
        if self.share >= 1.0:
            return np.broadcast_to(most_w, (len(self.snapshot.jobs), len(kinds)))
        contract_w = np.ceil(self._contract_share[:, None] * most_w - 1e-6)
        cap_w: Floats = np.maximum(np.floor(self.share * most_w + 1e-6), contract_w)
        return np.clip(cap_w, least_w, most_w)

    @cached_property
    def _contract_share(self) -> Floats:
        """Per job: the least share of its board's maximum that keeps its contract."""
        jobs = self.snapshot.jobs
        floor = np.minimum(jobs.floats("floor_share"), FULL_SHARE)
        shares: Floats = jobs.curves.cap_for(jobs.curve, floor) / jobs.curves.tdp_w[jobs.curve]
        return shares

    def pace(self) -> Floats:
        """Per job: share of its full speed at that cap."""
        jobs = self.snapshot.jobs
        if self.share >= 1.0:
            return np.ones(len(jobs))
        share = np.maximum(self.share, self._contract_share)
        return jobs.curves.throughput(jobs.curve, share * jobs.curves.tdp_w[jobs.curve])


class Filling:
    """One placement in the making: jobs by row, the room that is left, and the starts so far."""

    def __init__(self, snapshot: Snapshot, *, share: float = 1.0) -> None:
        self.snapshot = snapshot
        self.there: PoolMap = pools_of(snapshot)
        self.room = Room.now(self.there)
        self._caps = Caps(snapshot, share)
        self._gpus: list[int] = snapshot.jobs.ints("gpus").tolist()
        self._nodes: list[int] = snapshot.jobs.ints("nodes").tolist()
        self._watts: list[float] = self._caps.start_w.sum(axis=1).tolist()  # grows with the job's caps
        self._kinds = [tuple(np.nonzero(fits)[0].tolist()) for fits in type_fits(snapshot)]
        self._gpu_type: list[int] = snapshot.jobs.gpu_type.tolist()
        self._starts: list[tuple[int, Seats]] = []
        self._no_room: dict[tuple[object, ...], float] = {}  # by shape: the least watts that found no place
        self._never: dict[tuple[object, ...], float] = {}  # and of those too large for the empty site

    # --- single jobs ----------------------------------------------------------------------------------------

    def gang(self, row: int, kinds: Sequence[int] | None = None) -> Gang:
        """What the job asks for; `kinds` narrows the boards."""
        wanted = self._kinds[self._gpu_type[row]] if kinds is None else kinds
        return Gang(self._gpus[row], self._nodes[row], wanted, self._caps.start_w[row])

    def start(self, row: int, *, beside: Room | None = None, kinds: Sequence[int] | None = None) -> bool:
        """Start the job if it fits, and fits into `beside` too, if given. `kinds` narrows the boards."""
        shape = (*self._shape(row), kinds, beside is None)
        if self._no_room.get(shape, math.inf) <= self._watts[row]:
            return False
        seats = (self.room if beside is None else self.room.and_in(beside)).seats(self.gang(row, kinds))
        if seats is None:
            self._no_room[shape] = self._watts[row]  # room only ever shrinks
            return False
        self.room.take(seats)
        if beside is not None:
            beside.take(seats)
        self._starts.append((row, seats))
        return True

    def could_ever(self, row: int) -> bool:
        """Whether it would start on the empty site, under the limits of now."""
        shape = self._shape(row)
        if self._never.get(shape, math.inf) <= self._watts[row]:
            return False
        fits = self._empty.seats(self.gang(row)) is not None
        if not fits:
            self._never[shape] = self._watts[row]
        return fits

    def _shape(self, row: int) -> tuple[object, ...]:
        return self._gpus[row], self._nodes[row], self._gpu_type[row]

    @cached_property
    def _empty(self) -> Room:
        return Room.nobody_there(self.there)

    # --- queues ---------------------------------------------------------------------------------------------

    def start_until_one_waits(self, rows: Iterator[int]) -> int | None:
        """The first that has to wait. One that could not even start on the empty site is passed over."""
        for row in rows:
            if not self.start(row) and self.could_ever(row):
                return row
        return None

    def backfill(self, rows: list[int], head: int) -> None:
        """Starts that do not delay the head: gone before it, or on what it leaves."""
        begins_s, beside = self._reserved(head)
        jobs, free = self.snapshot.jobs, int(self.room.free.sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            lasts_s = (jobs.floats("remaining_s") / self._caps.pace()).tolist()
        for row in rows:
            if self._gpus[row] > free:
                continue
            if self.start(row, beside=None if lasts_s[row] <= begins_s else beside):
                free -= self._gpus[row]
            if not free:
                return

    def _reserved(self, head: int) -> tuple[float, Room]:
        """(seconds until the head may start, what it leaves of the room there will be then).

        Where nobody knows when enough comes free: infinite, and nothing for jobs of unknown length.
        """
        gang, ends_s = self.gang(head), self._gpus_end_s()
        moments = np.unique(ends_s[np.isfinite(ends_s)])
        low, high = 0, len(moments)  # the first moment at which it fits; `high`: none
        while low < high:
            middle = (low + high) // 2
            fits = self.room.with_more(self.there, ends_s <= moments[middle]).seats(gang) is not None
            low, high = (low, middle) if fits else (middle + 1, high)
        if low == len(moments):
            return math.inf, Room(self.room.layout, np.zeros_like(self.room.free), self.room.left_w)
        then = self.room.with_more(self.there, ends_s <= moments[low])
        seats = then.seats(gang)
        if seats is not None:
            then.take(seats)
        return float(moments[low]), then

    def _gpus_end_s(self) -> Floats:
        """Per GPU: seconds until the run on it ends by its owner's guess; infinite where nobody knows."""
        jobs, gpus = self.snapshot.jobs, self.snapshot.gpus
        working = jobs.in_state(JobState.RUNNING, JobState.STARTING) & ~jobs.bools("frozen")
        with np.errstate(divide="ignore", invalid="ignore"):
            ends_s = np.where(working, jobs.floats("remaining_s") / self._caps.pace(), np.nan)
        ends_s = np.where(jobs.in_state(JobState.STOPPING), 0.0, ends_s)
        ends_s = np.append(np.where(np.isnan(ends_s), np.inf, ends_s), np.inf)  # the last: NOBODY's
        counts = gpus.usable & gpus.held & (gpus.reserved == NOBODY)
        per_gpu: Floats = np.where(counts, ends_s[gpus.holder], np.inf)
        return per_gpu

    # --- the answer -----------------------------------------------------------------------------------------

    def decision(self, preempts: tuple[Preempt, ...] = ()) -> Decision:
        """The starts by name of GPU."""
        if not self._starts:
            return Decision(preempts=preempts)
        gpus, ids = self.snapshot.gpus, self.snapshot.jobs.ids
        rows = np.nonzero(self.there.free)[0]
        rows = rows[np.argsort(self.there.of_gpu[rows], kind="stable")]
        next_row = np.searchsorted(self.there.of_gpu[rows], np.arange(len(self.room.free))).tolist()
        starts: list[Start] = []
        for job, seats in self._starts:
            uuids: list[str] = []
            for pool, count in zip(seats.pools.tolist(), seats.counts.tolist(), strict=True):
                taken = rows[next_row[pool] : next_row[pool] + count].tolist()
                uuids += [gpus.uuids[row] for row in taken]
                next_row[pool] += count
            starts.append(Start(job_id=ids[job], gpu_uuids=tuple(uuids), cap_w=seats.cap_w))
        return Decision(starts=tuple(starts), preempts=preempts)

"""Many starts at once: those with nothing odd about them, and those that only wait for GPUs to come free.

A start is plain when every rule that is not about watts holds for it and no other start names one of its
GPUs. Where a domain cannot carry all of them, the most important keep their place, up to the first that does
not fit; what comes after it under that domain waits. All others go one by one, after them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, repeat

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.decision import Resume, Start
from scheduler.gpu_table import NOBODY
from scheduler.snapshot import Snapshot
from scheduler.verify_caps import FULL_SHARE, SHARE_TOLERANCE
from scheduler.verify_room import FITS_W, NOWHERE, Room

UNKNOWN = -1


@dataclass(frozen=True, kw_only=True)
class ManyStarts:
    """Indices of starts, most important first: `passed`, `short` of watts, and `coming`, whose GPUs are not
    all free; `odd` are the others, in the order of the decision.

    `taken` are GPU rows of those that passed; `why_short` says what the i-th of `short` lacks; `missing` is
    the GPU row that the i-th of `coming` waits for.
    """

    passed: Ints
    taken: Ints
    short: Ints
    why_short: Callable[[int], str]
    coming: Ints
    missing: Ints
    odd: Ints


def many_starts(
    starts: Sequence[Start], resumes: Sequence[Resume], snapshot: Snapshot, room: Room
) -> ManyStarts:
    """The watts of those that pass are taken: of none at all where a thaw may come first."""
    if not starts or not len(snapshot.jobs) or not len(snapshot.gpus):
        return _all_odd(len(starts))
    wanted = _Wanted(starts, snapshot)
    missing = wanted.missing()
    coming = wanted.by_importance(missing != UNKNOWN)
    order = wanted.by_importance(wanted.plain() & (not resumes))
    place = np.full(len(starts), UNKNOWN)
    place[order] = np.arange(len(order))
    named = place[wanted.start] >= 0
    shortage = room.take_in_order(
        wanted.gpu[named], wanted.load_w[named], place[wanted.start[named]], len(order)
    )
    passes = shortage.domain == NOWHERE
    lacking = np.nonzero(~passes)[0]
    odd = missing == UNKNOWN
    odd[order] = False
    passed = np.zeros(len(starts), dtype=bool)
    passed[order[passes]] = True
    return ManyStarts(
        passed=order[passes],
        taken=wanted.gpu[passed[wanted.start]],
        short=order[lacking],
        why_short=lambda at: shortage.reason(int(lacking[at])),
        coming=coming,
        missing=missing[coming],
        odd=np.nonzero(odd)[0],
    )


def _all_odd(starts: int) -> ManyStarts:
    none: Ints = np.zeros(0, dtype=np.int64)
    return ManyStarts(
        passed=none,
        taken=none,
        short=none,
        why_short=str,
        coming=none,
        missing=none,
        odd=np.arange(starts),
    )


class _Wanted:
    """All starts in columns: per start its job's row and cap; per named GPU its row, start and load."""

    def __init__(self, starts: Sequence[Start], snapshot: Snapshot) -> None:
        self._snapshot, gpus = snapshot, snapshot.gpus
        row_of, gpu_row = snapshot.jobs.row_of, gpus.row_of
        self.count = np.array([len(start.gpu_uuids) for start in starts])
        self.job = np.array([row_of.get(start.job_id, UNKNOWN) for start in starts])
        self.cap_w = np.array([start.cap_w for start in starts], dtype=np.float64)
        self.start: Ints = np.repeat(np.arange(len(starts)), self.count)
        named = chain.from_iterable(start.gpu_uuids for start in starts)
        self.gpu: Ints = np.fromiter(map(gpu_row.get, named, repeat(UNKNOWN)), np.int64, len(self.start))
        self.known: Bools = (self.gpu >= 0) & (gpus.leaf[self.gpu] >= 0)
        self.load_w: Floats = np.where(
            gpus.settable[self.gpu], self.cap_w[self.start], gpus.max_cap_w[self.gpu]
        )
        self._free: Bools = gpus.usable[self.gpu] & ~gpus.held[self.gpu]
        self._heir: Ints = gpus.reserved[self.gpu]

    def plain(self) -> Bools:
        """Per start: nothing odd about it."""
        suits = self._all_of(self._sound & self._free & (self._heir == NOBODY) & self._cap_within())
        rows: Bools = suits & self._jobs_may & self._spread_evenly() & self._keeps_contract()
        return rows

    def missing(self) -> Ints:
        """Per start: the first of its GPUs that is not free, where that alone decides; else UNKNOWN."""
        mine = (self._heir == NOBODY) | (self._heir == self.job[self.start])
        may = self._all_of(self._sound & mine) & self._jobs_may
        rows = np.nonzero(~self._free & may[self.start])[0][::-1]
        first = np.full(len(self.job), UNKNOWN)
        first[self.start[rows]] = self.gpu[rows]  # the first is written last
        return first

    def by_importance(self, chosen: Bools) -> Ints:
        """Starts that are marked: the highest rank first, then the oldest job."""
        jobs, starts = self._snapshot.jobs, np.nonzero(chosen)[0]
        job = self.job[starts]
        order: Ints = np.lexsort((jobs.floats("submitted_s")[job], -jobs.ints("rank")[job]))
        return starts[order]

    def _all_of(self, suits: Bools) -> Bools:
        """Per start: all its GPUs suit."""
        rows: Bools = np.bincount(self.start[~suits], minlength=len(self.job)) == 0
        return rows

    @cached_property
    def _sound(self) -> Bools:
        """Per named GPU: known, named once, of the right type."""
        gpus, jobs, gpu = self._snapshot.gpus, self._snapshot.jobs, self.gpu
        once = np.bincount(gpu[self.known], minlength=len(gpus))[gpu] == 1
        names = [(wanted or "").lower() for wanted in jobs.gpu_types]
        fits = np.array([[name in kind.model.lower() for kind in gpus.kinds] for name in names], dtype=bool)
        rows: Bools = self.known & once & fits[jobs.gpu_type[self.job[self.start]], gpus.kind[gpu]]
        return rows

    def _cap_within(self) -> Bools:
        """Per named GPU: the cap is within the range of its board."""
        gpus, gpu, cap_w = self._snapshot.gpus, self.gpu, self.cap_w[self.start]
        rows: Bools = (gpus.min_cap_w[gpu] - FITS_W <= cap_w) & (cap_w <= gpus.max_cap_w[gpu] + FITS_W)
        return rows

    @cached_property
    def _jobs_may(self) -> Bools:
        """Per start: its job waits, may start at this price, is named once, and is given as many GPUs as it
        asks for."""
        jobs, job, price = self._snapshot.jobs, self.job, self._snapshot.price_per_mwh
        may = jobs.waiting & (jobs.ints("run_gpus") == 0) & jobs.bools("eligible")
        if price is not None:
            may &= jobs.bools("started") | ~(jobs.floats("ceiling_per_mwh") < price)
        once = np.bincount(job[job >= 0], minlength=len(jobs))[job] == 1
        rows: Bools = (job >= 0) & may[job] & once & (self.count == jobs.ints("gpus")[job])
        return rows

    def _spread_evenly(self) -> Bools:
        """Per start: on as many nodes as the job asks for, in equal parts; on any where it asks for one."""
        nodes = self._snapshot.jobs.ints("nodes")[self.job]
        domains = len(self._snapshot.tree.index.names)
        part, size = np.unique(self.start * domains + self._snapshot.gpus.leaf[self.gpu], return_counts=True)
        start = part // domains
        uneven = size * nodes[start] != self.count[start]
        even = np.bincount(start[uneven], minlength=len(self.job)) == 0
        rows: Bools = (nodes == 1) | (even & (np.bincount(start, minlength=len(self.job)) == nodes))
        return rows

    def _keeps_contract(self) -> Bools:
        """Per start: fast enough at the pace of the slowest board."""
        snapshot, jobs = self._snapshot, self._snapshot.jobs
        largest_w = np.ones(len(self.job))
        np.maximum.at(largest_w, self.start, snapshot.gpus.max_cap_w[self.gpu])
        curve = jobs.curve[self.job]
        with np.errstate(over="ignore", invalid="ignore"):  # absurd caps are refused by their range
            share = jobs.curves.throughput(curve, self.cap_w / largest_w * jobs.curves.tdp_w[curve])
        most = np.where(jobs.bools("gives_nothing")[self.job], FULL_SHARE, 1.0)
        floor = np.minimum(jobs.floats("floor_share")[self.job], most)
        rows: Bools = share >= floor - SHARE_TOLERANCE
        return rows

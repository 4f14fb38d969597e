"""Many starts at once: those with nothing odd about them. The others go one by one, after them.

A start is plain when every rule that is not about watts holds for it and no other start names one of its
GPUs. Where a domain cannot carry all of them, the most important keep their place, up to the first that does
not fit; what comes after it under that domain waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.decision import Resume, Start
from scheduler.gpu_table import NOBODY
from scheduler.snapshot import Snapshot
from scheduler.verify_caps import FULL_SHARE, SHARE_TOLERANCE
from scheduler.verify_room import FITS_W, Room

UNKNOWN = -1


class PlainStarts(NamedTuple):
    """Indices of starts: those that pass, most important first, and why others lack watts."""

    passed: tuple[int, ...]
    short: Mapping[int, str]


def plain_starts(
    starts: Sequence[Start], resumes: Sequence[Resume], snapshot: Snapshot, room: Room
) -> PlainStarts:
    """The plain ones; the watts of those that pass are taken. None at all where a thaw may come first."""
    if not starts or resumes or not len(snapshot.jobs) or not len(snapshot.gpus):
        return PlainStarts((), {})
    wanted = _Wanted(starts, snapshot)
    plain = np.nonzero(wanted.plain())[0]
    order = plain[np.lexsort((wanted.submitted_s()[plain], -wanted.rank()[plain]))]
    place = np.full(len(starts), UNKNOWN)
    place[order] = np.arange(len(order))
    named = place[wanted.start] >= 0
    short = room.take_in_order(
        wanted.gpu[named], wanted.load_w[named], place[wanted.start[named]], len(order)
    )
    reasons = {int(order[at]): why for at, why in short.items()}
    return PlainStarts(tuple(index for index in order.tolist() if index not in reasons), reasons)


class _Wanted:
    """All starts in columns: per start its job's row and cap; per named GPU its row, start and load."""

    def __init__(self, starts: Sequence[Start], snapshot: Snapshot) -> None:
        self._snapshot, gpus = snapshot, snapshot.gpus
        row_of, gpu_row = snapshot.jobs.row_of, gpus.row_of
        self.count = np.array([len(start.gpu_uuids) for start in starts])
        self.job = np.array([row_of.get(start.job_id, UNKNOWN) for start in starts])
        self.cap_w = np.array([start.cap_w for start in starts], dtype=np.float64)
        self.start: Ints = np.repeat(np.arange(len(starts)), self.count)
        named = [gpu_row.get(uuid, UNKNOWN) for start in starts for uuid in start.gpu_uuids]
        self.gpu: Ints = np.array(named, dtype=np.int64)
        self.known: Bools = (self.gpu >= 0) & (gpus.leaf[self.gpu] >= 0)
        self.load_w: Floats = np.where(
            gpus.settable[self.gpu], self.cap_w[self.start], gpus.max_cap_w[self.gpu]
        )

    def plain(self) -> Bools:
        """Per start: nothing odd about it."""
        each: Bools = self._gpus_suit()
        suits = np.bincount(self.start[~each], minlength=len(self.job)) == 0
        rows: Bools = suits & (self.job >= 0) & self._jobs_may() & self._keeps_contract()
        return rows

    def _gpus_suit(self) -> Bools:
        """Per named GPU: free, kept for nobody, named once, of the right type, the cap within its range."""
        gpus, jobs, gpu = self._snapshot.gpus, self._snapshot.jobs, self.gpu
        once = np.bincount(gpu[self.known], minlength=len(gpus))[gpu] == 1
        free = gpus.usable[gpu] & ~gpus.held[gpu] & (gpus.reserved[gpu] == NOBODY)
        names = [(wanted or "").lower() for wanted in jobs.gpu_types]
        fits = np.array([[name in kind.model.lower() for kind in gpus.kinds] for name in names], dtype=bool)
        of_type = fits[jobs.gpu_type[self.job[self.start]], gpus.kind[gpu]]
        cap_w = self.cap_w[self.start]
        within = (gpus.min_cap_w[gpu] - FITS_W <= cap_w) & (cap_w <= gpus.max_cap_w[gpu] + FITS_W)
        rows: Bools = self.known & once & free & of_type & within
        return rows

    def _jobs_may(self) -> Bools:
        """Per start: its job waits, may start at this price, is named once, and has all its GPUs."""
        jobs, job, price = self._snapshot.jobs, self.job, self._snapshot.price_per_mwh
        off = jobs.waiting & (jobs.ints("run_gpus") == 0) & jobs.bools("eligible")
        ceiling = jobs.floats("ceiling_per_mwh")
        too_dear = (
            np.zeros(len(jobs), dtype=bool) if price is None else ~jobs.bools("started") & (ceiling < price)
        )
        once = np.bincount(job[job >= 0], minlength=len(jobs))[job] == 1
        whole = self.count == jobs.ints("gpus")[job]
        rows: Bools = (off & ~too_dear)[job] & once & whole & self._spread_evenly()
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

    def rank(self) -> Ints:
        """Per start: how important its job is."""
        return np.asarray(self._snapshot.jobs.ints("rank")[self.job], dtype=np.int64)

    def submitted_s(self) -> Floats:
        """Per start: when its job came."""
        return np.asarray(self._snapshot.jobs.floats("submitted_s")[self.job], dtype=np.float64)

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

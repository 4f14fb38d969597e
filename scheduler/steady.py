"""Keeps caps from flapping, and a thaw from waiting for watts. Pure.

Lowerings are never held back. Raises have a threshold of their own, and where a domain has regained many
watts at once (a target has ended, an emergency is over) they come back in stages: the most important jobs
first, among equals those held down furthest, a bounded share of the domain's watts per turn. Each job then
rises once, all the way. That one GPU rises at most once per settle time is the cap book's affair (`act.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from power.arrays import Bools, Floats
from power.cap_scarce import Holdings, Parts, Scarce
from power.cap_yielding import queue_before
from scheduler.decision import Decision, Resume
from scheduler.decision_tables import CapTable
from scheduler.snapshot import Snapshot

RAISE_AT_LEAST_W: Final = 3.0  # one percent of a 300 W board, about the noise of its reading
STAGE_SHARE: Final = 0.25  # of a limited domain's watts: so much may rise in one turn
_FITS_W = 1e-6


def steady(decision: Decision, snapshot: Snapshot) -> Decision:
    """The decision with small raises held at the cap in force, and large restorations in stages."""
    caps = decision.caps
    table = caps if isinstance(caps, CapTable) else CapTable.of(snapshot.jobs.ids, caps)
    raises = _Raises(table, snapshot)
    held = raises.small | raises.later
    return replace(decision, caps=table.with_caps_w(np.where(held, raises.now_w, table.cap_w)))


def thawed_as_they_are(decision: Decision, snapshot: Snapshot) -> Decision:
    """Frozen jobs resume at the cap in force, which needs no watts; the cap step then raises them.

    Otherwise a thaw would wait for others to settle lower, while those see no reason to.
    """

    def as_it_is(resume: Resume) -> Resume:
        # An answer may be older than the picture: its job may have ended, its GPU may be gone.
        row = snapshot.jobs.row_of.get(resume.job_id)
        if row is None:
            return resume
        known_w = snapshot.gpus.confirmed_cap_w[snapshot.gpu_rows(row)]
        least_w = np.min(known_w, initial=resume.cap_w, where=~np.isnan(known_w))
        return replace(resume, cap_w=float(least_w))

    return replace(decision, resumes=tuple(as_it_is(resume) for resume in decision.resumes))


@dataclass(frozen=True)
class _Raises:
    """The caps proposed against those in force; columns follow the table's entries."""

    table: CapTable
    snapshot: Snapshot

    @cached_property
    def _range_w(self) -> tuple[Floats, Floats, Floats]:
        """Of each entry's GPUs: lowest and highest cap in force (NaN where one is unknown), lowest top."""
        gpus = self.snapshot.gpus
        held = gpus.holder >= 0
        holder, cap_w = gpus.holder[held], gpus.confirmed_cap_w[held]
        jobs = len(self.snapshot.jobs)
        lowest_w, highest_w, top_w = np.full(jobs, np.inf), np.full(jobs, -np.inf), np.full(jobs, np.inf)
        with np.errstate(invalid="ignore"):  # an unknown cap makes both unknown
            np.minimum.at(lowest_w, holder, cap_w)
            np.maximum.at(highest_w, holder, cap_w)
        np.minimum.at(top_w, holder, gpus.max_cap_w[held])
        job = self.table.job
        return lowest_w[job], highest_w[job], top_w[job]

    @property
    def now_w(self) -> Floats:
        """The lowest cap in force among the job's GPUs."""
        return self._range_w[0]

    @cached_property
    def small(self) -> Bools:
        """All GPUs at one cap, and the new one hardly above it.

        The last watts up to the board's own top are worth having: a job that gives nothing away reaches it.
        """
        lowest_w, highest_w, top_w = self._range_w
        cap_w = self.table.cap_w
        near = (highest_w <= cap_w) & (cap_w < lowest_w + RAISE_AT_LEAST_W)
        small: Bools = near & (lowest_w == highest_w) & (cap_w < top_w)
        return small

    @cached_property
    def later(self) -> Bools:
        """Raises that wait for a later stage."""
        later = np.zeros(len(self.table), dtype=bool)
        index, gpus, snapshot = self.snapshot.tree.index, self.snapshot.gpus, self.snapshot
        rise_w = self._rise_w
        stage_w = np.where(np.isfinite(snapshot.domain_gpu_w), STAGE_SHARE * snapshot.domain_gpu_w, np.inf)
        restoring = index.under(gpus.leaf, rise_w) > stage_w + _FITS_W
        if not restoring.any():
            return later
        scarce = Scarce.of(index, restoring, stage_w)
        entry = np.full(len(snapshot.jobs) + 1, -1)
        entry[self.table.job] = np.arange(len(self.table))
        rising = np.nonzero(rise_w > 0)[0]
        holdings = Holdings(entry[gpus.holder[rising]], gpus.leaf[rising], rise_w[rising])
        parts = Parts.of(holdings, scarce, len(self.table))
        for job, domain, watts, before_w in queue_before(parts, scarce, self._turn):
            later[job[(before_w > 0) & (before_w + watts > scarce.available_w[domain] + _FITS_W)]] = True
        return later

    @cached_property
    def _rise_w(self) -> Floats:
        """Per GPU: watts more than the cap in force, where that is not small and there is room for it now.

        A raise that `verify` will refuse for want of room must not keep others waiting.
        """
        snapshot, gpus, index = self.snapshot, self.snapshot.gpus, self.snapshot.tree.index
        target_w = np.full(len(snapshot.jobs) + 1, np.nan)  # the last: NOBODY's
        target_w[self.table.job[~self.small]] = self.table.cap_w[~self.small]
        rise_w = np.where(gpus.settable, np.nan_to_num(target_w[gpus.holder] - gpus.confirmed_cap_w), 0.0)
        rise_w = np.maximum(rise_w, 0.0)
        room_w = snapshot.domain_gpu_w - index.under(gpus.leaf, gpus.accounted_w)
        for columns in index.by_depth[1:]:
            room_w[columns] = np.minimum(room_w[columns], room_w[index.parent[columns]])
        cramped = (rise_w > room_w[gpus.leaf]) & (gpus.leaf >= 0)
        no_room = np.zeros(len(target_w), dtype=bool)
        no_room[gpus.holder[cramped]] = True
        waits: Floats = np.where(no_room[gpus.holder] | (gpus.leaf < 0), 0.0, rise_w)
        return waits

    @cached_property
    def _turn(self) -> Floats:
        """Per entry: its place in the order of restoring."""
        rank = self.snapshot.jobs.ints("rank")[self.table.job]
        order = np.lexsort((self.now_w / self.table.cap_w, -rank))
        turn = np.empty(len(order))
        turn[order] = np.arange(len(order))
        return turn

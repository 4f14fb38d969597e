"""After a few changes on a large site: which jobs a placement looks at, while everybody else stays as is.

One job that arrives or ends does not call for a new look at a hundred thousand GPUs. Looked at are the jobs
that came to wait, the most important of those that waited already if GPUs came free, and running jobs that
could make room. The whole is solved anew every few placements, and whenever more has changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from power.arrays import Bools, Ints
from scheduler.snapshot import Snapshot

LARGE: Final = 2048  # GPUs; below it the whole is solved as fast
FEW_JOBS: Final = 32  # that came to wait
FEW_GPUS: Final = 128  # that came free
IN_A_ROW: Final = 8  # placements that look at a part, then one that looks at everything
ASKED_AGAIN: Final = 128  # waiting jobs that are asked again when GPUs came free
LIMIT_S: Final = 0.02  # for finding prices: the answer is needed now, and the whole is solved again soon
MAKE_ROOM: Final = 128  # running jobs that could be stopped, and as many whose caps could be lowered


@dataclass(frozen=True, kw_only=True)
class Focus:
    """`jobs` (per job row) may start or be touched; nothing starts on the nodes in `closed` (per domain)."""

    jobs: Bools
    closed: Bools

    @property
    def scope(self) -> str:
        """For the certificate: what it covers."""
        return (
            f"one change: {int(self.jobs.sum())} of {len(self.jobs)} jobs looked at, the others as they are"
        )

    def waiting(self, snapshot: Snapshot) -> Ints:
        """Rows of those that may start, oldest first."""
        rows = np.nonzero(self.jobs & _waiting(snapshot))[0]
        oldest: Ints = rows[np.argsort(snapshot.jobs.floats("submitted_s")[rows], kind="stable")]
        return oldest


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What a placement leaves for the next: who waited, what was free, and the nodes kept for the head.

    `waited` is per row of the jobs it saw, `id_hash` and `row_of` say whose they are. `stopped` are jobs that
    it stopped itself: they wait again, and that is no news. `in_a_row` counts the placements since everything
    was looked at.
    """

    id_hash: Ints
    row_of: Mapping[str, int]
    waited: Bools
    stopped: frozenset[str]
    free: Bools  # per GPU
    limits_w: tuple[float, ...]
    closed: Bools
    in_a_row: int

    def expects(self, job_id: str) -> bool:
        """Whether it is no news that this job waits."""
        row = self.row_of.get(job_id)
        return job_id in self.stopped or (row is not None and bool(self.waited[row]))


def looked_at(
    snapshot: Snapshot,
    last: Looked | None,
    *,
    closed: Bools,
    stopped: Sequence[str],
    whole: bool,
) -> Looked:
    """What is to be remembered of this placement."""
    return Looked(
        id_hash=snapshot.jobs.ints("id_hash"),
        row_of=snapshot.jobs.row_of,
        waited=_waiting(snapshot),
        stopped=frozenset(stopped),
        free=snapshot.gpus.free,
        limits_w=tuple(snapshot.domain_limit_w[np.isfinite(snapshot.domain_limit_w)].tolist()),
        closed=closed,
        in_a_row=0 if whole or last is None else last.in_a_row + 1,
    )


def focus_on(snapshot: Snapshot, last: Looked | None, *, large: int = LARGE) -> Focus | None:
    """The part to look at; None = everything. A site of fewer than `large` GPUs is always looked at whole."""
    if last is None or len(snapshot.gpus) < large or last.in_a_row >= IN_A_ROW:
        return None
    limits_w = tuple(snapshot.domain_limit_w[np.isfinite(snapshot.domain_limit_w)].tolist())
    if limits_w != last.limits_w or len(last.free) != len(snapshot.gpus):
        return None
    arrived = _arrived(snapshot, last)
    freed = snapshot.gpus.free & ~last.free
    if len(arrived) > FEW_JOBS or int(freed.sum()) > FEW_GPUS:
        return None
    jobs = np.zeros(len(snapshot.jobs), dtype=bool)
    jobs[arrived] = True
    if freed.any():
        jobs[_most_important(snapshot)] = True
    jobs[_could_make_room(snapshot, np.nonzero(jobs)[0])] = True
    return Focus(jobs=jobs, closed=last.closed)


def _arrived(snapshot: Snapshot, last: Looked) -> Ints:
    """Rows of the jobs that came to wait: nearly all others are where they were, and need no look-up."""
    ids, id_hash = snapshot.jobs.ids, snapshot.jobs.ints("id_hash")
    both = min(len(id_hash), len(last.id_hash))
    stayed = np.zeros(len(ids), dtype=bool)
    stayed[:both] = last.waited[:both] & (id_hash[:both] == last.id_hash[:both])
    others = np.nonzero(_waiting(snapshot) & ~stayed)[0]
    return np.array([row for row in others.tolist() if not last.expects(ids[row])], dtype=np.int64)


def _waiting(snapshot: Snapshot) -> Bools:
    """Per job: waits and may start."""
    rows: Bools = snapshot.jobs.waiting & snapshot.jobs.bools("eligible")
    return rows


def _most_important(snapshot: Snapshot) -> Ints:
    """Waiting jobs by rank, then the oldest; none larger than what is free."""
    jobs = snapshot.jobs
    rows = np.nonzero(_waiting(snapshot) & (jobs.ints("gpus") <= int(snapshot.gpus.free.sum())))[0]
    rank = jobs.ints("rank")[rows]
    if len(rows) > ASKED_AGAIN:
        rows = rows[rank >= np.partition(rank, -ASKED_AGAIN)[-ASKED_AGAIN]]
    order = np.lexsort((jobs.floats("submitted_s")[rows], -jobs.ints("rank")[rows]))
    return rows[order[:ASKED_AGAIN]]


def _could_make_room(snapshot: Snapshot, wanting: Ints) -> Ints:
    """Running jobs below the highest rank that wants something, those nearest in size to what it asks for
    first; and the largest of all, whose caps have the most watts to give."""
    jobs = snapshot.jobs
    if not len(wanting):
        return np.zeros(0, dtype=np.int64)
    rows = np.nonzero(snapshot.complete)[0]
    rank, gpus = jobs.ints("rank")[rows], jobs.ints("gpus")[rows]
    top = int(jobs.ints("rank")[wanting].max())
    size = int(jobs.ints("gpus")[wanting[np.argmax(jobs.ints("rank")[wanting])]])
    lower = np.nonzero(rank < top)[0]
    order = np.lexsort((np.abs(gpus[lower] - size), rank[lower]))
    largest = np.argsort(-gpus, kind="stable")
    return np.concatenate([rows[lower[order[:MAKE_ROOM]]], rows[largest[:MAKE_ROOM]]])

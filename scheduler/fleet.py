"""All GPUs and jobs in columns that change a little each second, and freeze into a `Snapshot`.

The controller holds one. It writes what is new (readings of all GPUs at once, the few jobs that changed) and
asks for the picture: no object is built for what stayed as it was. A snapshot shares nothing with it that
changes later.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from power.accounting import AccountingRules, Load, account
from power.arrays import Bools, Floats, Ints
from power.budget import PowerTree
from power.curve import prior
from power.device import GpuInfo
from power.readings import Readings
from power.tree_index import OUTSIDE
from scheduler.gpu_table import NOBODY, GpuKind, GpuTable
from scheduler.job_columns import JobColumns
from scheduler.job_table import Column, JobTable, JobView
from scheduler.model import Run
from scheduler.snapshot import Snapshot

_NO_ROWS: Ints = np.zeros(0, dtype=np.int64)


class Kept(NamedTuple):
    """A GPU kept for a job that is to start on it at this cap."""

    job_id: str
    cap_w: float


class Fleet:
    """GPUs in the order given, for good; jobs in the order of arrival (see `JobColumns`).

    The order of rows says nothing: decisions break ties by age. What is remembered of a GPU beside its last
    reading: what it drew when last proven empty, and when a run of ours was last on it. Marks (`mark_...`)
    are told whole each time: what is not named is not marked.
    """

    def __init__(
        self, tree: PowerTree, boards: Sequence[GpuInfo], *, rules: AccountingRules, settling_s: float
    ) -> None:
        """`settling_s`: how long after a run's end its watts and processes may still be on a GPU."""
        self._tree, self._rules, self._settling_s = tree, rules, settling_s
        self.uuids = tuple(board.uuid for board in boards)
        self._row_of = {uuid: row for row, uuid in enumerate(self.uuids)}
        codes: dict[GpuKind, int] = {}
        kinds = (GpuKind(model=b.model, min_cap_w=b.min_cap_w, max_cap_w=b.max_cap_w) for b in boards)
        self._kind = np.array([codes.setdefault(kind, len(codes)) for kind in kinds], dtype=np.int64)
        self._kinds = tuple(codes)
        hangs_on = dict(zip(tree.index.gpu_uuids, tree.index.leaf.tolist(), strict=True))
        self._leaf = np.array([hangs_on.get(uuid, OUTSIDE) for uuid in self.uuids], dtype=np.int64)
        self._min_cap_w = self._per_kind([kind.min_cap_w for kind in self._kinds])
        self._max_cap_w = self._per_kind([kind.max_cap_w for kind in self._kinds])

        count = len(self.uuids)
        self._readings = Readings.nothing(count)
        self._idle_w = self._per_kind([_idle_draw_w(kind, rules) for kind in self._kinds])
        self._held_at_s = np.full(count, -math.inf)
        self._cordoned = np.zeros(count, dtype=bool)
        self._settable = np.ones(count, dtype=bool)
        self._unsettled_w = np.zeros(count)
        self._kept: dict[int, Kept] = {}

        self._jobs = JobColumns()
        self._gpu_rows: list[Ints] = []  # by row of the job: GPUs that its run holds
        self._holder = np.full(count, NOBODY, dtype=np.int64)
        self._claims = np.zeros(count, dtype=np.int64)
        self._contested = False  # some GPU is, or was, claimed by two runs

    # --- jobs -----------------------------------------------------------------------------------------------

    def put_job(self, view: JobView) -> None:
        """A new job, or one of which something changed."""
        before = self._jobs.row(view.job.id)
        row = self._jobs.put(view)
        held = self._rows_of_run(view.job.run)
        if before is None:
            self._gpu_rows.append(_NO_ROWS)
        elif np.array_equal(self._gpu_rows[row], held):
            return
        self._release(row)
        self._gpu_rows[row] = held
        self._claims[held] += 1
        self._contested |= bool((self._claims[held] > 1).any())
        self._holder[held] = row

    def put_figures(self, name: str, job_ids: Sequence[str], values: Column) -> None:
        """What changes by itself as jobs run or wait, for many at once: a column of `JOB_COLUMNS`."""
        self._jobs.put_figures(name, job_ids, values)

    def drop_job(self, job_id: str) -> None:
        """A job that has ended. Raises KeyError for an unknown one."""
        row = self._jobs.drop(job_id)
        self._release(row)
        last = self._gpu_rows.pop()
        if row < len(self._gpu_rows):
            self._gpu_rows[row] = last
            self._holder[last] = row

    def _rows_of_run(self, run: Run | None) -> Ints:
        """GPUs that are not there any more are left out."""
        if run is None:
            return _NO_ROWS
        return np.array([self._row_of[u] for u in run.gpu_uuids if u in self._row_of], dtype=np.int64)

    def _release(self, row: int) -> None:
        held = self._gpu_rows[row]
        self._claims[held] -= 1
        self._contested |= bool((self._claims[held] > 0).any())
        self._holder[held] = NOBODY

    def _settle_claims(self) -> None:
        """Of two runs that claim one GPU, that of the oldest job holds it."""
        jobs = [self._jobs.job(row) for row in range(len(self._jobs))]
        by_age = sorted(range(len(jobs)), key=lambda row: (jobs[row].submitted_at, jobs[row].id))
        for row in reversed(by_age):
            self._holder[self._gpu_rows[row]] = row
        self._contested = bool((self._claims > 1).any())

    # --- GPUs -----------------------------------------------------------------------------------------------

    def put_readings(self, readings: Readings, rows: Ints | None = None) -> None:
        """The newest look at all GPUs, or at some rows of them."""
        self._readings.put(slice(None) if rows is None else rows, readings)

    def mark_cordoned(self, uuids: Iterable[str]) -> None:
        """These take no new runs."""
        self._cordoned = self._marked(uuids)

    def mark_fixed(self, uuids: Iterable[str]) -> None:
        """The limits of these cannot be set."""
        self._settable = ~self._marked(uuids)

    def mark_unsettled(self, caps_w: Mapping[str, float]) -> None:
        """Lowered a moment ago: until it has settled, a GPU counts as at the cap it had before."""
        self._unsettled_w = np.zeros(len(self.uuids))
        for uuid, cap_w in caps_w.items():
            if uuid in self._row_of:
                self._unsettled_w[self._row_of[uuid]] = cap_w

    def mark_kept(self, kept: Mapping[str, Kept]) -> None:
        """Kept for a start that waits for room: they count at its cap already."""
        self._kept = {self._row_of[uuid]: what for uuid, what in kept.items() if uuid in self._row_of}

    def _marked(self, uuids: Iterable[str]) -> Bools:
        marked = np.zeros(len(self.uuids), dtype=bool)
        marked[[self._row_of[uuid] for uuid in uuids if uuid in self._row_of]] = True
        return marked

    def _per_kind(self, values: Sequence[float]) -> Floats:
        return np.array(values, dtype=np.float64)[self._kind]

    # --- the picture ----------------------------------------------------------------------------------------

    def snapshot(self, *, monotonic_s: float, **others: Any) -> Snapshot:
        """As everything is now; `others` are the remaining fields of `Snapshot`."""
        if self._contested:
            self._settle_claims()
        jobs = self._jobs.table()
        return Snapshot(tree=self._tree, jobs=jobs, gpus=self._gpu_table(jobs, monotonic_s), **others)

    def _gpu_table(self, jobs: JobTable, now_s: float) -> GpuTable:
        readings, held = self._readings, self._holder != NOBODY
        cap_w = readings.enforced_cap_w
        figure = account(
            readings,
            min_cap_w=self._min_cap_w,
            max_cap_w=self._max_cap_w,
            confirmed_cap_w=np.maximum(cap_w, self._unsettled_w),  # unknown stays unknown
            has_run=held,
            now_s=now_s,
            rules=self._rules,
        )
        self._idle_w = np.where(figure.are(Load.EMPTY), figure.watts, self._idle_w)
        self._held_at_s[held] = now_s
        reserved, counted_w = self._reserved(jobs, figure.watts)
        return GpuTable(
            uuids=self.uuids,
            row_of=self._row_of,
            kinds=self._kinds,
            kind=self._kind,
            leaf=self._leaf,
            confirmed_cap_w=_finite(cap_w),
            accounted_w=counted_w,
            idle_w=self._idle_w,
            draw_w=_finite(readings.power_w),
            settable=self._settable,
            healthy=~figure.are(Load.UNKNOWN),
            cordoned=self._cordoned,
            foreign=figure.are(Load.FOREIGN),
            settling=~held & (now_s < self._held_at_s + self._settling_s),
            held=held,
            holder=self._holder.copy(),
            reserved=reserved,
            run_ids=jobs.run_ids,
            job_ids=jobs.ids,
            strangers={},
        )

    def _reserved(self, jobs: JobTable, counted_w: Floats) -> tuple[Ints, Floats]:
        """(job row that each GPU is kept for, watts counted with what is promised to it)."""
        reserved = np.full(len(self.uuids), NOBODY, dtype=np.int64)
        for row, kept in self._kept.items():
            reserved[row] = jobs.row_of.get(kept.job_id, NOBODY)
            counted_w[row] = max(counted_w[row], kept.cap_w)
        return reserved, counted_w


def _idle_draw_w(kind: GpuKind, rules: AccountingRules) -> float:
    """What a board that was never seen empty draws at rest, by the curve of its model."""
    curve = prior(kind.model, min_cap_w=kind.min_cap_w, max_cap_w=kind.max_cap_w)
    return min(kind.min_cap_w, curve.idle_w + rules.idle_margin_w)


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)

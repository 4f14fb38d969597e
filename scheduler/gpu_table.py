"""All GPUs of a decision's picture in columns; one of them, when asked for, as a `GpuView`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.tree_index import OUTSIDE, TreeIndex

NOBODY = -1  # no job's row


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuView:
    """One GPU as the decision must account it.

    `accounted_w` is the worst case now: its confirmed cap under load, idle + margin when proven empty,
    its maximum when unknown, stale or lost. `settable` is False where the limit cannot be changed.
    """

    uuid: str
    model: str
    min_cap_w: float
    max_cap_w: float
    confirmed_cap_w: float | None
    accounted_w: float
    idle_w: float  # measured idle + margin: what it counts when proven empty
    draw_w: float | None
    settable: bool
    healthy: bool
    cordoned: bool
    run_id: str | None  # the run that holds it
    foreign: bool = False  # processes on it that are not ours
    settling: bool = False  # a run of ours left it moments ago: its watts and processes are on their way out
    reserved_for: str | None = None  # a job for which it is kept, until that job starts

    @property
    def free(self) -> bool:
        """May take a new run (of the job that it is kept for, if any)."""
        return self.healthy and not self.cordoned and self.run_id is None and not self.foreign


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuKind:
    """GPUs on which a job behaves the same: one board model with one range of caps."""

    model: str
    min_cap_w: float
    max_cap_w: float

    @classmethod
    def of(cls, gpu: GpuView) -> GpuKind:
        return cls(model=gpu.model, min_cap_w=gpu.min_cap_w, max_cap_w=gpu.max_cap_w)


@dataclass(frozen=True, kw_only=True)
class GpuTable(Sequence[GpuView]):
    """One row per GPU. Unknown figures are NaN. `holder` and `reserved` are rows of the job table.

    `held` is True for every GPU with a run, even one whose job is not in the picture.
    """

    uuids: tuple[str, ...]
    row_of: Mapping[str, int]  # by UUID
    kinds: tuple[GpuKind, ...]
    kind: Ints  # index into kinds
    leaf: Ints  # column of its power domain, OUTSIDE if it hangs on none
    confirmed_cap_w: Floats
    accounted_w: Floats
    idle_w: Floats
    draw_w: Floats
    settable: Bools
    healthy: Bools
    cordoned: Bools
    foreign: Bools
    settling: Bools
    held: Bools
    holder: Ints
    reserved: Ints
    run_ids: Mapping[int, str]  # by row of the job table; NOBODY never occurs
    job_ids: Sequence[str]
    strangers: Mapping[int, str]  # run id by GPU row, where the run's job is not in the picture

    @classmethod
    def of(
        cls, views: Iterable[GpuView], index: TreeIndex, *, run_ids: Mapping[int, str], job_ids: Sequence[str]
    ) -> GpuTable:
        """From single views; `run_ids` and `job_ids` say which job's row a run and a job have."""
        rows = tuple(views)
        job_row = {job_id: row for row, job_id in enumerate(job_ids)}
        row_of_run = {run_id: row for row, run_id in run_ids.items()}
        kinds: dict[GpuKind, int] = {}
        kind = [kinds.setdefault(GpuKind.of(gpu), len(kinds)) for gpu in rows]
        tree_leaf = dict(zip(index.gpu_uuids, index.leaf.tolist(), strict=True))
        holder = [NOBODY if gpu.run_id is None else row_of_run.get(gpu.run_id, NOBODY) for gpu in rows]
        return cls(
            uuids=tuple(gpu.uuid for gpu in rows),
            row_of={gpu.uuid: row for row, gpu in enumerate(rows)},
            kinds=tuple(kinds),
            kind=np.array(kind, dtype=np.int64),
            leaf=np.array([tree_leaf.get(gpu.uuid, OUTSIDE) for gpu in rows], dtype=np.int64),
            confirmed_cap_w=_floats(gpu.confirmed_cap_w for gpu in rows),
            accounted_w=_floats(gpu.accounted_w for gpu in rows),
            idle_w=_floats(gpu.idle_w for gpu in rows),
            draw_w=_floats(gpu.draw_w for gpu in rows),
            settable=np.array([gpu.settable for gpu in rows], dtype=bool),
            healthy=np.array([gpu.healthy for gpu in rows], dtype=bool),
            cordoned=np.array([gpu.cordoned for gpu in rows], dtype=bool),
            foreign=np.array([gpu.foreign for gpu in rows], dtype=bool),
            settling=np.array([gpu.settling for gpu in rows], dtype=bool),
            held=np.array([gpu.run_id is not None for gpu in rows], dtype=bool),
            holder=np.array(holder, dtype=np.int64),
            reserved=np.array([job_row.get(gpu.reserved_for or "", NOBODY) for gpu in rows], dtype=np.int64),
            run_ids=run_ids,
            job_ids=job_ids,
            strangers={
                row: gpu.run_id
                for row, gpu in enumerate(rows)
                if gpu.run_id is not None and holder[row] == NOBODY
            },
        )

    @cached_property
    def min_cap_w(self) -> Floats:
        """Per GPU: the least limit of the board."""
        return np.array([kind.min_cap_w for kind in self.kinds], dtype=np.float64).take(self.kind)

    @cached_property
    def max_cap_w(self) -> Floats:
        """Per GPU: the highest limit of the board."""
        return np.array([kind.max_cap_w for kind in self.kinds], dtype=np.float64).take(self.kind)

    @cached_property
    def usable(self) -> Bools:
        """In service and ours: healthy, not cordoned, no foreign process, on a power domain."""
        rows: Bools = self.healthy & ~self.cordoned & ~self.foreign & (self.leaf != OUTSIDE)
        return rows

    @cached_property
    def free(self) -> Bools:
        """May take any new run: usable, without a run, kept for nobody."""
        rows: Bools = self.usable & ~self.held & (self.reserved == NOBODY)
        return rows

    def __len__(self) -> int:
        return len(self.uuids)

    @overload
    def __getitem__(self, row: int) -> GpuView: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[GpuView]: ...
    def __getitem__(self, row: int | slice) -> GpuView | Sequence[GpuView]:
        if isinstance(row, slice):
            return tuple(self._view(r) for r in range(*row.indices(len(self))))
        return self._view(range(len(self))[row])

    def __iter__(self) -> Iterator[GpuView]:
        return (self._view(row) for row in range(len(self)))

    def _view(self, row: int) -> GpuView:
        kind, holder, reserved = self.kinds[self.kind[row]], int(self.holder[row]), int(self.reserved[row])
        return GpuView(
            uuid=self.uuids[row],
            model=kind.model,
            min_cap_w=kind.min_cap_w,
            max_cap_w=kind.max_cap_w,
            confirmed_cap_w=_known(self.confirmed_cap_w[row]),
            accounted_w=float(self.accounted_w[row]),
            idle_w=float(self.idle_w[row]),
            draw_w=_known(self.draw_w[row]),
            settable=bool(self.settable[row]),
            healthy=bool(self.healthy[row]),
            cordoned=bool(self.cordoned[row]),
            run_id=self.strangers.get(row) if holder == NOBODY else self.run_ids[holder],
            foreign=bool(self.foreign[row]),
            settling=bool(self.settling[row]),
            reserved_for=None if reserved == NOBODY else self.job_ids[reserved],
        )


def _floats(values: Iterable[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)

"""All jobs of a decision's picture in columns; one of them, when asked for, as a `JobView`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from power.arrays import Bools, Floats, Ints
from power.curve import CapCurve
from power.curve_table import CurveTable
from scheduler.model import Flex, Intent, Job, JobState

STATES: Final = tuple(JobState)
STATE_CODE: Final = {state: code for code, state in enumerate(STATES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job with what the decision needs beside it.

    `curve` is per GPU; `floor_share` is the least throughput (0..1 of uncapped) its contract allows now;
    `value_per_gpu_h` is what an hour of one GPU at full speed is worth; `restart_cost_s` is what a stop and
    a start take (measured, else the config's guess), in grid seconds; `lost_work_s` is the work since its
    last checkpoint that a stop now would lose, in grid seconds at full speed.
    """

    job: Job
    curve: CapCurve
    floor_share: float
    value_per_gpu_h: float
    priority_rank: int  # higher = more important; contracts break in reverse of it
    restart_cost_s: float
    lost_work_s: float = 0.0
    frozen: bool = False  # paused in place, still on its GPUs
    remaining_s: float | None = None  # grid seconds at full speed, if known
    rule_cap_share: float | None = None  # a price rule in force lowers its throughput to this share
    rule_pause: str | None = None  # a price rule in force pauses it: the rule's name
    eligible: bool = True  # queued: nothing but GPUs, watts and price stands in its way


JOB_COLUMNS: Final[Mapping[str, type[np.generic]]] = {
    "floor_share": np.float64,
    "value_per_gpu_h": np.float64,
    "restart_cost_s": np.float64,
    "lost_work_s": np.float64,
    "remaining_s": np.float64,
    "rule_cap_share": np.float64,
    "submitted_s": np.float64,
    "since_s": np.float64,
    "deadline_s": np.float64,
    "ceiling_per_mwh": np.float64,
    "max_pause_s": np.float64,
    "paused_s": np.float64,
    "id_hash": np.int64,
    "rank": np.int64,
    "state": np.int64,
    "gpus": np.int64,
    "nodes": np.int64,
    "run_gpus": np.int64,
    "frozen": np.bool_,
    "eligible": np.bool_,
    "gives_nothing": np.bool_,
    "pausable": np.bool_,
    "requeue": np.bool_,
    "wanted": np.bool_,
    "started": np.bool_,
    "has_checkpoint": np.bool_,
    "rule_pauses": np.bool_,
}
Column = NDArray[Any]  # of one of these types


def job_columns(views: Sequence[JobView]) -> dict[str, Column]:
    """A row per job in each column."""
    rows = np.array([job_record(view) for view in views], dtype=list(JOB_COLUMNS.items()))
    return {name: np.ascontiguousarray(rows[name]) for name in JOB_COLUMNS}


def job_record(view: JobView) -> tuple[object, ...]:
    """One row in the order of `JOB_COLUMNS`. Times are seconds since the epoch; unknown figures NaN.

    `id_hash` tells jobs apart in no time; it means nothing beyond this process and its children.
    """
    job, spec, contract = view.job, view.job.spec, view.job.spec.contract
    return (
        view.floor_share,
        view.value_per_gpu_h,
        view.restart_cost_s,
        view.lost_work_s,
        math.nan if view.remaining_s is None else view.remaining_s,
        math.nan if view.rule_cap_share is None else view.rule_cap_share,
        job.submitted_at.timestamp(),
        job.state_since.timestamp(),
        math.nan if contract.deadline is None else contract.deadline.timestamp(),
        math.nan if contract.price_ceiling_per_mwh is None else contract.price_ceiling_per_mwh,
        math.nan if contract.max_pause_s is None else contract.max_pause_s,
        job.paused_s,
        hash(job.id),
        view.priority_rank,
        STATE_CODE[job.state],
        spec.gpus,
        spec.nodes,
        0 if job.run is None else len(job.run.gpu_uuids),
        view.frozen,
        view.eligible,
        contract.flex is Flex.NONE,
        contract.pausable,
        spec.requeue,
        job.intent in (Intent.RUN, Intent.CHECKPOINT) and not job.held_by_operator,
        job.attempts > 0,
        job.checkpoint_path is not None,
        view.rule_pause is not None and contract.pausable,
    )


@dataclass(frozen=True)
class RunIds(Mapping[int, str]):
    """The id of each job's run, by the job's row; looked up when asked."""

    jobs: Sequence[Job]

    def __getitem__(self, row: int) -> str:
        run = self.jobs[row].run
        if run is None:
            raise KeyError(row)
        return run.id

    def __iter__(self) -> Iterator[int]:
        return (row for row, job in enumerate(self.jobs) if job.run is not None)

    def __len__(self) -> int:
        return sum(job.run is not None for job in self.jobs)


@dataclass(frozen=True)
class JobTable(Sequence[JobView]):
    """One row per job that is not terminal, in the order given.

    `columns` are those of `JOB_COLUMNS`; `curve` is the job's row in `curves`; `gpu_type` its index into
    `gpu_types`; `rule_pause` the names of pausing rules by row.
    """

    jobs: Sequence[Job]
    columns: Mapping[str, Column]
    curves: CurveTable
    curve: Ints
    gpu_types: tuple[str | None, ...]
    gpu_type: Ints
    rule_pause: Mapping[int, str]
    ids: Sequence[str]
    row_of: Mapping[str, int]  # by job id

    @classmethod
    def of(cls, views: Iterable[JobView]) -> JobTable:
        """From single views."""
        rows = tuple(views)
        ids = tuple(view.job.id for view in rows)
        curves, curve = CurveTable.of(view.curve for view in rows)
        types: dict[str | None, int] = {}
        gpu_type = [types.setdefault(view.job.spec.gpu_type, len(types)) for view in rows]
        return cls(
            jobs=tuple(view.job for view in rows),
            columns=job_columns(rows),
            curves=curves,
            curve=curve,
            gpu_types=tuple(types),
            gpu_type=np.array(gpu_type, dtype=np.int64),
            rule_pause={r: view.rule_pause for r, view in enumerate(rows) if view.rule_pause is not None},
            ids=ids,
            row_of={job_id: row for row, job_id in enumerate(ids)},
        )

    # --- columns --------------------------------------------------------------------------------------------

    def floats(self, name: str) -> Floats:
        """A column of figures; NaN = unknown or not asked for."""
        return np.asarray(self.columns[name], dtype=np.float64)

    def ints(self, name: str) -> Ints:
        """A column of whole numbers."""
        return np.asarray(self.columns[name], dtype=np.int64)

    def bools(self, name: str) -> Bools:
        """A column of yes and no."""
        return np.asarray(self.columns[name], dtype=np.bool_)

    def in_state(self, *states: JobState) -> Bools:
        """Rows in one of these states."""
        wanted = np.array([state in states for state in STATES])
        rows: Bools = wanted[self.ints("state")]
        return rows

    @cached_property
    def waiting(self) -> Bools:
        """Hold no GPU and want to run: queued, or paused off their GPUs."""
        off = self.in_state(JobState.PAUSED) & (self.ints("run_gpus") == 0)
        rows: Bools = self.in_state(JobState.QUEUED) | off
        return rows

    @property
    def run_ids(self) -> Mapping[int, str]:
        """Run id by row, of those that have one."""
        return RunIds(self.jobs)

    # --- single jobs ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.jobs)

    @overload
    def __getitem__(self, row: int) -> JobView: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[JobView]: ...
    def __getitem__(self, row: int | slice) -> JobView | Sequence[JobView]:
        if isinstance(row, slice):
            return tuple(self._view(r) for r in range(*row.indices(len(self))))
        return self._view(range(len(self))[row])

    def __iter__(self) -> Iterator[JobView]:
        return (self._view(row) for row in range(len(self)))

    def _view(self, row: int) -> JobView:
        record = {name: column[row] for name, column in self.columns.items()}
        return JobView(
            job=self.jobs[row],
            curve=self.curves.curves[self.curve[row]],
            floor_share=float(record["floor_share"]),
            value_per_gpu_h=float(record["value_per_gpu_h"]),
            priority_rank=int(record["rank"]),
            restart_cost_s=float(record["restart_cost_s"]),
            lost_work_s=float(record["lost_work_s"]),
            frozen=bool(record["frozen"]),
            remaining_s=_known(record["remaining_s"]),
            rule_cap_share=_known(record["rule_cap_share"]),
            rule_pause=self.rule_pause.get(row),
            eligible=bool(record["eligible"]),
        )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)

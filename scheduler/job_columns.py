"""The jobs of a fleet in rows that change one at a time, and are frozen into a `JobTable` whole."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final, Generic, TypeVar

import numpy as np

from power.arrays import Ints
from power.curve import CapCurve
from power.curve_table import CurveTable
from scheduler.job_table import JOB_COLUMNS, Column, JobTable, JobView, job_record
from scheduler.model import Job

_FIRST_ROWS: Final = 64
_SPARE_VALUES: Final = 256  # values that nobody has any more are thrown out beyond this many

Value = TypeVar("Value", bound=Hashable)


class JobColumns:
    """One row per job, in order of arrival; the row of one that goes is taken by the last."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._jobs: list[Job] = []
        self._row_of: dict[str, int] = {}
        self._columns: dict[str, Column] = {
            name: np.zeros(_FIRST_ROWS, dtype=kind) for name, kind in JOB_COLUMNS.items()
        }
        self._rows = _FIRST_ROWS  # that the columns have room for
        self._curves = _Distinct[CapCurve]()
        self._types = _Distinct[str | None]()
        self._rule_pause: dict[int, str] = {}
        self._curve_table = CurveTable(())

    def __len__(self) -> int:
        return len(self._ids)

    def row(self, job_id: str) -> int | None:
        """Where the job stands, if it is here."""
        return self._row_of.get(job_id)

    def job(self, row: int) -> Job:
        return self._jobs[row]

    def put(self, view: JobView) -> int:
        """Write a job's row, a new one at the end. Returns the row."""
        job_id = view.job.id
        row = self._row_of.setdefault(job_id, len(self._ids))
        if row == len(self._ids):
            self._ids.append(job_id)
            self._jobs.append(view.job)
            if row == self._rows:
                self._grow()
        self._jobs[row] = view.job
        for column, value in zip(self._columns.values(), job_record(view), strict=True):
            column[row] = value
        self._curves.put(row, view.curve)
        self._types.put(row, view.job.spec.gpu_type)
        self._rule_pause.pop(row, None)
        if view.rule_pause is not None:
            self._rule_pause[row] = view.rule_pause
        return row

    def put_figures(self, name: str, job_ids: Sequence[str], values: Column) -> None:
        """One column of some jobs (see `JOB_COLUMNS`). Raises KeyError for an unknown job."""
        self._columns[name][[self._row_of[job_id] for job_id in job_ids]] = values

    def drop(self, job_id: str) -> int:
        """Forget a job. Returns its row, which the last job now has (if it was not the last itself)."""
        row, last = self._row_of.pop(job_id), len(self._ids) - 1
        last_id, last_job, last_rule = self._ids.pop(), self._jobs.pop(), self._rule_pause.pop(last, None)
        self._rule_pause.pop(row, None)
        if row != last:
            self._ids[row], self._jobs[row] = last_id, last_job
            self._row_of[last_id] = row
            for column in self._columns.values():
                column[row] = column[last]
            if last_rule is not None:
                self._rule_pause[row] = last_rule
        self._curves.move(last, row)
        self._types.move(last, row)
        return row

    def table(self) -> JobTable:
        """A copy of everything as it is now."""
        count = len(self._ids)
        curves, curve = self._curves.frozen(count)
        types, gpu_type = self._types.frozen(count)
        if curves is not self._curve_table.curves:
            self._curve_table = CurveTable(curves)
        return JobTable(
            jobs=tuple(self._jobs),
            columns={name: column[:count].copy() for name, column in self._columns.items()},
            curves=self._curve_table,
            curve=curve,
            gpu_types=types,
            gpu_type=gpu_type,
            rule_pause=dict(self._rule_pause),
            ids=tuple(self._ids),
            row_of=self._row_of.copy(),  # many times faster than dict() where rows were dropped
        )

    def _grow(self) -> None:
        """Room for twice as many."""
        self._columns = {n: np.concatenate([c, np.zeros_like(c)]) for n, c in self._columns.items()}
        self._rows *= 2


class _Distinct(Generic[Value]):
    """A column of values of which many are equal: codes, and each value once."""

    def __init__(self) -> None:
        self._code_of: dict[Value, int] = {}
        self._codes: Ints = np.zeros(_FIRST_ROWS, dtype=np.int64)
        self._values: tuple[Value, ...] = ()
        self._in_use = 0  # values when unused ones were last thrown out

    def put(self, row: int, value: Value) -> None:
        if row == len(self._codes):
            self._codes = np.concatenate([self._codes, np.zeros_like(self._codes)])
        self._codes[row] = self._code_of.setdefault(value, len(self._code_of))

    def move(self, row: int, to: int) -> None:
        self._codes[to] = self._codes[row]

    def frozen(self, count: int) -> tuple[tuple[Value, ...], Ints]:
        """(values by code, codes of the first `count` rows); the same tuple while no value is new."""
        if len(self._code_of) > 2 * self._in_use + _SPARE_VALUES:
            self._throw_out(count)
        if len(self._values) != len(self._code_of):
            self._values = tuple(self._code_of)
        return self._values, self._codes[:count].copy()

    def _throw_out(self, count: int) -> None:
        values = tuple(self._code_of)
        used, self._codes[:count] = np.unique(self._codes[:count], return_inverse=True)
        self._code_of = {values[old]: new for new, old in enumerate(used.tolist())}
        self._in_use, self._values = len(used), ()

"""Parts of a decision that every job has, in columns: its cap, and why it waits.

Twenty thousand of them are made every second or so and nearly all say what the last ones said; a single one
becomes an object, with its sentence, only when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, overload

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.decision import JobCap, Wait
from scheduler.job_table import JobTable
from scheduler.model import Condition, WaitReason

CONDITIONS: Final = tuple(Condition)
CONDITION_CODE: Final = {condition: code for code, condition in enumerate(CONDITIONS)}


@dataclass(frozen=True)
class CapTable(Sequence[JobCap]):
    """One cap per row; `job` is the job's row in the snapshot that was decided on, `ids` that table's ids.

    `cause` makes the sentence for the i-th entry of the table as it was first built (`entry`).
    """

    ids: Sequence[str]
    job: Ints
    cap_w: Floats
    condition: Ints  # codes into CONDITIONS
    cause: Callable[[int], str]
    entry: Ints

    @classmethod
    def of(cls, ids: Sequence[str], caps: Iterable[JobCap]) -> CapTable:
        """From single caps, in their order; those of jobs that `ids` does not have are left out."""
        row_of = {job_id: row for row, job_id in enumerate(ids)}
        known = [cap for cap in caps if cap.job_id in row_of]
        causes = [cap.cause for cap in known]
        return cls(
            ids=ids,
            job=np.array([row_of[cap.job_id] for cap in known], dtype=np.int64),
            cap_w=np.array([cap.cap_w for cap in known], dtype=np.float64),
            condition=np.array([CONDITION_CODE[cap.condition] for cap in known], dtype=np.int64),
            cause=causes.__getitem__,
            entry=np.arange(len(known)),
        )

    @classmethod
    def for_jobs(cls, jobs: JobTable, caps: Sequence[JobCap]) -> CapTable:
        """Caps by the rows of this table: as they are where they were decided on it."""
        if isinstance(caps, CapTable) and caps.ids is jobs.ids:
            return caps
        return cls.of(jobs.ids, caps)

    def only(self, rows: Bools | Ints) -> CapTable:
        """Some of the entries."""
        return replace(
            self,
            job=self.job[rows],
            cap_w=self.cap_w[rows],
            condition=self.condition[rows],
            entry=self.entry[rows],
        )

    def with_caps_w(self, cap_w: Floats) -> CapTable:
        """The same entries at other caps."""
        return replace(self, cap_w=cap_w)

    def __len__(self) -> int:
        return len(self.job)

    @overload
    def __getitem__(self, index: int) -> JobCap: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[JobCap]: ...
    def __getitem__(self, index: int | slice) -> JobCap | Sequence[JobCap]:
        if isinstance(index, slice):
            return tuple(self._cap(i) for i in range(*index.indices(len(self))))
        return self._cap(range(len(self))[index])

    def __iter__(self) -> Iterator[JobCap]:
        return (self._cap(i) for i in range(len(self)))

    def _cap(self, index: int) -> JobCap:
        return JobCap(
            job_id=self.ids[int(self.job[index])],
            cap_w=float(self.cap_w[index]),
            condition=CONDITIONS[int(self.condition[index])],
            cause=self.cause(int(self.entry[index])),
        )


@dataclass(frozen=True)
class WaitTable(Sequence[Wait]):
    """One wait per job; jobs that are alike share an answer."""

    job_ids: Sequence[str]
    answer: Ints  # index into answers
    answers: Sequence[tuple[WaitReason, str]]

    def __len__(self) -> int:
        return len(self.job_ids)

    @overload
    def __getitem__(self, index: int) -> Wait: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Wait]: ...
    def __getitem__(self, index: int | slice) -> Wait | Sequence[Wait]:
        if isinstance(index, slice):
            return tuple(self._wait(i) for i in range(*index.indices(len(self))))
        return self._wait(range(len(self))[index])

    def __iter__(self) -> Iterator[Wait]:
        return (self._wait(i) for i in range(len(self)))

    def _wait(self, index: int) -> Wait:
        reason, detail = self.answers[int(self.answer[index])]
        return Wait(job_id=self.job_ids[index], reason=reason, detail=detail)

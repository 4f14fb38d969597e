"""A job trace from a CSV file: who asked for how many GPUs when, and how long it ran."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, cast

from scheduler.simulation.csv_table import CsvTable
from scheduler.simulation.model import BadInput
from scheduler.simulation.plain_number import plain_number

COLUMNS: Final = ("job_id", "submit_s", "gpus", "duration_s")
DAY_S: Final = 86400.0
MOST_S: Final = 10 * 366 * DAY_S  # longer figures are mistakes of unit
MOST_GPUS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRow:
    """One job. `number` is its place in the whole file by submission, whatever is left out of it.

    `duration_s` is how long it really runs at full speed; `vc` (virtual cluster) is empty where unknown.
    """

    number: int
    job_id: str
    submitted_at: datetime
    gpus: int
    duration_s: float
    vc: str = ""

    @property
    def gpu_h(self) -> float:
        return self.gpus * self.duration_s / 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Jobs of the file that are not simulated, and why."""

    why: str
    jobs: int
    gpu_h: float

    def __str__(self) -> str:
        return f"left out: {self.jobs} jobs ({self.gpu_h:.0f} GPU-hours) {self.why}"


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Jobs in order of submission, all in `start <= submitted_at < end`, and how many the whole file has."""

    rows: tuple[TraceRow, ...]
    file_jobs: int
    start: datetime
    end: datetime
    left_out: tuple[LeftOut, ...] = ()


def read_trace(
    path: Path,
    *,
    start: datetime,
    days: tuple[float, float] | None = None,
    vc: str | None = None,
    largest_gang: int | None = None,
) -> Trace:
    """Read `job_id,submit_s,gpus,duration_s` and, if there, `vc`; other columns are not looked at.

    A trace's GPU type is not asked for: it names boards of another cluster. Jobs submitted in the same second
    are in the order of their ids, so that the order of lines changes nothing.

    Args:
        start: when second 0 of the trace is; `days` are counted from there, so that parts of one trace meet
            the prices of their own days.
        days: jobs submitted in `first <= day < end`, days as numbers from 0; None = all, to the end of the
            last day with a submission.
        vc: only jobs of this virtual cluster.
        largest_gang: jobs that ask for more GPUs are left out, since nothing could ever hold them.

    Raises:
        BadInput: names file, line, column and value of what cannot be used, or says that no job is left.
    """
    if start.tzinfo is None:
        raise BadInput(f"start {start.isoformat()} carries no time zone; write it as 2023-06-01T00:00Z")
    rows = _rows(CsvTable(path, required=COLUMNS), start.astimezone(UTC))
    if not rows:
        raise BadInput(f"{path} names no job, only the header")
    first, last = _window(rows, start.astimezone(UTC), days)
    trace = Trace(rows=rows, file_jobs=len(rows), start=first, end=last)
    trace = _kept(
        trace,
        lambda row: first <= row.submitted_at < last,
        why=f"submitted outside {first.isoformat()} .. {last.isoformat()}",
    )
    if vc is not None:
        trace = _kept(trace, lambda row: row.vc == vc, why=f"of other virtual clusters than {vc}")
    if largest_gang is not None:
        gang = largest_gang
        trace = _kept(
            trace, lambda row: row.gpus <= gang, why=f"that ask for more than {gang} GPUs, the largest gang"
        )
    if not trace.rows:
        raise BadInput(_nothing_left(path, rows, trace))
    return trace


def _rows(table: CsvTable, start: datetime) -> tuple[TraceRow, ...]:
    """All jobs of the file in order of submission."""
    ids = table.column("job_id", _name, wanted="a name")
    submit_s = table.column("submit_s", _seconds, wanted=f"a number of seconds from 0 to {MOST_S:.0f}")
    gpus = table.column("gpus", _whole_gpus, wanted="a whole number of GPUs from 1")
    duration_s = table.column(
        "duration_s", _lasting, wanted=f"a number of seconds above 0 and up to {MOST_S:.0f}"
    )
    seen: dict[str | None, int] = {}
    for line, job_id in zip(table.lines, ids, strict=True):
        if seen.setdefault(job_id, line) != line and job_id is not None:
            table.mistake(line, f"column job_id: {ascii(job_id)[:60]} is the job of line {seen[job_id]} too")
    table.check()  # behind it, no cell is None
    cells = cast(
        "list[tuple[float, str, int, float, str]]",
        sorted(zip(submit_s, ids, gpus, duration_s, table.texts("vc"), strict=True)),
    )
    return tuple(
        TraceRow(
            number=number,
            job_id=job_id,
            submitted_at=start + timedelta(seconds=at_s),
            gpus=count,
            duration_s=lasts_s,
            vc=vc,
        )
        for number, (at_s, job_id, count, lasts_s, vc) in enumerate(cells)
    )


def _name(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


def _seconds(text: str) -> float:
    number = plain_number(text)
    if not 0 <= number <= MOST_S:
        raise ValueError(text)
    return number


def _lasting(text: str) -> float:
    number = _seconds(text)
    if number == 0:
        raise ValueError(text)
    return number


def _whole_gpus(text: str) -> int:
    number = plain_number(text)
    if not (1 <= number <= MOST_GPUS and number == int(number)):
        raise ValueError(text)
    return int(number)


def _window(
    rows: tuple[TraceRow, ...], start: datetime, days: tuple[float, float] | None
) -> tuple[datetime, datetime]:
    if days is None:
        last_day = math.floor((rows[-1].submitted_at - start) / timedelta(days=1))
        return start, start + timedelta(days=last_day + 1)
    first, end = days
    if not 0 <= first < end <= MOST_S / DAY_S:
        raise BadInput(
            f"days {first:g} to {end:g}: wanted are two numbers from 0, the first below the second"
        )
    return start + timedelta(days=first), start + timedelta(days=end)


def _kept(trace: Trace, keep: Callable[[TraceRow], bool], *, why: str) -> Trace:
    """The trace without the jobs that `keep` refuses; they are counted."""
    rows = tuple(row for row in trace.rows if keep(row))
    if len(rows) == len(trace.rows):
        return trace
    gone_h = math.fsum(row.gpu_h for row in trace.rows) - math.fsum(row.gpu_h for row in rows)
    left = LeftOut(why=why, jobs=len(trace.rows) - len(rows), gpu_h=gone_h)
    return replace(trace, rows=rows, left_out=(*trace.left_out, left))


def _nothing_left(path: Path, rows: tuple[TraceRow, ...], trace: Trace) -> str:
    clusters = Counter(row.vc for row in rows)
    known = ", ".join(f"{name or '(none)'} {count}" for name, count in clusters.most_common(12))
    why = "; ".join(str(left) for left in trace.left_out)
    first, last = rows[0].submitted_at.isoformat(), rows[-1].submitted_at.isoformat()
    return (
        f"{path}: no job is left. {why}."
        f" The file has {len(rows)} jobs from {first} to {last}; by virtual cluster: {known}"
    )

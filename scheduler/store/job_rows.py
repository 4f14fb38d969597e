"""Rows of the tables `jobs` and `runs` to domain objects and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from sqlalchemy import Connection, Select, select

from scheduler.model import Condition, Intent, InvalidJob, Job, JobState, Run, WaitReason
from scheduler.store.codec import as_enum, decode, decode_spec, encode
from scheduler.store.errors import CorruptRow
from scheduler.store.tables import runs

AnyRow: TypeAlias = Any  # a Row; how many parameters that type takes depends on SQLAlchemy's version

ACTIVE = [state.value for state in JobState if not state.terminal]


def fetch_jobs(connection: Connection, query: Select[Any]) -> list[tuple[int, Job]]:
    """Jobs with their place in the order of submission; their current runs come by a second query."""
    rows = list(connection.execute(query))
    held = fetch_runs_by_id(connection, [row.run_id for row in rows if row.run_id is not None])
    return [(row.seq, job_from_row(row, held)) for row in rows]


def fetch_runs_by_id(connection: Connection, ids: list[str]) -> dict[str, Run]:
    found: dict[str, Run] = {}
    for part in chunks(ids):
        for row in connection.execute(select(runs).where(runs.c.id.in_(part))):
            found[row.id] = run_from_row(row)
    return found


def chunks(ids: list[str], size: int = 500) -> Iterable[list[str]]:
    """Databases limit the number of parameters in one statement."""
    return (ids[i : i + size] for i in range(0, len(ids), size))


def job_from_row(row: AnyRow, held: dict[str, Run]) -> Job:
    """Raises CorruptRow for a value that we could not have written."""
    if row.run_id is not None and row.run_id not in held:
        raise CorruptRow("jobs", row.id, "run_id", f"there is no run {row.run_id!r}")
    return Job(
        id=row.id,
        spec=decode_spec(row.spec, row.id),
        owner=row.owner,
        submitted_at=row.submitted_at,
        state=as_enum(JobState, row.state, "jobs", row.id, "state"),
        state_since=row.state_since,
        intent=as_enum(Intent, row.intent, "jobs", row.id, "intent"),
        held_by_operator=row.held_by_operator,
        revision=row.revision,
        run=None if row.run_id is None else held[row.run_id],
        attempts=row.attempts,
        wait_reason=None
        if row.wait_reason is None
        else as_enum(WaitReason, row.wait_reason, "jobs", row.id, "wait_reason"),
        wait_detail=row.wait_detail,
        condition=as_enum(Condition, row.condition, "jobs", row.id, "condition"),
        condition_cause=row.condition_cause,
        condition_since=row.condition_since,
        stop_goal=None
        if row.stop_goal is None
        else as_enum(JobState, row.stop_goal, "jobs", row.id, "stop_goal"),
        not_before=row.not_before,
        paused_s=row.paused_s,
        checkpoint_path=row.checkpoint_path,
        ended_at=row.ended_at,
        exit_code=row.exit_code,
        end_reason=row.end_reason,
    )


def run_from_row(row: AnyRow) -> Run:
    return Run(
        id=row.id,
        job_id=row.job_id,
        attempt=row.attempt,
        gpu_uuids=tuple(decode(row.gpu_uuids, "runs", row.id, "gpu_uuids", list)),
        cap_w=row.cap_w,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        exit_code=row.exit_code,
        end_reason=row.end_reason,
    )


def run_values(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "job_id": run.job_id,
        "attempt": run.attempt,
        "gpu_uuids": encode(list(run.gpu_uuids)),
        "cap_w": run.cap_w,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "exit_code": run.exit_code,
        "end_reason": run.end_reason,
    }


def controller_values(job: Job) -> dict[str, Any]:
    """The columns that only the controller writes. Intent, specification and revision are not among them."""
    return {
        "state": job.state.value,
        "state_since": job.state_since,
        "run_id": job.run.id if job.run else None,
        "attempts": job.attempts,
        "wait_reason": job.wait_reason.value if job.wait_reason else None,
        "wait_detail": storable(job.wait_detail),
        "condition": job.condition.value,
        "condition_cause": storable(job.condition_cause),
        "condition_since": job.condition_since,
        "stop_goal": job.stop_goal.value if job.stop_goal else None,
        "not_before": job.not_before,
        "paused_s": job.paused_s,
        "checkpoint_path": job.checkpoint_path,
        "ended_at": job.ended_at,
        "exit_code": job.exit_code,
        "end_reason": job.end_reason,
    }


def storable(text: str) -> str:
    """Text of our own making, without what a database refuses (NUL, halves of surrogate pairs)."""
    return text.replace("\0", "").encode(errors="replace").decode()


def check_text(field: str, text: str) -> str:
    """Text from a person that goes into a column of its own. Raises InvalidJob."""
    if storable(text) != text:
        raise InvalidJob(field, "must be Unicode text without NUL")
    return text

"""Values for the tests of the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from scheduler.lifecycle import move
from scheduler.model import Contract, Flex, Job, JobSpec, JobState, Run
from scheduler.store import Store

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def a_spec(**changes: Any) -> JobSpec:
    return JobSpec(**{"argv": ("python", "train.py"), "gpus": 2, **changes})


def full_spec() -> JobSpec:
    """Every field away from its default, with text that databases stumble over."""
    return JobSpec(
        argv=("python", "-c", "print('äß漢 \"quoted\" \\ %s :x')"),
        gpus=4,
        name="näme\0with NUL",
        cwd="/srv/jobs",
        env={"A": "1", "EMPTY": ""},
        gpu_type="A40",
        nodes=2,
        contract=Contract(
            flex=Flex.MID, pausable=True, max_pause_s=60, deadline=after(9), price_ceiling_per_mwh=-5
        ),
        priority="high",
        project="física",
        workload="gpt",
        estimate_s=3600.5,
        begin_at=after(5),
        depends_on=("job_1", "job_2"),
        checkpoint_grace_s=5,
        requeue=False,
        max_restarts=0,
        labels={"k": "v"},
    )


def a_run(job: Job, attempt: int = 1, **changes: Any) -> Run:
    values = {
        "id": f"run_{job.id[4:]}_{attempt}",
        "job_id": job.id,
        "attempt": attempt,
        "gpu_uuids": ("GPU-a", "GPU-b"),
        "cap_w": 220.5,
        "created_at": after(attempt),
    }
    return Run(**{**values, **changes})


def submitted(store: Store, **changes: Any) -> Job:
    return store.jobs.submit(a_spec(**changes), "ada", NOON)[0]


def started(store: Store, job: Job, attempt: int = 1) -> Job:
    """Moved to STARTING and saved, with its run."""
    after_it = move(job, JobState.STARTING, after(1), run=a_run(job, attempt), attempts=attempt)
    store.jobs.save(after_it, job.state)
    return after_it


def running(store: Store) -> Job:
    job = started(store, submitted(store))
    up = move(job, JobState.RUNNING, after(2))
    store.jobs.save(up, job.state)
    return up


def tamper(store: Store, statement: str, **values: Any) -> None:
    """What a damaged disk or a careless hand would do."""
    with store.database.write() as connection:
        connection.execute(text(statement), values)

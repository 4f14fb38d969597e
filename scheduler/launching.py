"""From a verified start to a reserved job and the engine's launch spec. Pure."""

from __future__ import annotations

from datetime import datetime

from scheduler.config import Config
from scheduler.decision import Start
from scheduler.engines.engine import LaunchSpec
from scheduler.ids import new_id
from scheduler.layout import Layout
from scheduler.lifecycle import move
from scheduler.model import Job, JobState, Run


def reserved_job(job: Job, start: Start, now: datetime) -> Job:
    """The job in STARTING with a new run: its id is the fencing token."""
    run = Run(
        id=new_id("run"),
        job_id=job.id,
        attempt=job.attempts + 1,
        gpu_uuids=start.gpu_uuids,
        cap_w=start.cap_w,
        created_at=now,
    )
    return move(job, JobState.STARTING, now, run=run, attempts=job.attempts + 1, not_before=None)


def launch_spec(job: Job, config: Config) -> LaunchSpec:
    """What the engine needs. Raises ValueError for a job without a run."""
    if job.run is None:
        raise ValueError(f"job {job.id} has no run to launch")
    spec = job.spec
    return LaunchSpec(
        run_id=job.run.id,
        job_id=job.id,
        argv=spec.argv,
        cwd=spec.cwd,
        env=spec.env,
        gpu_uuids=job.run.gpu_uuids,
        workload=spec.workload or "",
        checkpoint_dir=str(Layout(config.storage.data_dir).checkpoints_dir / job.id),
        resume_from=job.checkpoint_path,
        grace_s=spec.checkpoint_grace_s,
        labels=spec.labels,
    )

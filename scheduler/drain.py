"""Empties what an operator drains: its jobs checkpoint, stop, and queue again. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from power.budget import PowerTree
from scheduler.decision import Preempt
from scheduler.model import Job, JobState


def drained(jobs: Iterable[Job], draining: frozenset[str], tree: PowerTree) -> tuple[Preempt, ...]:
    """A stop for every running job on a GPU or node that drains.

    A job that must not be started again (`requeue` false) is left to finish: a drain loses no work.
    """
    if not draining:
        return ()
    stops, known = [], set(tree.gpu_uuids())
    for job in jobs:
        if job.run is None or job.state is not JobState.RUNNING or not job.spec.requeue:
            continue
        there = set(job.run.gpu_uuids) & known
        touched = {name for uuid in there for name in (uuid, *tree.path(uuid))} & draining
        if touched:
            stops.append(Preempt(job_id=job.id, cause=f"{sorted(touched)[0]} is being drained"))
    return tuple(stops)

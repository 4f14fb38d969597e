"""Writes what `reconcile` found: state moves to the database, wishes to the engine."""

from __future__ import annotations

import logging

from scheduler.engines.engine import EngineError, RunPhase, RunStatus, Wanted
from scheduler.model import Job, Run
from scheduler.observation import Observation
from scheduler.plant import Plant
from scheduler.reconcile import Step, reconcile
from scheduler.store import Event, StaleWrite, StoreUnavailable

log = logging.getLogger("wattmill.reconcile")


class Reconciler:
    """One pass over all jobs that are not terminal."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant

    def apply(self, seen: Observation) -> tuple[tuple[Job, ...], bool]:
        """The jobs after their moves, and whether any of them moved."""
        freeze_limit_s = self._plant.config.control.freeze_limit_s * self._plant.clock.rate
        after: list[Job] = []
        moved = False
        for job in seen.jobs:
            status = seen.statuses.get(job.run.id) if job.run is not None else None
            losses = self._losses(job, status)
            step = reconcile(job, status, seen.now, freeze_limit_s=freeze_limit_s, losses=losses)
            now_job, written = self._write(job, step, seen)
            if written:
                self._ask_engine(job, step)
            moved = moved or bool(step.moves)
            if not now_job.state.terminal:
                after.append(now_job)
        return tuple(after), moved

    def _losses(self, job: Job, status: RunStatus | None) -> int | None:
        """How many earlier runs were lost; asked only when one has just ended."""
        if job.run is None or (status is not None and status.phase not in (RunPhase.EXITED, RunPhase.LOST)):
            return None
        try:
            return sum(
                run.end_reason == "lost" for run in self._plant.store.jobs.runs(job.id) if run != job.run
            )
        except StoreUnavailable:
            return None  # then its end cannot be written either

    def _write(self, job: Job, step: Step, seen: Observation) -> tuple[Job, bool]:
        """Save each move in order. A stale or failed write changes nothing: the next cycle looks again.

        Returns where the job stands, and whether all was written: only then may the engine be asked.
        """
        current, written = job, False
        try:
            for following in step.moves:
                self._plant.store.jobs.save(
                    following, current.state, (_moved(current, following),), _let_go(current, following, step)
                )
                log.info("job %s: %s -> %s", job.id, current.state, following.state)
                self._count_end(current, following)
                current = following
            if step.noted is not None:
                self._plant.store.jobs.save(step.noted, job.state, (_saved(step.noted, seen),))
                current = step.noted
            if step.clear_intent is not None:
                self._plant.store.jobs.clear_intent(job.id, step.clear_intent)
            written = True
        except StaleWrite as error:
            log.warning("%s", error)
        except StoreUnavailable as error:
            self._plant.counts.add("wattmill_store_errors_total")
            log.error("could not write the move of job %s: %s", job.id, error)
        return current, written

    def _count_end(self, before: Job, after: Job) -> None:
        ended = after.run if after.run is not None else before.run
        if before.run is not None and (after.run is None or after.state.terminal) and ended is not None:
            reason = ended.end_reason or "requeued"
            self._plant.counts.add("wattmill_runs_ended_total", reason=reason)

    def _ask_engine(self, job: Job, step: Step) -> None:
        if job.run is None or (step.wanted is None and not step.checkpoint_now):
            return
        try:
            if step.wanted is not None:
                self._plant.engine.want(job.run.id, step.wanted)
            else:
                self._plant.engine.want(job.run.id, Wanted.RUN, checkpoint_now=True)
        except EngineError as error:
            log.error("engine: %s", error)


def _moved(before: Job, after: Job) -> Event:
    run = after.run or before.run
    data = {"from": str(before.state), "to": str(after.state)}
    if after.wait_detail:
        data["why"] = after.wait_detail
    if after.end_reason:
        data["end_reason"] = after.end_reason
    return Event(
        kind="job.state",
        at=after.state_since,
        job_id=after.id,
        run_id=run.id if run is not None else None,
        data=data,
    )


def _saved(job: Job, seen: Observation) -> Event:
    run_id = job.run.id if job.run is not None else None
    data = {"path": job.checkpoint_path}
    return Event(kind="job.checkpoint", at=seen.now, job_id=job.id, run_id=run_id, data=data)


def _let_go(before: Job, after: Job, step: Step) -> Run | None:
    """The ended run, in the one write in which the job no longer carries it."""
    return step.closed_run if before.run is not None and after.run is None else None

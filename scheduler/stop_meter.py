"""Follows every run from launch to exit: what its stop would lose now, and what stops and starts take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from scheduler.ledger import Ledger
from scheduler.model import Job, Run
from scheduler.observation import Observation
from scheduler.plant import Plant
from scheduler.stop_costs import CostKey, RunWatch, StopCost, StopCostBook, StopFigures, cost_key

NO_WORK = Ledger()


class StopMeter:
    """Holds one watch per run, and the book of what was learned."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._guess_s = plant.config.control.restart_cost_s
        self._rate = plant.clock.rate
        self._book = StopCostBook()
        self._watches: dict[str, RunWatch] = {}
        self._ledgers: Mapping[str, Ledger] = {}  # by job
        self._kept: dict[CostKey, StopFigures] = {}  # of jobs that would lose no work; until more is learned
        self._gone: set[str] = set()  # job ids whose rows are still stored
        self._resumed = False

    def resume(self) -> None:
        """Take up what earlier controllers learned. Raises StoreUnavailable."""
        self._book = StopCostBook(self._plant.store.stop_costs.all())
        self._kept.clear()

    def account(self, seen: Observation, ledgers: Mapping[str, Ledger]) -> None:
        """Look at every run once; `ledgers` are the jobs' accounts up to now, by job id."""
        self._ledgers, held = ledgers, set()
        for job in seen.jobs:
            if job.run is not None:
                held.add(job.run.id)
                self._look(job, job.run, seen, ledgers.get(job.id, NO_WORK))
        for run_id in [run_id for run_id in self._watches if run_id not in held]:
            self._end(run_id, seen)
        self._resumed = True

    def figures(self, jobs: Iterable[Job]) -> dict[str, StopFigures]:
        """By job id, for all of `jobs`."""
        return {job.id: self._figures(job) for job in jobs}

    def flush(self, seen: Observation) -> None:
        """Write what was learned since the last time, and forget single jobs that are gone.

        Raises StoreUnavailable: then all of it stays for the next time.
        """
        alive = {job.id for job in seen.jobs}
        self._gone.update(self._book.forget_all_but(alive))
        self._kept = {key: kept for key, kept in self._kept.items() if not key[1] or key[1] in alive}
        changed = {key: self._book.cost(key) for key in sorted(self._book.changed)}
        if changed or self._gone:
            self._plant.store.stop_costs.save(changed, sorted(self._gone), seen.now)
        self._book.changed.clear()
        self._gone.clear()

    def _figures(self, job: Job) -> StopFigures:
        key = cost_key(job)
        kept = self._kept.get(key)
        if kept is None:
            kept = StopFigures(self._book.cost(key).restart_cost_s(self._guess_s, self._rate))
            self._kept[key] = kept
        lost_s = 0.0 if job.run is None else self._lost_work_s(job, job.run, key)
        return kept if lost_s <= 0.0 else StopFigures(kept.restart_cost_s, lost_s)

    def _lost_work_s(self, job: Job, run: Run, key: CostKey) -> float:
        watch = self._watches.get(run.id)
        if watch is None or self._book.cost(key).saves_on_request:
            return 0.0
        return self._ledgers.get(job.id, NO_WORK).work_s - watch.saved_work_s

    def _learn(self, key: CostKey, cost: StopCost) -> None:
        self._book.learn(key, cost)
        self._kept.pop(key, None)

    def _look(self, job: Job, run: Run, seen: Observation, ledger: Ledger) -> None:
        status = seen.statuses.get(run.id)
        before = self._watches.get(run.id) or self._new_watch(job, run, seen, ledger)
        after = before
        if status is not None:
            cost = self._book.cost(before.key)
            after, learned = before.look(
                job, status, seen.now, work_s=ledger.work_s, cost=cost, rate=self._rate
            )
            if learned is not cost:
                self._learn(before.key, learned)
        self._watches[run.id] = after

    def _end(self, run_id: str, seen: Observation) -> None:
        watch = self._watches.pop(run_id)
        cost = self._book.cost(watch.key)
        learned = watch.end(seen.statuses.get(run_id), seen.now, cost=cost, rate=self._rate)
        if learned is not cost:
            self._learn(watch.key, learned)

    def _new_watch(self, job: Job, run: Run, seen: Observation, ledger: Ledger) -> RunWatch:
        if self._resumed:
            return RunWatch(key=cost_key(job), launched_at=run.created_at, saved_work_s=ledger.work_s)
        status = seen.statuses.get(run.id)
        saved_at = status.checkpoint_at if status is not None else None
        since = run.started_at or seen.now
        if saved_at is not None:
            since = grid_time(saved_at, now=seen.now, real_now=datetime.now(UTC), rate=self._rate)
        return RunWatch(
            key=cost_key(job),
            saved_at=saved_at,
            saved_work_s=ledger.work_s - work_since(since, seen.now, ledger),
            answered=status.answered_request if status is not None else 0,
        )


def grid_time(real: datetime, *, now: datetime, real_now: datetime, rate: float) -> datetime:
    """The grid time of a real moment, never later than `now`, which is grid time at `real_now`."""
    return now - timedelta(seconds=max(0.0, (real_now - real).total_seconds()) * rate)


def work_since(since: datetime, now: datetime, ledger: Ledger) -> float:
    """Grid seconds at full speed between two grid times, at the job's mean pace, and never more than all.

    Pauses in between are not known any more: they count as work, so the answer is rather too high.
    """
    pace = 1.0 - ledger.used_share
    return min(ledger.work_s, max(0.0, (now - since).total_seconds()) * pace)

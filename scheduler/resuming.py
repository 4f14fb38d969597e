"""Where the last controller's accounts ended, so that the next one counts on from there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from scheduler.bill import EnergyRow, RowKey
from scheduler.learning import Learned
from scheduler.ledger import Ledger
from scheduler.model import Job, JobState
from scheduler.store import Counter, NotFound, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """What the database knows. `until` is grid time up to which it is accounted; None = nothing was yet.

    `holders` are the jobs that the GPUs were last counted under, each with the run it then had; a run that
    has ended since is still in there, with its job as RUNNING.
    """

    counters: Mapping[str, Counter]
    holders: Mapping[str, Job]
    rows: dict[RowKey, EnergyRow]
    ledgers: dict[str, Ledger]
    run_samples: dict[str, float]
    learned: dict[tuple[str, str], Learned]
    until: datetime | None


def read_accounts(store: Store, jobs: Iterable[Job], now: datetime) -> Accounts:
    """`jobs` are those that have not ended. Raises StoreUnavailable."""
    counters = store.energy.last_counters()
    oldest = min((c.at for c in counters.values()), default=now)
    rows = {row.key: row for row in store.energy.open_rows(oldest)}
    ledgers, run_samples = {}, {}
    current = {job.run.id: job for job in jobs if job.run is not None}
    for job in jobs:
        of_job = store.energy.rows(job_id=job.id)
        ledgers[job.id] = Ledger.from_rows(of_job, now)
    held = {uuid: _holder(store, counter, current) for uuid, counter in counters.items()}
    holders = {uuid: holder for uuid, holder in held.items() if holder is not None}
    for run_id, owner in [*current.items(), *((h.run.id, h) for h in holders.values() if h.run)]:
        run_samples[run_id] = sum(r.samples for r in store.energy.rows(job_id=owner.id, run_id=run_id))
    return Accounts(
        counters=counters,
        holders=holders,
        rows=rows,
        ledgers=ledgers,
        run_samples=run_samples,
        learned={key: Learned(**curve) for key, curve in store.curves.all().items()},
        until=max((c.at for c in counters.values()), default=None),
    )


def _holder(store: Store, counter: Counter, current: Mapping[str, Job]) -> Job | None:
    if counter.run_id is None or counter.job_id is None:
        return None
    if counter.run_id in current:
        return current[counter.run_id]
    try:
        job = store.jobs.get(counter.job_id)
    except NotFound:
        return None
    run = next((run for run in store.jobs.runs(job.id) if run.id == counter.run_id), None)
    return None if run is None else job.but(run=run, state=JobState.RUNNING)

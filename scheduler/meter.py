"""The accountant of the loop: joules to bills, running seconds to contracts, draws to curves, stops to costs.

Works from the samples of one cycle and of the one before. After a restart it goes on from the counters that
the database last saw, so that joules drawn meanwhile are on the bill.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from power.series import Series
from scheduler.bill import EnergyRow, Interval, RowKey, accrue, accrue_host
from scheduler.learning import CurveBook
from scheduler.ledger import Ledger
from scheduler.model import Job, JobState
from scheduler.observation import Observation
from scheduler.plant import Plant
from scheduler.resuming import read_accounts
from scheduler.stop_meter import StopMeter
from scheduler.store import StoreUnavailable
from telemetry.sample import GpuSample

log = logging.getLogger("wattmill.meter")

FLUSH_EVERY_S = 5.0  # real seconds between writes; a crash loses no joules, the counters keep them
KEEP_ROWS = timedelta(minutes=30)  # grid time that closed rows stay in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """A GPU's counter at its last accounting, and whose time has run since."""

    at: datetime
    counter_j: float
    gpu_counter_j: float | None = None
    power_w: float | None
    cap_w: float | None
    job: Job | None
    share: float = 1.0


class Meter:
    """Holds the open energy rows and one ledger per job."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._marks: dict[str, _Mark] = {}
        self._host_at: datetime | None = None
        self._rows: dict[RowKey, EnergyRow] = {}
        self._dirty: set[RowKey] = set()
        self._ledgers: dict[str, Ledger] = {}
        self._run_samples: dict[str, float] = {}
        self._ledger_at: datetime | None = None
        self._flush_due_s = 0.0
        self._resumed = False
        self.curves = CurveBook()
        self.stops = StopMeter(plant)

    def ledgers(self) -> Mapping[str, Ledger]:
        return self._ledgers

    def work_done_s(self) -> dict[str, float]:
        """Grid seconds at full speed that each job has behind it."""
        return {job_id: ledger.work_s for job_id, ledger in self._ledgers.items()}

    def account(self, seen: Observation) -> None:
        """Add the time since the last call; write now and then."""
        if not self._resumed and not self._resume(seen):
            return  # without the database's counters the interval would be lost: wait for it
        for sample in seen.samples.values():
            self._account_gpu(sample, seen)
        self._account_host(seen)
        self._account_ledgers(seen)
        self.stops.account(seen, self._ledgers)
        self._forget(seen)
        if seen.monotonic_s >= self._flush_due_s:
            self.flush(seen)

    # --- energy -----------------------------------------------------------------------------------------

    def _account_gpu(self, sample: GpuSample, seen: Observation) -> None:
        uuid, holder = sample.info.uuid, seen.holder(sample.info.uuid)
        before = self._marks.get(uuid)
        reading = sample.reading
        if reading is None:
            return  # its counter will tell when it is back
        after = _Mark(
            at=sample.at,
            counter_j=sample.energy_j,
            gpu_counter_j=reading.energy_j,
            power_w=reading.power_w,
            cap_w=reading.enforced_cap_w,
            job=holder,
            share=self._share(sample, holder),
        )
        self._marks[uuid] = after
        if before is not None and _run_id(before.job) != _run_id(holder):
            self._flush_due_s = seen.monotonic_s  # whose joules they are from here on must survive a crash
        if before is not None and before.at < after.at:
            interval = self._interval(uuid, before, after, seen)
            self._add(accrue(self._rows, interval, *_series(seen)))
            self._count(interval, seen)
        if holder is not None and holder.state is JobState.RUNNING:
            self._learn(sample, holder)

    def _count(self, interval: Interval, seen: Observation) -> None:
        """The site's running totals, for metrics; the bill is made of rows."""
        if interval.run_id is None:
            return
        joules, price = interval.energy_j, seen.price.value_now
        self._plant.counts.add("wattmill_energy_joules_total", joules)
        if price is not None and price >= 0:  # a counter never falls: negative prices are on the bill alone
            self._plant.counts.add("wattmill_energy_cost_total", joules / 3.6e9 * price)

    def _interval(self, uuid: str, before: _Mark, after: _Mark, seen: Observation) -> Interval:
        job = before.job
        run = job.run if job is not None else None
        running = job is not None and job.state is JobState.RUNNING and not _frozen(job, seen)
        return Interval(
            gpu_uuid=uuid,
            start=before.at,
            end=after.at,
            counter_before_j=before.counter_j,
            counter_after_j=after.counter_j,
            gpu_counter_j=after.gpu_counter_j,
            power_before_w=before.power_w,
            power_after_w=after.power_w,
            job_id=job.id if job is not None and run is not None else None,
            run_id=run.id if run is not None else None,
            running=running,
            throughput_share=before.share,
            cap_w=before.cap_w or 0.0,
            samples=self._new_samples(job, uuid, seen),
        )

    def _share(self, sample: GpuSample, holder: Job | None) -> float:
        """Throughput (0..1 of uncapped) that the curve gives at the cap in force."""
        cap_w = sample.reading.enforced_cap_w if sample.reading is not None else None
        if holder is None or cap_w is None:
            return 1.0
        return self.curves.curve(sample.info, holder.spec.workload).throughput(cap_w)

    def _new_samples(self, job: Job | None, uuid: str, seen: Observation) -> float:
        """Samples that the run reported since the last call; counted on its first GPU."""
        if job is None or job.run is None or uuid != job.run.gpu_uuids[0]:
            return 0.0
        status = seen.statuses.get(job.run.id)
        if status is None or status.progress is None:
            return 0.0
        before = self._run_samples.get(job.run.id, 0.0)
        self._run_samples[job.run.id] = status.progress.samples
        return max(0.0, status.progress.samples - before)

    def _account_host(self, seen: Observation) -> None:
        if self._host_at is not None and self._host_at < seen.now:
            for domain in self._plant.tree.domains.values():
                if domain.base_load_w > 0:
                    self._add(
                        accrue_host(
                            self._rows,
                            self._host_at,
                            seen.now,
                            domain.base_load_w,
                            *_series(seen),
                            domain=domain.name,
                        )
                    )
        self._host_at = seen.now

    def _add(self, changed: Mapping[RowKey, EnergyRow]) -> None:
        self._rows.update(changed)
        self._dirty.update(changed)

    # --- contracts and curves ---------------------------------------------------------------------------

    def _account_ledgers(self, seen: Observation) -> None:
        if self._ledger_at is not None and self._ledger_at < seen.now:
            seconds = (seen.now - self._ledger_at).total_seconds()
            for job in seen.jobs:
                if job.state is JobState.RUNNING and job.run is not None and not _frozen(job, seen):
                    marks = [self._marks[u] for u in job.run.gpu_uuids if u in self._marks]
                    share = min((m.share for m in marks), default=1.0)
                    ledger = self._ledgers.get(job.id, Ledger())
                    self._ledgers[job.id] = ledger.add(self._ledger_at, seconds, share)
        self._ledger_at = seen.now

    def _learn(self, sample: GpuSample, job: Job) -> None:
        reading = sample.reading
        if reading is None or reading.power_w is None or reading.enforced_cap_w is None:
            return
        self.curves.observe(
            sample.info,
            job.spec.workload,
            draw_w=reading.power_w,
            cap_w=reading.enforced_cap_w,
            utilization=reading.utilization or 0.0,
        )

    # --- the database -----------------------------------------------------------------------------------

    def flush(self, seen: Observation) -> None:
        """Write what changed. With the database away it stays in memory for the next time."""
        self._flush_due_s = seen.monotonic_s + FLUSH_EVERY_S
        try:
            self._plant.store.energy.upsert(self._rows[key] for key in sorted(self._dirty))
            for key in sorted(self.curves.changed):
                learned = self.curves.learned(key)
                self._plant.store.curves.put(
                    *key, {"demand_w": learned.demand_w, "seconds": learned.seconds}, seen.now
                )
            self.stops.flush(seen)
        except StoreUnavailable as error:
            self._plant.counts.add("wattmill_store_errors_total")
            log.error("energy rows kept in memory: %s", error)
            return
        self._dirty.clear()
        self.curves.changed.clear()

    def _resume(self, seen: Observation) -> bool:
        """Take up counters, open rows, ledgers, curves and stop costs where the last controller left them."""
        try:
            known = read_accounts(self._plant.store, seen.jobs, seen.now)
            self.stops.resume()
        except StoreUnavailable as error:
            self._plant.counts.add("wattmill_store_errors_total")
            log.error("not accounting yet: %s", error)
            return False
        self._rows, self._ledgers, self._run_samples = known.rows, known.ledgers, known.run_samples
        self.curves = CurveBook(known.learned)
        for uuid, counter in known.counters.items():
            sample, job = seen.samples.get(uuid), known.holders.get(uuid) or seen.holder(uuid)
            self._marks[uuid] = _Mark(
                at=counter.at,
                counter_j=counter.counter_j,
                power_w=None,
                cap_w=self._cap_now(uuid, seen),
                job=job,
                share=self._share(sample, job) if sample is not None else 1.0,
            )
            if sample is not None and job is not None:
                self._close_ended(uuid, job, sample, seen)
        self._host_at = self._ledger_at = known.until
        self._resumed = True
        return True

    def _close_ended(self, uuid: str, job: Job, sample: GpuSample, seen: Observation) -> None:
        """A run that ended while nobody counted: what its GPU drew idle since is not on its bill."""
        status = seen.statuses.get(job.run.id) if job.run is not None else None
        if status is None or status.ended_at is None or sample.reading is None:
            return
        clock, before = self._plant.clock, self._marks[uuid]
        since_s = max(0.0, (datetime.now(UTC) - status.ended_at).total_seconds()) * clock.rate
        since_s = min(since_s, max(0.0, (sample.at - before.at).total_seconds()))
        idle_j = min((sample.reading.power_w or 0.0) * since_s, sample.energy_j - before.counter_j)
        ended_at = max(before.at, sample.at - timedelta(seconds=since_s))
        if idle_j < 0:
            return  # the counter started anew: nobody can tell
        end = _Mark(
            at=ended_at, counter_j=sample.energy_j - idle_j, power_w=None, cap_w=before.cap_w, job=None
        )
        if before.at < ended_at:
            self._add(accrue(self._rows, self._interval(uuid, before, end, seen), *_series(seen)))
            self._marks[uuid] = end
        else:
            self._marks[uuid] = replace(before, job=None)

    def _cap_now(self, uuid: str, seen: Observation) -> float | None:
        sample = seen.samples.get(uuid)
        return sample.reading.enforced_cap_w if sample is not None and sample.reading is not None else None

    def _forget(self, seen: Observation) -> None:
        """Drop closed rows that are written, and the accounts of jobs that ended."""
        stale = [
            k for k, r in self._rows.items() if r.slot_end < seen.now - KEEP_ROWS and k not in self._dirty
        ]
        for key in stale:
            del self._rows[key]
        alive = {job.id for job in seen.jobs}
        for job_id in [j for j in self._ledgers if j not in alive]:
            del self._ledgers[job_id]


def _series(seen: Observation) -> tuple[Series, Series]:
    return seen.price.series, seen.carbon.series


def _run_id(job: Job | None) -> str | None:
    return job.run.id if job is not None and job.run is not None else None


def _frozen(job: Job, seen: Observation) -> bool:
    return job.run is not None and seen.frozen(job.run.id)

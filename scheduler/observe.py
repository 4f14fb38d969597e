"""Looks at everything and builds the Snapshot. Reads only; each source that fails becomes a named state."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from power.accounting import AccountingRules
from power.device import GpuInfo
from power.grid.feed import Kind
from power.readings import Readings
from scheduler.cap_book import CapBook
from scheduler.fleet import Fleet, Kept
from scheduler.gates import gate
from scheduler.horizon import AHEAD
from scheduler.horizon_view import HorizonView
from scheduler.job_views import JobFacts, job_views
from scheduler.meter import Meter
from scheduler.model import Job
from scheduler.observation import Observation, Wishes
from scheduler.plant import Plant
from scheduler.policy.price_rule import PriceRule, RuleState, evaluate
from scheduler.snapshot import JobView, Snapshot
from scheduler.store import StoreUnavailable

log = logging.getLogger("wattmill.observe")


class Observer:
    """Keeps what must be remembered between looks: the last wishes, rules in force, and the fleet."""

    def __init__(self, plant: Plant, book: CapBook) -> None:
        self._plant = plant
        self._book = book
        self._wishes = Wishes()
        self._rule_states: dict[str, RuleState] = {}
        self._horizon = HorizonView(plant.config, plant.store, plant.tree)
        self._boards: tuple[GpuInfo, ...] = ()
        self._views: dict[str, JobView] = {}  # as they stand in the fleet
        self._fleet = self._new_fleet()

    def _new_fleet(self) -> Fleet:
        control, gpus = self._plant.config.control, self._plant.config.gpus
        rules = AccountingRules(
            stale_s=control.stale_s, idle_mark_w=gpus.idle_mark_w, idle_margin_w=gpus.idle_margin_w
        )
        settling_s = control.settle_s + control.stale_s
        return Fleet(self._plant.tree, self._boards, rules=rules, settling_s=settling_s)

    def observe(self, cycle: int, faults: tuple[str, ...] = ()) -> Observation:
        """Look at GPUs, runs, wishes and prices. `faults` are named states found before."""
        plant, degraded = self._plant, list(faults)
        now = plant.clock.now()
        try:
            self._wishes = self._read_wishes(now)
        except StoreUnavailable as error:
            # The cap loop goes on with the last wishes it knows; nothing is started without the database.
            plant.counts.add("wattmill_store_errors_total")
            log.error("database unavailable, going on with what was last read: %s", error)
            degraded.append("database_down")
        samples = {sample.info.uuid: sample for sample in plant.telemetry.sample()}
        if any(sample.reading is None for sample in samples.values()):
            degraded.append("telemetry_stale")
        price, carbon = plant.signals.current(Kind.PRICE, now), plant.signals.current(Kind.CARBON, now)
        if price.value_now is None:
            degraded.append("no_prices")
        return Observation(
            cycle=cycle,
            now=now,
            monotonic_s=plant.clock.monotonic_s(),
            samples=samples,
            statuses=plant.engine.observe(),
            wishes=self._wishes,
            price=price,
            carbon=carbon,
            active_rules=self._active_rules(price.value_now, now),
            degraded=tuple(degraded),
        )

    def with_jobs(self, seen: Observation, jobs: tuple[Job, ...]) -> Observation:
        """The same look after the jobs moved on."""
        self._wishes = replace(self._wishes, jobs=jobs)
        waits = (gate(job, seen.now, self._wishes.dependencies) for job in jobs)
        return replace(seen, wishes=self._wishes, gated=tuple(wait for wait in waits if wait is not None))

    def snapshot(self, seen: Observation, meter: Meter, kept: Mapping[str, Kept]) -> Snapshot:
        """The picture to decide on. `kept`: GPUs promised to starts that wait for room.

        Such a job is no candidate for another place meanwhile; one that a gate holds back keeps nothing.
        """
        plant = self._plant
        gated = frozenset(wait.job_id for wait in seen.gated)
        kept = {uuid: what for uuid, what in kept.items() if what.job_id not in gated}
        self._put_gpus(seen, kept)
        pending = frozenset(what.job_id for what in kept.values())
        self._put_jobs(job_views(seen.jobs, self._facts(seen, meter, gated | pending)))
        limits = plant.tree.limits_at(seen.now, seen.wishes.budgets)
        headroom_w = plant.config.control.headroom_w
        return self._fleet.snapshot(
            monotonic_s=seen.monotonic_s,
            cycle=seen.cycle,
            now=seen.now,
            limits_w={name: limit - headroom_w for name, limit in limits.items()},
            price_per_mwh=seen.price.value_now,
            carbon_g_per_kwh=seen.carbon.value_now,
            carbon_cost_per_tonne=plant.config.site.carbon_cost_per_tonne,
            prices=seen.price.series,
            horizon=self._horizon.at(seen),
            degraded=seen.degraded,
            min_run_s=plant.config.control.min_run_s * plant.clock.rate,
        )

    def _put_gpus(self, seen: Observation, kept: Mapping[str, Kept]) -> None:
        samples = tuple(seen.samples.values())
        boards = tuple(sample.info for sample in samples)
        if boards != self._boards:
            self._boards, self._views = boards, {}
            self._fleet = self._new_fleet()
        fleet, book = self._fleet, self._book
        fleet.put_readings(Readings.of((sample.reading, sample.monotonic_s) for sample in samples))
        on_node = {domain.name: domain.gpu_uuids for domain in self._plant.tree.domains.values()}
        fleet.mark_cordoned(u for name in seen.wishes.cordoned for u in (name, *on_node.get(name, ())))
        fleet.mark_fixed(book.unsettable)
        fleet.mark_unsettled(book.unsettled_w(seen.monotonic_s))
        fleet.mark_kept(kept)

    def _put_jobs(self, views: Iterable[JobView]) -> None:
        """Only those of which something changed."""
        before, self._views = self._views, {view.job.id: view for view in views}
        for job_id in before:
            if job_id not in self._views:
                self._fleet.drop_job(job_id)
        for job_id, view in self._views.items():
            if before.get(job_id) != view:
                self._fleet.put_job(view)

    def _facts(self, seen: Observation, meter: Meter, held_back: frozenset[str]) -> JobFacts:
        return JobFacts(
            config=self._plant.config,
            curves=meter.curves,
            gpus={uuid: sample.info for uuid, sample in seen.samples.items()},
            rules=seen.active_rules,
            gated=held_back,
            frozen_runs=frozenset(run_id for run_id in seen.statuses if seen.frozen(run_id)),
            ledgers=meter.ledgers(),
            work_done_s=meter.work_done_s(),
            stops=meter.stops.figures(seen.jobs),
            now=seen.now,
        )

    def _read_wishes(self, now: datetime) -> Wishes:
        store = self._plant.store
        jobs = tuple(store.jobs.active())
        wanted = {other for job in jobs for other in job.spec.depends_on}
        marks = store.nodes.marks()
        return Wishes(
            jobs=jobs,
            budgets=tuple(store.budgets.list(at=now, until=now + AHEAD)),
            rules=tuple(store.policies.list()),
            cordoned=frozenset(mark.name for mark in marks),
            draining=frozenset(mark.name for mark in marks if mark.drain),
            dependencies=store.jobs.states(wanted) if wanted else {},
        )

    def _active_rules(self, price: float | None, now: datetime) -> tuple[PriceRule, ...]:
        self._rule_states, active = evaluate(self._wishes.rules, self._rule_states, price, now)
        return active

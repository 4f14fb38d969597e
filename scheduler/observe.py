"""Looks at everything and builds the Snapshot. Reads only; each source that fails becomes a named state."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from power.accounting import Accounted, AccountingRules, Load, account
from power.curve import prior
from power.device import GpuInfo
from power.grid.feed import Kind
from scheduler.cap_book import CapBook
from scheduler.gates import gate
from scheduler.job_views import JobFacts, job_views
from scheduler.meter import Meter
from scheduler.model import Job
from scheduler.observation import Observation, Wishes
from scheduler.plant import Plant
from scheduler.policy.price_rule import PriceRule, RuleState, evaluate
from scheduler.snapshot import GpuView, Snapshot
from scheduler.store import StoreUnavailable
from telemetry.sample import GpuSample

log = logging.getLogger("wattmill.observe")


class Observer:
    """Keeps what must be remembered between looks: the last wishes, idle draws, rules in force."""

    def __init__(self, plant: Plant, book: CapBook) -> None:
        self._plant = plant
        self._book = book
        self._wishes = Wishes()
        self._rule_states: dict[str, RuleState] = {}
        self._idle_w: dict[str, float] = {}
        self._held_at_s: dict[str, float] = {}  # monotonic: when a run of ours was last on a GPU
        self._node_of = {
            uuid: domain.name for domain in plant.tree.domains.values() for uuid in domain.gpu_uuids
        }
        gpus = plant.config.gpus
        self._rules = AccountingRules(
            stale_s=plant.config.control.stale_s,
            idle_mark_w=gpus.idle_mark_w,
            idle_margin_w=gpus.idle_margin_w,
        )

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

    def snapshot(self, seen: Observation, meter: Meter, reserved_w: Mapping[str, float]) -> Snapshot:
        """The picture to decide on. `reserved_w`: watts per GPU promised to a start that waits for room."""
        plant = self._plant
        limits = plant.tree.limits_at(seen.now, seen.wishes.budgets)
        headroom_w = plant.config.control.headroom_w
        return Snapshot(
            cycle=seen.cycle,
            now=seen.now,
            tree=plant.tree,
            limits_w={name: limit - headroom_w for name, limit in limits.items()},
            gpus=tuple(self._gpu_view(s, seen, reserved_w) for s in seen.samples.values()),
            jobs=job_views(seen.jobs, self._facts(seen, meter)),
            price_per_mwh=seen.price.value_now,
            carbon_g_per_kwh=seen.carbon.value_now,
            carbon_cost_per_tonne=plant.config.site.carbon_cost_per_tonne,
            prices=seen.price.series,
            degraded=seen.degraded,
            min_run_s=plant.config.control.min_run_s * plant.clock.rate,
        )

    def _facts(self, seen: Observation, meter: Meter) -> JobFacts:
        return JobFacts(
            config=self._plant.config,
            curves=meter.curves,
            gpus={uuid: sample.info for uuid, sample in seen.samples.items()},
            rules=seen.active_rules,
            gated=frozenset(wait.job_id for wait in seen.gated),
            frozen_runs=frozenset(run_id for run_id in seen.statuses if seen.frozen(run_id)),
            ledgers=meter.ledgers(),
            work_done_s=meter.work_done_s(),
            now=seen.now,
        )

    def _read_wishes(self, now: datetime) -> Wishes:
        store = self._plant.store
        jobs = tuple(store.jobs.active())
        wanted = {other for job in jobs for other in job.spec.depends_on}
        marks = store.nodes.marks()
        return Wishes(
            jobs=jobs,
            budgets=tuple(store.budgets.list(at=now)),
            rules=tuple(store.policies.list()),
            cordoned=frozenset(mark.name for mark in marks),
            draining=frozenset(mark.name for mark in marks if mark.drain),
            dependencies=store.jobs.states(wanted) if wanted else {},
        )

    def _active_rules(self, price: float | None, now: datetime) -> tuple[PriceRule, ...]:
        self._rule_states, active = evaluate(self._wishes.rules, self._rule_states, price, now)
        return active

    def _gpu_view(self, sample: GpuSample, seen: Observation, reserved_w: Mapping[str, float]) -> GpuView:
        info, holder, reading = sample.info, seen.holder(sample.info.uuid), sample.reading
        figure = self._counts_at(sample, holder is not None, seen.monotonic_s)
        if figure.load is Load.EMPTY:
            self._idle_w[info.uuid] = figure.watts
        if holder is not None:
            self._held_at_s[info.uuid] = seen.monotonic_s
        names = {info.uuid, self._node_of.get(info.uuid, "")}
        return GpuView(
            uuid=info.uuid,
            model=info.model,
            min_cap_w=info.min_cap_w,
            max_cap_w=info.max_cap_w,
            confirmed_cap_w=None if reading is None else reading.enforced_cap_w,
            accounted_w=max(figure.watts, reserved_w.get(info.uuid, 0.0)),
            idle_w=self._idle_draw_w(info),
            draw_w=None if reading is None else reading.power_w,
            settable=self._book.settable(info.uuid),
            healthy=reading is not None and figure.load is not Load.UNKNOWN,
            cordoned=bool(names & seen.wishes.cordoned),
            run_id=None if holder is None or holder.run is None else holder.run.id,
            foreign=figure.load is Load.FOREIGN,
            settling=holder is None and seen.monotonic_s < self._settled_at_s(info.uuid),
        )

    def _settled_at_s(self, uuid: str) -> float:
        """When the watts of its last run are gone, and its processes from the driver's list."""
        control = self._plant.config.control
        return self._held_at_s.get(uuid, -math.inf) + control.settle_s + control.stale_s

    def _idle_draw_w(self, info: GpuInfo) -> float:
        """As last measured on it; never seen idle: what such boards draw, by the curve of the model."""
        if info.uuid in self._idle_w:
            return self._idle_w[info.uuid]
        curve = prior(info.model, min_cap_w=info.min_cap_w, max_cap_w=info.max_cap_w, workload=None)
        return min(info.min_cap_w, curve.idle_w + self._rules.idle_margin_w)

    def _counts_at(self, sample: GpuSample, has_run: bool, monotonic_s: float) -> Accounted:
        reading = sample.reading
        confirmed_w = None if reading is None else reading.enforced_cap_w
        if confirmed_w is not None:
            confirmed_w = self._book.counts_at_w(sample.info.uuid, confirmed_w, monotonic_s)
        return account(
            sample.info,
            reading,
            age_s=monotonic_s - sample.monotonic_s,
            confirmed_cap_w=confirmed_w,
            has_run=has_run,
            rules=self._rules,
        )

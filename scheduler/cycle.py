"""The loop on one page: observe, reconcile, account, decide, verify, act, publish.

Runs every second on the monotonic clock, and at once when the API wakes it. It holds no state that it could
not rebuild: kill it at any instruction and the next start reads the database, the engine and the GPUs.
"""

from __future__ import annotations

import logging
from datetime import datetime

import numpy as np

from scheduler.act import Actor
from scheduler.cap_book import CapBook
from scheduler.cap_step import cap_step
from scheduler.decision import Certificate, Decision
from scheduler.drain import drained
from scheduler.history import History
from scheduler.merging import merged
from scheduler.meter import Meter
from scheduler.observation import Observation
from scheduler.observe import Observer
from scheduler.plan_state import plan_state
from scheduler.plant import Plant
from scheduler.publishing import Publication, published_state
from scheduler.reconciler import Reconciler
from scheduler.snapshot import Snapshot
from scheduler.steady import steady, thawed_as_they_are
from scheduler.verify import Refusals, verify
from scheduler.windows import Plan

log = logging.getLogger("wattmill.cycle")


class Cycle:
    """One turn of the loop per `run_once`."""

    def __init__(self, plant: Plant) -> None:
        book = CapBook(plant.config.control.settle_s)
        self._plant = plant
        self._observer = Observer(plant, book)
        self._reconciler = Reconciler(plant)
        self._meter = Meter(plant)
        self._history = History(plant)
        self._actor = Actor(plant, book)
        self._certificates: dict[str, tuple[Certificate, datetime]] = {}
        self._number = 0
        self._place_due_s = 0.0
        self._looked_at_s = 0.0
        self._plan: Plan | None = None  # as last published
        self.placing = False  # a placement is being solved: look again soon

    def run_once(self, *, woken: bool = False) -> None:
        """One turn. `woken`: somebody wants something new."""
        plant, self._number = self._plant, self._number + 1

        # 1. Observe: GPUs, runs, wishes, prices.
        faults = self._actor.renew_lease()
        if woken:
            plant.signals.reload()
        seen = self._observer.observe(self._number, faults)

        # 2. Reconcile: what followed from wishes and exits is written before anything new is decided.
        jobs, moved = self._reconciler.apply(seen)
        seen = self._observer.with_jobs(seen, jobs)

        # 3. Account: joules to bills, running time to contracts, draws to curves.
        self._meter.account(seen)
        self._history.add(seen)
        snapshot = self._observer.snapshot(seen, self._meter, self._actor.pending.kept)

        # 4. Decide: caps every time, placement whenever the solver has an answer.
        placement = self._placement(snapshot, at_once=woken or moved, monotonic_s=seen.monotonic_s)
        caps = steady(cap_step(snapshot), snapshot)
        stops = drained(seen.jobs, seen.wishes.draining, plant.tree)
        proposal = merged(caps, placement, self._actor.pending.starts, seen.gated, stops)
        proposal = thawed_as_they_are(proposal, snapshot)

        # 5. Verify against the newest picture; what does not fit is dropped, with a reason.
        kept, refused = verify(proposal, snapshot)

        # 6. Act: lower, confirm, settle, raise; reserve, cap, confirm, start.
        self._count(proposal, refused, seen)
        self._actor.apply(kept, refused, seen, snapshot)

        # 7. Publish what is so now.
        self._certificates.update({c.step: (c, seen.now) for c in kept.certificates})
        self._count_excess(snapshot, seen)
        self._publish_plan(snapshot)
        plant.publisher.publish(published_state(plant, self._publication(seen, snapshot, kept)))
        if plant.clock.monotonic_s() - seen.monotonic_s > plant.config.control.cap_period_s:
            plant.counts.add("wattmill_cycle_overruns_total")

    def _placement(self, snapshot: Snapshot, *, at_once: bool, monotonic_s: float) -> Decision | None:
        """Ask for a placement when one is due; return the last one asked for, once it is there."""
        answer = self._plant.placer.poll()
        if answer is not None:
            self.placing = False
        at_once = at_once or self._plant.placer.plan is not self._plan  # a new plan lets others start
        due = at_once or monotonic_s >= self._place_due_s
        if due and not self.placing:
            self._plant.placer.submit(snapshot)
            self.placing = True
            self._place_due_s = monotonic_s + self._plant.config.control.place_period_s
        elif at_once:
            self._place_due_s = monotonic_s  # asked again as soon as the present one is done
        return answer

    def _count(self, proposal: Decision, refused: Refusals, seen: Observation) -> None:
        for fault in seen.degraded:
            self._plant.counts.add("wattmill_cycle_faults_total", fault=fault)
        for refusal in refused.moves:
            log.debug("refused %s of job %s: %s", refusal.action, refusal.job_id, refusal.reason)
        for action, count in refused.per_action().items():
            self._plant.counts.add("wattmill_decision_refusals_total", count, action=action)
        for certificate in proposal.certificates:
            if certificate.fallback is not None:
                self._plant.counts.add("wattmill_solver_fallbacks_total", step=certificate.step)

    def _count_excess(self, snapshot: Snapshot, seen: Observation) -> None:
        """Real seconds in which a domain's measured draw was above its limit."""
        since_s, self._looked_at_s = seen.monotonic_s - self._looked_at_s, seen.monotonic_s
        index, gpus = snapshot.tree.index, snapshot.gpus
        drawn_w = index.metered_w(index.under(gpus.leaf, np.nan_to_num(gpus.draw_w)))
        over = np.nonzero(drawn_w > snapshot.domain_limit_w)[0].tolist()
        for name in [index.names[column] for column in over] if seen.cycle > 1 else ():
            self._plant.counts.add("wattmill_budget_exceeded_seconds_total", since_s, domain=name)

    def _publish_plan(self, snapshot: Snapshot) -> None:
        """Once for each plan."""
        plan = self._plant.placer.plan
        if plan is not None and plan is not self._plan:
            self._plant.publisher.publish_plan(plan_state(plan, snapshot))
        self._plan = plan

    def _publication(self, seen: Observation, snapshot: Snapshot, kept: Decision) -> Publication:
        return Publication(
            seen=seen,
            snapshot=snapshot,
            kept=kept,
            meter=self._meter,
            certificates=tuple(self._certificates.values()),
            plan=self._plan,
            counters={**self._plant.counts.as_dict(), **self._plant.signals.counters()},
            capd=self._actor.enforcer_state(),
        )

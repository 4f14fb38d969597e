"""The loop of a simulation: the daemon's cycle with another clock, other boards and another engine.

Time jumps from one change to the next (a job arrives, ends, has launched or left; a price, a limit or what is
published changes). What follows a change is one turn: snapshot, caps, placement where one is due, verify, and
what passed is carried out. Where a turn had to leave something for lack of room, another follows once the
caps that were lowered have settled.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import timedelta

import numpy as np

from power.arrays import Floats
from scheduler.decision import Certificate
from scheduler.merging import merged
from scheduler.pending import PendingStarts
from scheduler.policy.policy import Policy
from scheduler.simulation.model import Outcome, Scenario
from scheduler.simulation.published import DayAhead, or_nan
from scheduler.simulation.recorder import Recorder
from scheduler.simulation.site import Signals, Site
from scheduler.simulation.work import Phase
from scheduler.steady import thawed_as_they_are
from scheduler.verify import verify

PLACE_LIMIT_S = 10.0  # a guard against a stuck solver; answers must not depend on how fast a machine is
LOOK_S = 900.0  # where jobs wait, a placement is due this often: plans are made in quarter hours
LEARN_S = 3600.0

Progress = Callable[[float], None]  # share of the time that has passed, 0..1


def simulate(scenario: Scenario, policy: Policy, *, progress: Progress | None = None) -> Outcome:
    """The scenario under this policy, from its start until every job has ended (or patience has)."""
    return _Simulation(scenario, policy, progress).run()


class _Simulation:
    def __init__(self, scenario: Scenario, policy: Policy, progress: Progress | None) -> None:
        self._scenario, self._policy, self._progress = scenario, policy, progress
        self._site = Site(scenario)
        self._pending = PendingStarts(self._site.control)
        self._signals = Signals(DayAhead(scenario.prices), DayAhead(scenario.carbon))
        self._recorder = Recorder(scenario, self._site)
        self._certificates: list[Certificate] = []
        self._arrived = 0
        self._turns = 0
        self._changed = False  # since the last placement
        self._place_from_s = 0.0
        self._again_at_s = math.inf
        self._limits_w: dict[str, float] = {}
        self._limited = False  # some domain has a limit
        self._price: float | None = None
        self._borders = _Borders(scenario, self._signals, look_s=min(LOOK_S, policy.looks_every_s))

    def run(self) -> Outcome:
        began_s = time.perf_counter()
        scenario, work = self._scenario, self._site.work
        last_s = (scenario.end - scenario.start).total_seconds() + scenario.patience_s
        self._cross_borders()
        while not self._over() and work.now_s < last_s:
            now, next_s = self._site.now(), min(self._next_s(), last_s)
            self._recorder.note(self._signals, self._limits_w)
            work.advance(
                next_s,
                price_per_mwh=or_nan(self._signals.prices.at(now)),
                carbon_g_per_kwh=or_nan(self._signals.carbon.at(now)),
            )
            self._happen()
            if self._progress is not None:
                self._progress(min(1.0, next_s / last_s))
        return Outcome(
            policy=self._policy.name,
            scenario=scenario,
            jobs=work.outcomes(),
            power=self._recorder.trace(),
            turns=self._turns,
            wall_s=time.perf_counter() - began_s,
            certificates=tuple(self._certificates),
        )

    def _over(self) -> bool:
        return (
            self._arrived == len(self._scenario.jobs) and self._site.work.count(Phase.DONE) == self._arrived
        )

    # --- what comes next ------------------------------------------------------------------------------------

    def _next_s(self) -> float:
        work = self._site.work
        waits_until_s = [work.next_change_s(), self._borders.next_s, self._again_at_s]
        if self._arrived < len(work.submitted_s):
            waits_until_s.append(float(work.submitted_s[self._arrived]))
        if self._changed:
            waits_until_s.append(self._place_from_s)
        return max(work.now_s, min(waits_until_s))

    def _happen(self) -> None:
        """Everything that is due now, and the turn that follows from it."""
        site, work = self._site, self._site.work
        self._changed |= site.settle()
        while self._arrived < len(work.submitted_s) and work.submitted_s[self._arrived] <= work.now_s:
            site.submit(self._arrived)
            self._arrived += 1
            self._changed = True
        limits_changed = self._cross_borders()
        place = self._changed and work.now_s >= self._place_from_s
        if place or limits_changed or work.now_s >= self._again_at_s:
            self._turn(place=place)

    def _cross_borders(self) -> bool:
        """True when a limit changed."""
        now_s = self._site.work.now_s
        if now_s < self._borders.next_s:
            return False
        if self._borders.learns(now_s):
            self._site.learn()
        self._borders.pass_by(now_s)
        limits_w = self._scenario.cluster.tree.limits_at(self._site.now(), self._scenario.budgets)
        limits_changed = limits_w != self._limits_w
        if limits_changed:
            self._limits_w = limits_w
            self._limited = any(math.isfinite(limit_w) for limit_w in limits_w.values())
        price = self._signals.prices.at(self._site.now())
        price_changed, self._price = price != self._price, price
        waits, runs = self._site.work.count(Phase.WAITING) > 0, len(self._site.work.holders) > 0
        restless = math.isfinite(self._policy.looks_every_s)  # it may stop who runs, though nobody waits
        self._changed |= waits or limits_changed or (runs and (price_changed or restless))
        return limits_changed

    # --- a turn ---------------------------------------------------------------------------------------------

    def _turn(self, *, place: bool) -> None:
        """One turn of the daemon's cycle; see `scheduler/cycle.py` for the same steps."""
        site, policy, now_s = self._site, self._policy, self._site.work.now_s
        self._turns += 1
        site.keep(self._pending)
        snapshot = site.snapshot(turn=self._turns, limits_w=self._limits_w, signals=self._signals)
        placement = None
        if place:
            placement = policy.place(snapshot, time_limit_s=PLACE_LIMIT_S)
            self._certificates += placement.certificates
            self._changed, self._place_from_s = False, now_s + self._scenario.cadence.place_s
        proposal = merged(policy.caps(snapshot), placement, self._pending.starts)
        kept, refused = verify(thawed_as_they_are(proposal, snapshot), snapshot)
        site.carry_out(kept, snapshot)
        self._pending.keep(kept, refused.moves, snapshot, held_back=(), monotonic_s=now_s)
        unsettled = bool(self._pending.starts) or (self._limited and (len(refused) > 0 or site.moved_caps))
        self._again_at_s = now_s + 2 * self._scenario.cadence.settle_s if unsettled else math.inf


class _Borders:
    """Moments at which something outside changes: prices, carbon, budgets, what is published; and those at
    which a policy looks anew at what waits."""

    def __init__(self, scenario: Scenario, signals: Signals, *, look_s: float) -> None:
        self._scenario, self._signals, self._look_s = scenario, signals, look_s
        edges = {edge for b in scenario.budgets for edge in (b.start, b.end) if edge is not None}
        self._edges_s: Floats = np.array(
            sorted((edge - scenario.start).total_seconds() for edge in edges), dtype=np.float64
        )
        self._learn_at_s = LEARN_S
        self.next_s = 0.0

    def learns(self, now_s: float) -> bool:
        """True once an hour."""
        due = now_s >= self._learn_at_s
        if due:
            self._learn_at_s = now_s + LEARN_S
        return due

    def pass_by(self, now_s: float) -> None:
        """Find the next one."""
        start = self._scenario.start
        now = start + timedelta(seconds=now_s)
        moments = [
            self._signals.prices.next_border(now),
            self._signals.carbon.next_border(now),
            self._signals.prices.next_publication(now),
        ]
        seconds = [(moment - start).total_seconds() for moment in moments if moment is not None]
        coming = self._edges_s[self._edges_s > now_s]
        seconds.append(float(coming[0]) if len(coming) else math.inf)
        seconds.append((math.floor(now_s / self._look_s) + 1) * self._look_s)
        self.next_s = min(seconds)

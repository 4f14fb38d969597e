"""Whom the price keeps from running now: rules that pause, ceilings, used up pause time. In columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Floats
from scheduler.job_table import JobTable
from scheduler.model import JobState
from scheduler.snapshot import Snapshot

PAUSE_COST_S = 30.0  # seconds of work that a freeze and its thaw are taken to lose


def pause_left(jobs: JobTable, now_s: float) -> Bools:
    """Per job: whether its contract still lets us pause it (pausable, and pause time not used up)."""
    paused = jobs.in_state(JobState.PAUSED)
    used_s = jobs.floats("paused_s") + np.where(paused, now_s - jobs.floats("since_s"), 0.0)
    most_s = jobs.floats("max_pause_s")
    return np.asarray(jobs.bools("pausable") & (np.isnan(most_s) | (used_s < most_s)), dtype=bool)


def stop_cost(jobs: JobTable) -> Floats:
    """Per job: money that a stop now and a start later lose: its checkpoint, its start, unsaved work."""
    lost_s = jobs.floats("restart_cost_s") + jobs.floats("lost_work_s")
    return lost_s / 3600.0 * jobs.ints("gpus") * jobs.floats("value_per_gpu_h")


def pause_cost(jobs: JobTable) -> Floats:
    """Per job: money that freezing and thawing it loses."""
    return PAUSE_COST_S / 3600.0 * jobs.ints("gpus") * jobs.floats("value_per_gpu_h")


@dataclass(frozen=True)
class PriceGate:
    """Per job: kept from running by a rule that pauses it, or by its own ceiling."""

    snapshot: Snapshot
    by_rule: Bools
    by_ceiling: Bools

    @property
    def shut(self) -> Bools:
        """Kept from running by either."""
        return np.asarray(self.by_rule | self.by_ceiling, dtype=bool)

    def reason(self, row: int) -> str:
        """The sentence with figures, for a job that is kept from running."""
        price = self.snapshot.price_per_mwh
        if self.by_rule[row]:
            at = "" if price is None else f" at {price:.2f}/MWh"
            return f"price rule {self.snapshot.jobs.rule_pause[row]} pauses it{at}"
        ceiling = float(self.snapshot.jobs.floats("ceiling_per_mwh")[row])
        return f"the price is {price or 0.0:.2f}/MWh, above its ceiling of {ceiling:.2f}/MWh"


def price_gate(snapshot: Snapshot) -> PriceGate:
    """A job that started once is kept off only while its contract lets us pause it."""
    jobs, price = snapshot.jobs, snapshot.price_per_mwh
    started = jobs.bools("started") | ~jobs.in_state(JobState.QUEUED)
    may = ~started | pause_left(jobs, snapshot.now.timestamp())
    by_rule = may & jobs.bools("rule_pauses")
    by_ceiling = np.zeros(len(jobs), dtype=bool)
    if price is not None:
        by_ceiling = may & ~by_rule & (jobs.floats("ceiling_per_mwh") < price)  # NaN: no ceiling
    return PriceGate(snapshot, by_rule, by_ceiling)

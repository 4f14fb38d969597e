"""What each job's owner is told about its cap: the condition at once, the sentence when somebody asks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from power.arrays import Floats, Ints
from power.capping import BUDGET, CapSplit
from power.tree_index import OUTSIDE
from scheduler.cap_demands import Steered
from scheduler.decision_tables import CONDITION_CODE
from scheduler.model import Condition
from scheduler.worth import FULL_SHARE

_AT_TOP_W = 1.0
_SAME_W = 1e-6


def conditions(jobs: Steered, split: CapSplit, cap_w: Floats) -> Ints:
    """The strongest cause, as codes into `CONDITIONS`."""
    demands, floors = jobs.demands, split.floors
    curves = demands.curves
    every = np.arange(len(curves.curves))
    full_w = curves.cap_for(every, np.full(len(every), FULL_SHARE))[demands.curve]
    broken = (floors.paused_for != OUTSIDE) | (floors.broken_for != OUTSIDE)
    codes: Ints = np.select(
        [~jobs.at_work, broken, cap_w >= full_w - _SAME_W, split.limited_by == BUDGET],
        [
            CONDITION_CODE[condition]
            for condition in (
                Condition.NOMINAL,
                Condition.EMERGENCY,
                Condition.NOMINAL,
                Condition.CAPPED_BUDGET,
            )
        ],
        CONDITION_CODE[Condition.CAPPED_PRICE],
    )
    return codes


@dataclass(frozen=True)
class Causes:
    """Makes the sentence for one entry, with figures."""

    jobs: Steered
    split: CapSplit
    cap_w: Floats
    condition: Ints

    def __call__(self, entry: int) -> str:
        snapshot, demands, row = self.jobs.snapshot, self.jobs.demands, int(self.jobs.row[entry])
        cap_w = float(self.cap_w[entry])
        if not self.jobs.at_work[entry]:
            return f"{snapshot.jobs.jobs[row].state}: {cap_w:.0f} W per GPU"
        curve = demands.curves.curves[demands.curve[entry]]
        speed = f"{cap_w:.0f} W per GPU, {curve.throughput(cap_w):.1%} of its speed"
        code = int(self.condition[entry])
        if code == CONDITION_CODE[Condition.EMERGENCY]:
            return (
                f"{self._domain(entry)} leaves it {speed}; its contract needs {demands.floor_w[entry]:.0f} W"
            )
        if code == CONDITION_CODE[Condition.NOMINAL]:
            return speed
        if code == CONDITION_CODE[Condition.CAPPED_BUDGET]:
            return f"{self._domain(entry)} leaves it {speed}"
        return f"{self._price(entry, row, cap_w)}: {speed}"

    def _domain(self, entry: int) -> str:
        column = int(self.split.binding[entry])
        if column == OUTSIDE:
            return "the budget"
        snapshot = self.jobs.snapshot
        limit_w = snapshot.domain_limit_w[column]
        return f"{snapshot.tree.index.names[column]}, limited to {limit_w:.0f} W,"

    def _price(self, entry: int, row: int, cap_w: float) -> str:
        snapshot = self.jobs.snapshot
        price = "" if snapshot.price_per_mwh is None else f" at {snapshot.price_per_mwh:.2f}/MWh"
        rule = float(snapshot.jobs.floats("rule_cap_share")[row])
        if not np.isnan(rule) and cap_w >= self.jobs.demands.ceiling_w[entry] - _AT_TOP_W:
            return f"a price rule allows {rule:.0%}{price}"
        return f"more watts would cost more than they bring{price}"

"""What one more unit of each scarce thing would be worth in each slot."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from power.arrays import Floats
from scheduler.plan.problem import PlanProblem


@dataclass(frozen=True, kw_only=True)
class SlotPrices:
    """Money per unit, never negative. Steps are those of the site's draw at a slot's start."""

    gpu_h: Floats  # Z x S, per GPU-hour
    watt_h: Floats  # D x S, per watt for an hour
    up_w: Floats  # S, per watt of a steeper step up
    down_w: Floats  # S, per watt of a steeper step down
    peak_w: Floats  # S, per watt under the month's peak; in sum no more than the demand charge

    @classmethod
    def zero(cls, problem: PlanProblem) -> SlotPrices:
        count, site = len(problem.slots), problem.site
        none = np.zeros(count)
        return cls(
            gpu_h=np.zeros((len(site.zones), count)),
            watt_h=np.zeros((len(site.domains), count)),
            up_w=none,
            down_w=none,
            peak_w=none,
        )

    @property
    def draw(self) -> Floats:
        """S: money per watt of deferred draw in the slot; negative where it smooths a fall."""
        step = self.up_w - self.down_w
        return np.asarray(step - np.append(step[1:], 0.0) + self.peak_w)


@dataclass(frozen=True, kw_only=True)
class Left:
    """Of each scarce thing what a choice of runs leaves, negative where it takes too much; fields as priced.

    GPU-hours, watt-hours and watts; infinite where nothing limits.
    """

    gpu_h: Floats
    watt_h: Floats
    up_w: Floats
    down_w: Floats
    peak_w: Floats

    @classmethod
    def of(cls, problem: PlanProblem, gpus: Floats, watts: Floats, draw_w: Floats) -> Left:
        """What is left beside runs that hold `gpus` (Z x S) and `watts` (D x S) and draw `draw_w` (S)."""
        site, hours = problem.site, problem.slots.hours
        up_w, down_w = site.steps_w(problem.slots)
        step_w = np.diff(draw_w, prepend=0.0)
        return cls(
            gpu_h=(site.gpus - gpus) * hours,
            watt_h=(site.watts - watts) * hours,
            up_w=up_w - step_w,
            down_w=down_w + step_w,
            peak_w=site.peak_w - site.draw_w - draw_w,
        )


def worth_of(prices: SlotPrices, left: Left) -> float:
    """Sum of price x amount; what has no price counts nothing, be it infinite."""
    total = 0.0
    for field in fields(SlotPrices):
        price, amount = getattr(prices, field.name), getattr(left, field.name)
        priced = price > 0
        total += float((price[priced] * amount[priced]).sum())
    return total

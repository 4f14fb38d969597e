"""What is known or expected of the next two days, beyond the moment. Values only; `plan` reads them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from power.budget import Budget
from power.grid.forecast import Outlook

__all__ = ["AHEAD", "Horizon", "Outlook", "less_headroom"]

AHEAD: Final = timedelta(hours=48)


def less_headroom(budgets: Iterable[Budget], headroom_w: float) -> tuple[Budget, ...]:
    """The same budgets with so many watts kept free under each; none below 0."""
    return tuple(replace(budget, limit_w=max(0.0, budget.limit_w - headroom_w)) for budget in budgets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """Empty where nothing is known: then the plan sees published prices and today's limits alone."""

    prices: Outlook = field(default_factory=Outlook)  # money per MWh
    carbon: Outlook = field(default_factory=Outlook)  # grams per kWh
    budgets: tuple[Budget, ...] = ()  # in force now or later, less the headroom
    ramp_w_per_min: float = math.inf  # how fast the site's draw may change, up or down
    demand_charge_per_kw: float = 0.0  # money per kW of the month's highest quarter hour
    month_peak_w: float = 0.0  # that quarter hour's mean draw so far, at the root domain

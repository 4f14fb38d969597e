"""The watts GPUs count as against a budget: the most they may draw, never merely what they draw. Pure.

In columns, a row per GPU: a hundred thousand of them are counted every second.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.readings import Processes, Readings

_DRAW_TOLERANCE_W = 5.0  # a draw this far above the cap is noise of the sensor,
_DRAW_TOLERANCE_SHARE = 0.03  # or this share of the cap, whichever is more
_IDLE_UTILIZATION = 0.01


class Load(StrEnum):
    """What is known of a GPU's load."""

    LOADED = "loaded"  # a run of ours, or nothing proves that it is empty
    EMPTY = "empty"  # proven: no process, no run, draw under the idle mark
    FOREIGN = "foreign"  # processes, and none of ours
    UNKNOWN = "unknown"  # lost, stale or implausible


LOADS: Final = tuple(Load)
LOAD_CODE: Final = {load: code for code, load in enumerate(LOADS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountingRules:
    """Where the lines are drawn; seconds are real ones."""

    stale_s: float = 3.0
    idle_mark_w: float = 120.0  # an empty GPU that draws more is not proven empty
    idle_margin_w: float = 15.0  # added to the measured draw of an empty one


@dataclass(frozen=True, slots=True)
class Accounted:
    """Per GPU: watts to count in every domain above it, and why that many."""

    watts: Floats
    load: Ints  # codes into LOADS

    def are(self, load: Load) -> Bools:
        """Rows with this load."""
        rows: Bools = self.load == LOAD_CODE[load]
        return rows


def account(
    readings: Readings,
    *,
    min_cap_w: Floats,
    max_cap_w: Floats,
    confirmed_cap_w: Floats,
    has_run: Bools,
    now_s: float,
    rules: AccountingRules,
) -> Accounted:
    """What GPUs count as.

    Args:
        readings: the last look at each; `now_s` less its time is how old it is.
        min_cap_w: the boards' own lowest limits.
        max_cap_w: and their highest.
        confirmed_cap_w: the limit last set and read back; NaN when never set, or not confirmed.
        has_run: a run of ours holds it, from before its launch until its end is proven.
    """
    age_s = now_s - readings.at_s
    power_w, utilization = readings.power_w, readings.utilization
    silent = np.isnan(power_w)
    idle = ~(utilization > _IDLE_UTILIZATION)
    drawing = power_w > 0  # False where it does not say
    # A reading that contradicts itself or the board says nothing; one without a draw says the rest.
    plausible = silent | ((power_w >= 0) & (power_w <= 2 * max_cap_w) & (drawing | idle))
    known = readings.read & (age_s >= 0) & (age_s <= rules.stale_s) & plausible

    limit_w = _limit_w(min_cap_w, max_cap_w, readings.enforced_cap_w, confirmed_cap_w)
    unused = (readings.processes == Processes.NONE) & drawing & (power_w < rules.idle_mark_w) & idle
    empty = known & ~has_run & unused
    foreign = known & ~has_run & (readings.processes == Processes.SOME)
    excess_w = np.maximum(_DRAW_TOLERANCE_W, _DRAW_TOLERANCE_SHARE * limit_w)
    loaded_w = np.where(power_w > limit_w + excess_w, power_w, limit_w)
    watts = np.where(empty, np.minimum(limit_w, power_w + rules.idle_margin_w), loaded_w)
    kind = np.where(empty, LOAD_CODE[Load.EMPTY], LOAD_CODE[Load.LOADED])
    kind = np.where(foreign, LOAD_CODE[Load.FOREIGN], kind)
    load = np.where(known, kind, LOAD_CODE[Load.UNKNOWN])
    return Accounted(np.where(known, watts, max_cap_w), load)


def _limit_w(min_cap_w: Floats, max_cap_w: Floats, enforced_w: Floats, confirmed_w: Floats) -> Floats:
    """The higher of what was confirmed and what is in force: somebody else may have raised it.

    The board's maximum where neither is known, or is a limit that such a board can have.
    """
    low_w, high_w = min_cap_w / 2, max_cap_w * 2
    enforced = np.where((enforced_w >= low_w) & (enforced_w <= high_w), enforced_w, np.nan)
    confirmed = np.where((confirmed_w >= low_w) & (confirmed_w <= high_w), confirmed_w, np.nan)
    limit_w: Floats = np.fmax(enforced, confirmed)
    return np.where(np.isnan(limit_w), max_cap_w, limit_w)

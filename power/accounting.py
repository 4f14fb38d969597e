"""The watts a GPU counts as against a budget: the most it may draw, never merely what it draws. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from power.device import GpuInfo, GpuReading

_DRAW_TOLERANCE_W = 5.0  # a draw this far above the cap is noise of the sensor,
_DRAW_TOLERANCE_SHARE = 0.03  # or this share of the cap, whichever is more
_IDLE_UTILIZATION = 0.01


class Load(StrEnum):
    """What is known of a GPU's load."""

    LOADED = "loaded"  # a run of ours, or nothing proves that it is empty
    EMPTY = "empty"  # proven: no process, no run, draw under the idle mark
    FOREIGN = "foreign"  # processes, and none of ours
    UNKNOWN = "unknown"  # lost, stale or implausible


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountingRules:
    """Where the lines are drawn; seconds are real ones."""

    stale_s: float = 3.0
    idle_mark_w: float = 120.0  # an empty GPU that draws more is not proven empty
    idle_margin_w: float = 15.0  # added to the measured draw of an empty one


@dataclass(frozen=True, slots=True)
class Accounted:
    """Watts to count in every domain above the GPU, and why that many."""

    watts: float
    load: Load

    @property
    def foreign(self) -> bool:
        """Somebody else's processes are on it."""
        return self.load is Load.FOREIGN


def account(
    info: GpuInfo,
    reading: GpuReading | None,
    *,
    age_s: float,
    confirmed_cap_w: float | None,
    has_run: bool,
    rules: AccountingRules,
) -> Accounted:
    """What one GPU counts as.

    Args:
        info: the board's own limits.
        reading: the last look at it; None when there was none or it failed.
        age_s: how old that is, in monotonic seconds.
        confirmed_cap_w: the limit last set and read back; None when never set, or not confirmed.
        has_run: a run of ours holds it, from before its launch until its end is proven.
    """
    if reading is None or not 0 <= age_s <= rules.stale_s or not _plausible(reading, info):
        return Accounted(info.max_cap_w, Load.UNKNOWN)
    limit_w = _limit_w(info, reading.enforced_cap_w, confirmed_cap_w)
    if not has_run and _proven_empty(reading, rules):
        assert reading.power_w is not None  # part of the proof
        return Accounted(min(limit_w, reading.power_w + rules.idle_margin_w), Load.EMPTY)
    load = Load.FOREIGN if reading.pids and not has_run else Load.LOADED
    draw_w = reading.power_w or 0.0
    if draw_w > limit_w + max(_DRAW_TOLERANCE_W, _DRAW_TOLERANCE_SHARE * limit_w):
        return Accounted(draw_w, load)
    return Accounted(limit_w, load)


def _limit_w(info: GpuInfo, enforced_w: float | None, confirmed_w: float | None) -> float:
    """The higher of what was confirmed and what is in force: somebody else may have raised it.

    The board's maximum where neither is known, or is a limit that such a board can have.
    """
    low_w, high_w = info.min_cap_w / 2, info.max_cap_w * 2
    known = [w for w in (enforced_w, confirmed_w) if w is not None and low_w <= w <= high_w]
    return max(known, default=info.max_cap_w)


def _plausible(reading: GpuReading, info: GpuInfo) -> bool:
    """A reading that contradicts itself or the board says nothing."""
    power_w = reading.power_w
    if power_w is None:
        return True  # it does not say: counted at its limit
    if not math.isfinite(power_w) or not 0 <= power_w <= 2 * info.max_cap_w:
        return False
    return power_w > 0 or (reading.utilization or 0.0) <= _IDLE_UTILIZATION


def _proven_empty(reading: GpuReading, rules: AccountingRules) -> bool:
    if reading.pids is None or reading.pids or reading.power_w is None or reading.power_w <= 0:
        return False
    return reading.power_w < rules.idle_mark_w and (reading.utilization or 0.0) <= _IDLE_UTILIZATION

"""What a plan says: when each deferrable job should run, what that costs, and what GPUs and watts are worth.

Values only; `scheduler.plan` computes them, placement obeys them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from scheduler.decision import Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The job runs for `share` (0..1] of this half-open time; 1 where the run is not broken."""

    start: datetime
    end: datetime
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """Windows in order of time. Costs are energy and carbon money for all that remains of the job.

    `cap_w` is per GPU; `zone` says in words on which GPUs it is reckoned: their kind, under a power domain.
    """

    windows: tuple[Window, ...]
    expected_cost: float
    cost_now: float  # the same work at the same cap, started now and run through
    cap_w: float | None = None
    zone: str | None = None

    @property
    def planned_start(self) -> datetime | None:
        return self.windows[0].start if self.windows else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPrice:
    """What one more of each scarce thing would be worth in this slot; none of it is negative.

    `watt_h` is money per watt above idle, for an hour, under a domain. The last three are of the site's draw:
    per watt of a steeper step at the slot's start, and per watt under the month's peak.
    """

    start: datetime
    end: datetime
    price_per_mwh: float  # energy and carbon, as expected
    gpu_h: float  # mean over the zones' free GPUs
    watt_h: Mapping[str, float] = field(default_factory=dict)  # by domain
    zone_gpu_h: Mapping[str, float] = field(
        default_factory=dict
    )  # by zone, where they differ by kind or place
    up_w: float = 0.0
    down_w: float = 0.0
    peak_w: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A schedule for deferrable jobs, as made at `made_at`. `notes` say what its model left out, in words."""

    made_at: datetime
    jobs: Mapping[str, PlannedJob]
    shadow: tuple[ShadowPrice, ...]
    certificate: Certificate
    notes: tuple[str, ...] = ()

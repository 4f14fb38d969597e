"""No start above a price: EASY backfill, but jobs that can wait do not start while electricity is dear."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

import numpy as np

from power.arrays import Bools
from power.series import Series
from scheduler.decision import Decision
from scheduler.policy.even_caps import even_caps
from scheduler.policy.queueing import easy, queue
from scheduler.snapshot import Snapshot


@dataclass
class SeenPrices:
    """Every price that was ever published to this policy, each slot once."""

    _until: datetime | None = None
    _per_mwh: list[float] = field(default_factory=list)
    _length_s: list[float] = field(default_factory=list)
    _median: float | None = None

    def median_per_mwh(self, published: Series) -> float | None:
        """Half of the time seen so far was cheaper; None before any price is known."""
        if published.slots and (self._until is None or published.slots[-1].end > self._until):
            news = [slot for slot in published if self._until is None or slot.start >= self._until]
            self._until = published.slots[-1].end
            self._per_mwh += [slot.value for slot in news]
            self._length_s += [slot.duration_s for slot in news]
            order = np.argsort(self._per_mwh, kind="stable")
            so_far_s = np.cumsum(np.array(self._length_s)[order])
            middle = int(np.searchsorted(so_far_s, so_far_s[-1] / 2))
            self._median = self._per_mwh[int(order[middle])]
        return self._median


@dataclass
class PriceThreshold:
    """Pausable jobs wait while the price is above `above` (money per MWh), at most `delay_h` hours after they
    were submitted, and not past the last moment at which they could still meet their deadline.

    Without `above` it is the median of all prices published so far. Once started, a job runs on. The last
    moment goes by the owner's guess of how long the job takes; where there is none, `delay_h` alone counts.

    Raises:
        ValueError: a price that is not finite, or a negative delay.
    """

    name: str = "price_threshold"
    above: float | None = None
    delay_h: float = 12.0
    _seen: SeenPrices = field(default_factory=SeenPrices, init=False)
    looks_every_s: ClassVar[float] = 900.0

    def __post_init__(self) -> None:
        if self.above is not None and not math.isfinite(self.above):
            raise ValueError(f"above must be a finite price per MWh, got {self.above}")
        if not self.delay_h >= 0.0:
            raise ValueError(f"delay_h must be at least 0 hours, got {self.delay_h}")

    def place(self, snapshot: Snapshot, *, time_limit_s: float) -> Decision:
        return easy(snapshot, queue(snapshot, self._held(snapshot)))

    def caps(self, snapshot: Snapshot) -> Decision:
        return even_caps(snapshot)

    def _held(self, snapshot: Snapshot) -> Bools:
        """Per job: waits for a lower price."""
        jobs, price, now_s = snapshot.jobs, snapshot.price_per_mwh, snapshot.now.timestamp()
        median = self._seen.median_per_mwh(snapshot.prices)
        above = median if self.above is None else self.above
        if price is None or above is None or price <= above:
            return np.zeros(len(jobs), dtype=bool)
        last_start_s = jobs.floats("deadline_s") - jobs.floats("remaining_s") - jobs.floats("restart_cost_s")
        patience_s = jobs.floats("submitted_s") + self.delay_h * 3600.0
        # Asked again only so much later: what ends before then ends now.
        ends_s = np.fmin(patience_s, last_start_s) - self.looks_every_s
        return np.asarray(jobs.bools("pausable") & (now_s < ends_s), dtype=bool)

"""One cap for all: EASY's order, and every GPU held to the same share of its board's maximum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from scheduler.decision import Decision
from scheduler.policy.even_caps import best_share, even_caps
from scheduler.policy.queueing import easy, queue
from scheduler.snapshot import Snapshot


@dataclass(frozen=True)
class UniformCap:
    """`share` of the boards' maximum; without one, the best single cap under the budgets in force: the
    highest at which all limits hold with every usable GPU loaded, so that no start ever waits for watts.

    A contract that this cap would break gets the watts that it needs, while they are there.

    Raises:
        ValueError: a share that is not above 0 and at most 1.
    """

    name: str = "uniform_cap"
    share: float | None = None
    looks_every_s: ClassVar[float] = math.inf

    def __post_init__(self) -> None:
        if self.share is not None and not 0.0 < self.share <= 1.0:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share:g}")

    def place(self, snapshot: Snapshot, *, time_limit_s: float) -> Decision:
        return easy(snapshot, queue(snapshot), share=self._share(snapshot))

    def caps(self, snapshot: Snapshot) -> Decision:
        return even_caps(snapshot, self._share(snapshot))

    def _share(self, snapshot: Snapshot) -> float:
        return best_share(snapshot) if self.share is None else self.share

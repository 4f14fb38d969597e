"""EASY backfill, what most clusters run: as `fifo`, but others pass where that delays nobody's turn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from scheduler.decision import Decision
from scheduler.policy.even_caps import even_caps
from scheduler.policy.queueing import easy, queue
from scheduler.snapshot import Snapshot


@dataclass(frozen=True)
class Backfill:
    """All boards at full power; a job starts when its watts are there too. See `queueing.easy`.

    It knows the owners' guesses of how long jobs take, and no prices.
    """

    name: str = "backfill"
    looks_every_s: ClassVar[float] = math.inf

    def place(self, snapshot: Snapshot, *, time_limit_s: float) -> Decision:
        return easy(snapshot, queue(snapshot))

    def caps(self, snapshot: Snapshot) -> Decision:
        return even_caps(snapshot)

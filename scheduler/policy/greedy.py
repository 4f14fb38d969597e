"""Most valuable first, without a solver: what stands in when the daemon's solver has no answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from scheduler.cap_step import cap_step
from scheduler.decision import Decision
from scheduler.placing.fallback import place_greedily
from scheduler.snapshot import Snapshot
from scheduler.steady import steady


@dataclass(frozen=True)
class Greedy:
    """Knows what the daemon knows, but plans nothing."""

    name: str = "greedy"
    looks_every_s: ClassVar[float] = math.inf

    def place(self, snapshot: Snapshot, *, time_limit_s: float) -> Decision:
        return place_greedily(snapshot)

    def caps(self, snapshot: Snapshot) -> Decision:
        return steady(cap_step(snapshot), snapshot)

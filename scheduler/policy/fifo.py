"""First in, first out: by priority, then age; nobody passes a job that has to wait. Boards at full power."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from scheduler.decision import Decision
from scheduler.policy.even_caps import even_caps
from scheduler.policy.queueing import queue, strict
from scheduler.snapshot import Snapshot


@dataclass(frozen=True)
class Fifo:
    """Under a budget the first in the queue waits until its watts are there, and everybody with it.

    It knows no lengths of jobs and no prices.
    """

    name: str = "fifo"
    looks_every_s: ClassVar[float] = math.inf

    def place(self, snapshot: Snapshot, *, time_limit_s: float) -> Decision:
        return strict(snapshot, queue(snapshot))

    def caps(self, snapshot: Snapshot) -> Decision:
        return even_caps(snapshot)

"""What a policy is: two pure questions, answered with proposals that `verify` still checks."""

from __future__ import annotations

from typing import Protocol

from scheduler.decision import Decision
from scheduler.snapshot import Snapshot


class Policy(Protocol):
    """A way to decide. It holds no actuator: it can propose badly, but not break a budget."""

    @property
    def name(self) -> str: ...

    def place(self, snapshot: Snapshot, *, time_limit_s: float) -> Decision:
        """Which jobs start, stop, pause and thaw, where, and at which cap."""
        ...

    def caps(self, snapshot: Snapshot) -> Decision:
        """A cap for every job that runs."""
        ...


class UnknownPolicy(ValueError):
    """No policy has this name; the message lists those there are."""

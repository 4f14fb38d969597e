"""What a policy is: two questions, answered with proposals that `verify` still checks."""

from __future__ import annotations

from typing import Protocol

from scheduler.decision import Decision
from scheduler.snapshot import Snapshot


class Policy(Protocol):
    """A way to decide. It holds no actuator: it can propose badly, but not break a budget.

    One object serves one site and may remember what it decided before. What it remembers comes from the
    snapshots it was shown, so that the same snapshots in the same order give the same answers.
    """

    @property
    def name(self) -> str: ...

    @property
    def looks_every_s(self) -> float:
        """Wants to be asked for a placement this often (grid seconds) even where nothing happened.

        Infinite: only when jobs, GPUs, limits or prices change.
        """
        ...

    def place(self, snapshot: Snapshot, *, time_limit_s: float) -> Decision:
        """Which jobs start, stop, pause and thaw, where, and at which cap."""
        ...

    def caps(self, snapshot: Snapshot) -> Decision:
        """A cap for every job that runs."""
        ...


class UnknownPolicy(ValueError):
    """No policy has this name or this option; the message lists those there are."""

"""The policies that exist, by name: `joint` decides all together, `greedy` without a solver."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.cap_step import cap_step
from scheduler.decision import Decision
from scheduler.placing.fallback import place_greedily
from scheduler.policy.policy import Policy, UnknownPolicy
from scheduler.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Joint:
    """Solvers by the size of the site for placement, water levels for caps: what the daemon runs."""

    name: str = "joint"

    def place(self, snapshot: Snapshot, *, time_limit_s: float) -> Decision:
        from scheduler.place import place  # the solver is loaded only where it is used

        return place(snapshot, time_limit_s=time_limit_s)

    def caps(self, snapshot: Snapshot) -> Decision:
        return cap_step(snapshot)


@dataclass(frozen=True, slots=True)
class Greedy:
    """Most valuable first, no solver: the fallback, and a baseline."""

    name: str = "greedy"

    def place(self, snapshot: Snapshot, *, time_limit_s: float) -> Decision:
        return place_greedily(snapshot)

    def caps(self, snapshot: Snapshot) -> Decision:
        return cap_step(snapshot)


POLICIES: tuple[Policy, ...] = (Joint(), Greedy())


def policy_named(name: str) -> Policy:
    """Raises UnknownPolicy."""
    for policy in POLICIES:
        if policy.name == name:
            return policy
    raise UnknownPolicy(f"no policy {name!r}; there are {', '.join(p.name for p in POLICIES)}")

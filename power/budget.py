"""The tree of power domains and the limits on it over time.

A domain's limit bounds everything under it: its own base load, its children, and its GPUs. GPUs hang on
the leaves (nodes). Several limits may hold at once; the lowest wins, so a target can only lower a budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """One power domain. `base_load_w` is what it draws itself (host, fans, switches), without its GPUs."""

    name: str
    parent: str | None = None
    base_load_w: float = 0.0
    limit_w: float = math.inf  # the configured, permanent limit
    gpu_uuids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit on a domain from `start` until `end` (None = until replaced)."""

    id: str
    domain: str
    limit_w: float
    start: datetime
    end: datetime | None = None
    source: str = "operator"  # operator | target | override
    correlation_id: str | None = None

    def holds_at(self, when: datetime) -> bool:
        return self.start <= when and (self.end is None or when < self.end)


class InvalidTree(ValueError):
    """The domains do not form one tree, or a GPU hangs on two of them."""


@dataclass(frozen=True)
class PowerTree:
    """Domains by name; exactly one root; every GPU on at most one domain."""

    domains: Mapping[str, Domain]
    _path: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        roots = [d.name for d in self.domains.values() if d.parent is None]
        if len(roots) != 1:
            raise InvalidTree(f"one domain must have no parent, found {roots or 'none'}")
        for domain in self.domains.values():
            path = self._walk_up(domain)
            for uuid in domain.gpu_uuids:
                if uuid in self._path:
                    raise InvalidTree(f"GPU {uuid} hangs on {self._path[uuid][0]} and on {domain.name}")
                self._path[uuid] = path

    @classmethod
    def of(cls, domains: Iterable[Domain]) -> PowerTree:
        rows = list(domains)
        names = [d.name for d in rows]
        if len(set(names)) != len(names):
            raise InvalidTree(f"two domains share a name: {sorted(names)}")
        return cls({d.name: d for d in rows})

    def _walk_up(self, domain: Domain) -> tuple[str, ...]:
        path = [domain.name]
        while domain.parent is not None:
            if domain.parent not in self.domains:
                raise InvalidTree(f"domain {domain.name} has an unknown parent {domain.parent}")
            if domain.parent in path:
                raise InvalidTree(f"domain {domain.parent} is its own ancestor")
            domain = self.domains[domain.parent]
            path.append(domain.name)
        return tuple(path)

    @property
    def root(self) -> str:
        return next(d.name for d in self.domains.values() if d.parent is None)

    def path(self, gpu_uuid: str) -> tuple[str, ...]:
        """Domains over a GPU, nearest first, the root last. Raises KeyError for an unknown GPU."""
        return self._path[gpu_uuid]

    def gpu_uuids(self) -> tuple[str, ...]:
        return tuple(self._path)

    def gpus_under(self, domain: str) -> tuple[str, ...]:
        return tuple(uuid for uuid, path in self._path.items() if domain in path)

    def base_load_under_w(self, domain: str) -> float:
        """Base loads of the domain and of everything below it."""
        return sum(d.base_load_w for d in self.domains.values() if domain in self._walk_up(d))

    def limits_at(self, when: datetime, budgets: Iterable[Budget] = ()) -> dict[str, float]:
        """Watts allowed in each domain at `when`: the lowest of its configured limit and its budgets."""
        limits = {d.name: d.limit_w for d in self.domains.values()}
        for budget in budgets:
            if budget.domain in limits and budget.holds_at(when):
                limits[budget.domain] = min(limits[budget.domain], budget.limit_w)
        return limits

    def gpu_watts_available(self, limits: Mapping[str, float]) -> dict[str, float]:
        """Watts left for GPUs in each domain after all base loads under it (may be negative)."""
        return {name: limit - self.base_load_under_w(name) for name, limit in limits.items()}

    def usage_w(self, accounted_w: Mapping[str, float]) -> dict[str, float]:
        """Accounted watts in each domain: its base loads and its GPUs (a GPU missing here is an error)."""
        used = {name: self.base_load_under_w(name) for name in self.domains}
        for uuid, path in self._path.items():
            for name in path:
                used[name] += accounted_w[uuid]
        return used

"""The tree of power domains and the limits on it over time.

A domain's limit bounds everything under it: its own base load, its children, and its GPUs. GPUs hang on
the leaves (nodes). Several limits may hold at once; the lowest wins, so a target can only lower a budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import numpy as np

from power.arrays import Ints
from power.tree_index import OUTSIDE, TreeIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """One power domain. `base_load_w` is what it draws itself (host, fans, switches), without its GPUs.

    `pue` (power usage effectiveness, >= 1) is what the site's meter shows for each watt that arrives: cooling
    and conversion. It belongs to the root, whose limit is the meter's.
    """

    name: str
    parent: str | None = None
    base_load_w: float = 0.0
    pue: float = 1.0
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
    """The domains do not form one tree, a GPU hangs on two of them, or overhead is not at the root."""


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
            if not (1.0 <= domain.pue < math.inf) or (domain.pue > 1.0 and domain.parent is not None):
                raise InvalidTree(f"{domain.name}: pue must be at least 1, and stands on the root alone")
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

    @cached_property
    def index(self) -> TreeIndex:
        """The same tree as arrays."""
        names = _parents_first(self.domains)
        column = {name: index for index, name in enumerate(names)}
        domains = [self.domains[name] for name in names]
        above = [OUTSIDE if d.parent is None else column[d.parent] for d in domains]
        base_w = np.array([d.base_load_w for d in domains])
        for index in range(len(names) - 1, 0, -1):
            base_w[above[index]] += base_w[index]
        return TreeIndex(
            names=names,
            parent=np.array(above, dtype=np.int64),
            base_under_w=base_w,
            pue=np.array([d.pue for d in domains]),
            gpu_uuids=tuple(self._path),
            leaf=np.array([column[path[0]] for path in self._path.values()], dtype=np.int64),
        )

    @cached_property
    def columns(self) -> Ints:
        """The index's column of each domain, in the order of `domains`."""
        return np.array([self.index.column[name] for name in self.domains], dtype=np.int64)

    def base_load_under_w(self, domain: str) -> float:
        """Base loads of the domain and of everything below it."""
        return float(self.index.base_under_w[self.index.column[domain]])

    def limits_at(self, when: datetime, budgets: Iterable[Budget] = ()) -> dict[str, float]:
        """Watts allowed in each domain at `when`: the lowest of its configured limit and its budgets."""
        limits = {d.name: d.limit_w for d in self.domains.values()}
        for budget in budgets:
            if budget.domain in limits and budget.holds_at(when):
                limits[budget.domain] = min(limits[budget.domain], budget.limit_w)
        return limits

    def usage_w(self, accounted_w: Mapping[str, float]) -> dict[str, float]:
        """Accounted watts at each domain's meter: base loads, GPUs, overhead (a GPU missing is an error)."""
        index = self.index
        watts = np.array([accounted_w[uuid] for uuid in index.gpu_uuids], dtype=np.float64)
        metered_w = index.metered_w(index.under(index.leaf, watts))
        return dict(zip(index.names, metered_w.tolist(), strict=True))


def _parents_first(domains: Mapping[str, Domain]) -> tuple[str, ...]:
    """Breadth first from the root, in the order given among siblings."""
    children: dict[str | None, list[str]] = {}
    for domain in domains.values():
        children.setdefault(domain.parent, []).append(domain.name)
    names = list(children[None])
    for name in names:
        names += children.get(name, [])
    return tuple(names)

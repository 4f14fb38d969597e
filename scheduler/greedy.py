"""The simple answer: most valuable jobs first, each at the best level that still fits. No solver.

Used as the solver's first hint, and instead of it when it has no answer in time. Disturbs nobody, except
where a budget cannot be met otherwise.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from scheduler.decision import Decision
from scheduler.instance import Candidate, Choice, Instance, Placement, Pool, build_instance
from scheduler.proposal import propose
from scheduler.residents import Act, Option, Resident
from scheduler.snapshot import Snapshot
from scheduler.windows import Plan
from scheduler.worth import best

FALLBACK = "greedy"

WayT = TypeVar("WayT", Placement, Option)


def place_greedily(snapshot: Snapshot, plan: Plan | None = None, *, fallback: str = FALLBACK) -> Decision:
    """A placement without OR-Tools; `fallback` says in the certificate why it was needed."""
    instance = build_instance(snapshot, plan)
    return propose(instance, choose(instance, fallback=fallback))


def choose(instance: Instance, *, fallback: str = FALLBACK) -> Choice:
    """Residents give way to their floors, candidates enter, then residents rise into what is left."""
    began_s = time.perf_counter()
    filling = _Filling(instance)
    filling.settle_residents()
    filling.admit()
    filling.climb()
    value = sum(rung.worth_per_h for rung in filling.stands.values())
    return Choice(
        placements=filling.ways(Placement),
        options=filling.ways(Option),
        value=value,
        bound=max(value, upper_bound(instance)),
        solve_s=time.perf_counter() - began_s,
        fallback=fallback,
    )


def upper_bound(instance: Instance) -> float:
    """Money per hour that no answer can beat: every resident at its best, free GPUs to whoever earns most."""
    total = sum(max(o.worth_per_h for o in r.options) for r in instance.residents)
    capacity = sum(len(p.free) + len(p.coming) for p in instance.pools)
    capacity += sum(sum(r.held.values()) for r in instance.residents if r.stoppable)
    rates = sorted(
        (
            (max(best(offers).worth_per_h for offers in c.offers.values()), c.view.job.spec.gpus)
            for c in instance.candidates
            if c.offers
        ),
        reverse=True,
    )
    for rate, gpus in rates:
        if rate <= 0 or capacity <= 0:
            break
        total += rate * min(gpus, capacity)
        capacity -= gpus
    return total


@dataclass(frozen=True, slots=True)
class _Rung:
    """One way a job may run: money per hour and watts per domain of all its GPUs."""

    worth_per_h: float
    watts: Mapping[str, float]
    way: Placement | Option


class _Filling:
    """What is still free while the answer grows. `ladders`: each job's rungs; `stands`: its present one."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.room_w = dict(instance.room_w)
        self.left = [len(pool.free) for pool in instance.pools]
        self.ladders: dict[str, list[_Rung]] = {}
        self.stands: dict[str, _Rung] = {}

    def ways(self, kind: type[WayT]) -> dict[str, WayT]:
        """What became of candidates (Placement) or residents (Option), by job."""
        return {key: rung.way for key, rung in self.stands.items() if isinstance(rung.way, kind)}

    def settle_residents(self) -> None:
        """Everyone at the least that keeps it running; where even that is too much, the cheapest go down."""
        residents = sorted(self.instance.residents, key=lambda r: (r.view.priority_rank, r.view.job.id))
        for resident in residents:
            self._stand(resident.view.job.id, _rung(resident.least))
            if resident.least.act is Act.RUN or resident.view.frozen:
                runs = [_rung(o) for o in resident.options if o.act is Act.RUN]
                self.ladders[resident.view.job.id] = runs
        for resident in residents:
            if self._over(resident.least.watts):
                self._stand(resident.view.job.id, _rung(self._lowest_kept(resident)))
                self.ladders.pop(resident.view.job.id, None)

    def admit(self) -> None:
        """Candidates in order of merit, each at the least level that earns anything."""
        for candidate in sorted(self.instance.candidates, key=_merit):
            ladder = self._ladder(candidate)
            if ladder:
                self.ladders[candidate.view.job.id] = ladder
                self._stand(candidate.view.job.id, ladder[0])

    def climb(self) -> None:
        """Watts that are left go, step by step, where a watt earns most."""
        while True:
            steps = [
                (gain, key, rung)
                for key, ladder in self.ladders.items()
                for rung in ladder
                if (gain := self._gain_per_w(key, rung)) > 0
            ]
            if not steps:
                return
            _, key, rung = max(steps, key=lambda step: (step[0], step[1]))
            if self._fits(self._more(key, rung)):
                self._stand(key, rung)
            else:
                self.ladders[key] = [other for other in self.ladders[key] if other is not rung]

    def _ladder(self, candidate: Candidate) -> list[_Rung]:
        """Its levels on the best pools where the lowest that earns anything fits; takes those GPUs."""
        pools = self.instance.pools
        opens = [i for i in self.instance.open_pools(candidate) if self.left[i] > 0]
        for index in sorted(opens, key=lambda i: self.left[i]):
            levels = [level for level in candidate.offered(pools[index]) if level.worth_per_h > 0]
            parts = self._parts(candidate, pools[index])
            if not levels or parts is None or not self._fits(self._added_w(parts, levels[0].cap_w)):
                continue
            for pool_index, count in parts:
                self.left[pool_index] -= count
            gpus = candidate.view.job.spec.gpus
            return [
                _Rung(
                    gpus * level.worth_per_h,
                    self._added_w(parts, level.cap_w),
                    Placement(cap_w=level.cap_w, parts=parts, worth_per_h=gpus * level.worth_per_h),
                )
                for level in levels
            ]
        return []

    def _parts(self, candidate: Candidate, first: Pool) -> tuple[tuple[int, int], ...] | None:
        """GPUs per pool for the whole gang, beginning with `first`; None where they are not free."""
        pools = self.instance.pools
        alike = [i for i in self.instance.open_pools(candidate) if pools[i].kind == first.kind]
        alike = [i for i in alike if pools[i].settable == first.settable]
        if candidate.nodes == 0:
            return _split(candidate.view.job.spec.gpus, alike, self.left)
        fitting = [i for i in alike if self.left[i] >= candidate.per_node]
        fitting.sort(key=lambda i: (pools[i] is not first, self.left[i]))
        if len(fitting) < candidate.nodes or pools[fitting[0]] is not first:
            return None
        return tuple((i, candidate.per_node) for i in fitting[: candidate.nodes])

    def _added_w(self, parts: tuple[tuple[int, int], ...], cap_w: float) -> dict[str, float]:
        added: dict[str, float] = defaultdict(float)
        for index, count in parts:
            pool = self.instance.pools[index]
            for domain in pool.domains:
                added[domain] += count * pool.loaded_w(cap_w)
        return added

    def _lowest_kept(self, resident: Resident) -> Option:
        """The lowest option that does not stop the job."""
        return next((o for o in resident.options if o.act is not Act.PREEMPT), resident.options[0])

    def _over(self, watts: Mapping[str, float]) -> bool:
        return any(self.room_w.get(domain, 0.0) < -1e-6 for domain in watts)

    def _fits(self, more: Mapping[str, float]) -> bool:
        return all(w <= 0 or w <= self.room_w.get(d, 0.0) + 1e-6 for d, w in more.items())

    def _more(self, key: str, rung: _Rung) -> dict[str, float]:
        now = self.stands[key].watts if key in self.stands else {}
        return {domain: watts - now.get(domain, 0.0) for domain, watts in rung.watts.items()}

    def _gain_per_w(self, key: str, rung: _Rung) -> float:
        gain = rung.worth_per_h - self.stands[key].worth_per_h
        return gain / max(1e-6, sum(self._more(key, rung).values())) if gain > 1e-12 else 0.0

    def _stand(self, key: str, rung: _Rung) -> None:
        for domain, watts in self._more(key, rung).items():
            self.room_w[domain] -= watts
        self.stands[key] = rung


def _rung(option: Option) -> _Rung:
    return _Rung(option.worth_per_h, option.watts, option)


def _merit(candidate: Candidate) -> tuple[float, float]:
    """Sort key: the stable sort keeps older jobs first among equals."""
    return (-candidate.view.priority_rank, -candidate.view.value_per_gpu_h)


def _split(gpus: int, alike: list[int], left: list[int]) -> tuple[tuple[int, int], ...] | None:
    parts = []
    for index in sorted(alike, key=lambda i: -left[i]):
        count = min(gpus, left[index])
        if count > 0:
            parts.append((index, count))
            gpus -= count
    return tuple(parts) if gpus == 0 else None

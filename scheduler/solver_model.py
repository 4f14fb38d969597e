"""The placement problem as a CP-SAT model: a multi-choice knapsack of jobs against GPUs and watts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ortools.sat.python import cp_model

from scheduler.instance import Candidate, Choice, Instance, Placement
from scheduler.residents import Act, Option, Resident

MONEY_STEPS = 1_000_000  # integer steps per unit of money per hour
WATT_STEPS = 10  # integer steps per watt
AGE_BONUS = 1e-3  # money per hour: the oldest job's head start among equals
COMING_COST = 1e-3  # per GPU that must first come free
NODE_COST = 1e-4  # for breaking into a wholly free node


Spot = tuple[int, int, float]  # (group, pool, cap)


@dataclass(frozen=True, slots=True)
class Group:
    """Candidates that are alike in all that counts, oldest first: which of them start is only a number."""

    members: tuple[Candidate, ...]

    @property
    def one(self) -> Candidate:
        return self.members[0]


class PlacementModel:
    """Variables by spot (group, pool, cap) and by (resident, option); amounts are GPUs, as linear terms."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.model = cp_model.CpModel()
        self.groups = groups_of(instance)
        self.starts: dict[str, Any] = {}
        self.units: dict[Spot, Any] = {}  # how many parts (of one node each) of the group go there
        self.amounts: dict[Spot, Any] = {}
        self.worths: dict[Spot, float] = {}
        self.takes: dict[tuple[str, int], Any] = {}
        self.objective: list[Any] = []
        for resident in instance.residents:
            self._add_resident(resident)
        for number, group in enumerate(self.groups):
            self._add_group(number, group)
        self._first_come_first_served()
        self._limit_pools()
        self._limit_domains()
        self.model.maximize(sum(self.objective))

    @property
    def size(self) -> int:
        return len(self.units) + len(self.takes)

    def _add_resident(self, resident: Resident) -> None:
        job_id = resident.view.job.id
        for index, option in enumerate(resident.options):
            take = self.model.new_bool_var("")
            self.takes[job_id, index] = take
            self.objective.append(_money(option.worth_per_h) * take)
        self.model.add_exactly_one(self.takes[job_id, i] for i in range(len(resident.options)))

    def _add_group(self, number: int, group: Group) -> None:
        one, gpus = group.one, group.one.view.job.spec.gpus
        for member in group.members:
            self.starts[member.view.job.id] = self.model.new_bool_var("")
        levels: dict[tuple[object, float], list[Any]] = defaultdict(list)
        for index in self.instance.open_pools(one):
            pool = self.instance.pools[index]
            for level in one.offered(pool):
                spot = (number, index, level.cap_w)
                most = len(group.members) * max(1, one.nodes)
                per_unit = one.per_node if one.nodes > 0 else 1
                most = min(most if one.nodes > 0 else gpus, pool.size // per_unit)
                if one.nodes > 1:
                    most = min(most, 1)  # the parts of a gang go to as many nodes
                self.units[spot] = self.model.new_int_var(0, most, "")
                self.amounts[spot] = per_unit * self.units[spot]
                self.worths[spot] = level.worth_per_h
                self.objective.append(_money(level.worth_per_h) * self.amounts[spot])
                levels[pool.kind, level.cap_w].append(self.amounts[spot])
        started = sum(self.starts[member.view.job.id] for member in group.members)
        if one.nodes == 1:
            self.model.add(sum(a for amounts in levels.values() for a in amounts) == gpus * started)
            return
        chosen = [self.model.new_bool_var("") for _ in levels]  # one kind and cap for the whole gang
        for choice, amounts in zip(chosen, levels.values(), strict=True):
            self.model.add(sum(amounts) == gpus * choice)
        self.model.add(sum(chosen) == started)

    def _first_come_first_served(self) -> None:
        """A small bonus by age; and of jobs that are alike in everything, never the younger alone."""
        by_age = sorted(self.instance.candidates, key=_age)
        last: dict[object, Any] = {}
        for index, candidate in enumerate(by_age):
            start = self.starts[candidate.view.job.id]
            bonus = AGE_BONUS * (len(by_age) - index) / len(by_age)
            self.objective.append(_money(bonus) * start)
            alike = _likeness(candidate)
            if alike in last:
                self.model.add_implication(start, last[alike])
            last[alike] = start

    def _limit_pools(self) -> None:
        """GPUs per pool: free, coming, and those of stopped jobs of lower priority than who gets them."""
        for index, pool in enumerate(self.instance.pools):
            here = [(self._rank(n), amount) for (n, i, _), amount in self.amounts.items() if i == index]
            if not here:
                continue
            ready = len(pool.free) + len(pool.coming)
            for rank in self.instance.ranks:
                freed = [
                    resident.held.get((pool.node, pool.kind), 0) * self._stops(resident)
                    for resident in self.instance.residents
                    if resident.view.priority_rank < rank and resident.stoppable
                ]
                self.model.add(sum(a for own, a in here if own <= rank) <= ready + sum(freed))
            total = sum(amount for _, amount in here)
            late = self.model.new_int_var(0, pool.size, "")
            self.model.add(late >= total - len(pool.free))
            self.objective.append(-_money(COMING_COST) * late)
            if len(pool.free) == pool.size:
                broken = self.model.new_bool_var("")
                self.model.add(total <= pool.size * broken)
                self.objective.append(-_money(NODE_COST) * broken)

    def _rank(self, number: int) -> int:
        return self.groups[number].one.view.priority_rank

    def _stops(self, resident: Resident) -> Any:
        return sum(
            self.takes[resident.view.job.id, index]
            for index, option in enumerate(resident.options)
            if option.act is Act.PREEMPT
        )

    def _limit_domains(self) -> None:
        """Watts per domain. A job may profit only from watts that lower priorities give up by stopping."""
        for domain, room_w in self.instance.room_w.items():
            if math.isinf(room_w):
                continue
            loads = [
                (self._rank(number), _watts_up(pool.loaded_w(cap_w)) * amount)
                for (number, index, cap_w), amount in self.amounts.items()
                if domain in (pool := self.instance.pools[index]).domains
            ]
            for rank in self.instance.ranks if loads else (None,):
                used = [
                    term for r in self.instance.residents for term in self._resident_watts(r, domain, rank)
                ]
                used += [load for own, load in loads if rank is not None and own <= rank]
                if used:
                    self.model.add(sum(used) <= math.floor(room_w * WATT_STEPS + 1e-6))

    def _resident_watts(self, resident: Resident, domain: str, rank: int | None) -> list[Any]:
        least_w = resident.least.watts.get(domain, 0.0)
        protected = rank is not None and resident.view.priority_rank >= rank
        return [
            _watts_up(max(option.watts[domain], least_w) if protected else option.watts[domain])
            * self.takes[resident.view.job.id, index]
            for index, option in enumerate(resident.options)
            if domain in option.watts
        ]

    def hint(self, guess: Choice) -> None:
        """Start from `guess`."""
        for resident in self.instance.residents:
            for index, option in enumerate(resident.options):
                take = self.takes[resident.view.job.id, index]
                self.model.add_hint(take, option is guess.options[resident.view.job.id])
        for job_id, start in self.starts.items():
            self.model.add_hint(start, job_id in guess.placements)
        units: dict[Spot, int] = defaultdict(int)
        for number, group in enumerate(self.groups):
            whole = group.one.per_node if group.one.nodes > 0 else 1
            for placement in (guess.placements.get(member.view.job.id) for member in group.members):
                if placement is not None:
                    for index, count in placement.parts:
                        units[number, index, placement.cap_w] += count // whole
        for spot, unit in self.units.items():
            self.model.add_hint(unit, units[spot])

    def choice(self, solver: cp_model.CpSolver) -> Choice:
        """The solver's answer in the project's words."""
        placements: dict[str, Placement] = {}
        for number, group in enumerate(self.groups):
            taken = [
                (spot, count)
                for spot, unit in self.units.items()
                if spot[0] == number and (count := int(solver.value(unit)))
            ]
            if group.one.nodes == 1:
                single = [spot for spot, count in taken for _ in range(count)]
                single.sort(key=lambda spot: -spot[2])
                started = [m for m in group.members if solver.boolean_value(self.starts[m.view.job.id])]
                for member, spot in zip(started, single, strict=True):
                    placements[member.view.job.id] = self._placement(member, [(spot, 1)])
            elif taken:
                placements[group.one.view.job.id] = self._placement(group.one, taken)
        return Choice(
            placements=placements,
            options=self._options(solver),
            value=solver.objective_value / MONEY_STEPS,
            bound=solver.best_objective_bound / MONEY_STEPS,
            solve_s=solver.wall_time,
        )

    def _placement(self, candidate: Candidate, taken: list[tuple[Spot, int]]) -> Placement:
        per_unit = candidate.per_node if candidate.nodes > 0 else 1
        return Placement(
            cap_w=taken[0][0][2],
            parts=tuple((spot[1], per_unit * count) for spot, count in taken),
            worth_per_h=sum(per_unit * count * self.worths[spot] for spot, count in taken),
        )

    def _options(self, solver: cp_model.CpSolver) -> Mapping[str, Option]:
        return {
            r.view.job.id: option
            for r in self.instance.residents
            for index, option in enumerate(r.options)
            if solver.boolean_value(self.takes[r.view.job.id, index])
        }


def _age(candidate: Candidate) -> tuple[object, ...]:
    return (candidate.view.job.submitted_at, candidate.view.job.id)


def groups_of(instance: Instance) -> list[Group]:
    """Like candidates together where each goes to one node; a gang over several nodes stands alone."""
    groups: dict[object, list[Candidate]] = defaultdict(list)
    for candidate in sorted(instance.candidates, key=_age):
        key = _likeness(candidate) if candidate.nodes == 1 else candidate.view.job.id
        groups[key].append(candidate)
    return [Group(tuple(members)) for members in groups.values()]


def _likeness(candidate: Candidate) -> object:
    spec = candidate.view.job.spec
    offers = frozenset(candidate.offers.items())
    return (spec.gpus, candidate.nodes, candidate.view.priority_rank, offers)


def _money(amount: float) -> int:
    return round(amount * MONEY_STEPS)


def _watts_up(watts: float) -> int:
    return math.ceil(watts * WATT_STEPS - 1e-6)

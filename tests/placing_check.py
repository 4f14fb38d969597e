"""Every rule of a placement, recomputed plainly from the problem: shares no code with the solvers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from scheduler.placing.problem import ANY_SPLIT, Act, Choice, PlacementProblem

WATTS = 1e-3


def faults(problem: PlacementProblem, choice: Choice) -> list[str]:
    """Sentences about every rule that the answer breaks; empty where it keeps them all."""
    return [*_option_faults(problem, choice), *_start_faults(problem, choice), *_gpu_faults(problem, choice),
            *_watt_faults(problem, choice)]  # fmt: skip


def value_of(problem: PlacementProblem, choice: Choice) -> float:
    """Money per hour, added up from options and offers."""
    value = float(problem.options.worth[choice.option].sum())
    for start in range(len(choice.start_job)):
        group = int(choice.start_group[start])
        value += float(problem.groups.gpus[group]) * _offer_worth(problem, choice, start)
    return value


def _parts(choice: Choice, start: int) -> list[tuple[int, int]]:
    rows = range(int(choice.part_start[start]), int(choice.part_start[start + 1]))
    return [(int(choice.part_pool[row]), int(choice.part_gpus[row])) for row in rows]


def _offer_worth(problem: PlacementProblem, choice: Choice, start: int) -> float:
    kind = problem.pools.kind[_parts(choice, start)[0][0]]
    offers = problem.offers
    hit = np.nonzero(
        (offers.group == choice.start_group[start])
        & (offers.kind == kind)
        & (offers.cap_w == choice.start_cap_w[start])
    )[0]
    return float(offers.worth[hit[0]])


def _option_faults(problem: PlacementProblem, choice: Choice) -> list[str]:
    owner = problem.options.resident[choice.option]
    if owner.tolist() == list(range(len(problem.residents))):
        return []
    return ["not exactly one option of each resident"]


def _start_faults(problem: PlacementProblem, choice: Choice) -> list[str]:
    found: list[str] = []
    groups = problem.groups
    if len(set(choice.start_job.tolist())) != len(choice.start_job):
        found.append("a job starts twice")
    taken: dict[int, set[int]] = defaultdict(set)
    for start, job in enumerate(choice.start_job.tolist()):
        taken[int(choice.start_group[start])].add(job)
        found += [f"start {start}: {what}" for what in _shape_faults(problem, choice, start)]
        found += [f"start {start}: {what}" for what in _place_faults(problem, choice, start)]
    for group, jobs in taken.items():
        members = groups.member[groups.member_start[group] : groups.member_start[group + 1]]
        if set(members[: len(jobs)].tolist()) != jobs:
            found.append(f"group {group}: not its oldest members")
    return found


def _shape_faults(problem: PlacementProblem, choice: Choice, start: int) -> Iterator[str]:
    group, parts = int(choice.start_group[start]), _parts(choice, start)
    nodes, gpus = int(problem.groups.nodes[group]), int(problem.groups.gpus[group])
    if sum(count for _, count in parts) != gpus or len({pool for pool, _ in parts}) != len(parts):
        yield "wrong number of GPUs or a pool twice"
    if nodes != ANY_SPLIT and [count for _, count in parts] != [gpus // nodes] * nodes:
        yield f"not {nodes} equal parts"


def _place_faults(problem: PlacementProblem, choice: Choice, start: int) -> Iterator[str]:
    group, pools, offers = int(choice.start_group[start]), problem.pools, problem.offers
    where = [pool for pool, _ in _parts(choice, start)]
    if len({int(pools.kind[pool]) for pool in where}) != 1:
        yield "more than one kind"
    if any(pools.reserved[pool] for pool in where) and not problem.groups.backfill[group]:
        yield "in a reserved pool"
    rows = (offers.group == group) & (offers.kind == pools.kind[where[0]])
    if not all(pools.settable[pool] for pool in where):
        rows &= offers.top
    if choice.start_cap_w[start] not in offers.cap_w[rows]:
        yield "its cap is not on offer"


def _gpu_faults(problem: PlacementProblem, choice: Choice) -> list[str]:
    pools, holds = problem.pools, problem.holds
    stops = problem.options.act[choice.option] == Act.PREEMPT
    found = []
    for rank in sorted(set(problem.groups.rank.tolist())):
        room = (pools.free + pools.coming).astype(int)
        for row in range(len(holds.pool)):
            resident = holds.resident[row]
            if holds.pool[row] >= 0 and stops[resident] and problem.residents.rank[resident] < rank:
                room[holds.pool[row]] += holds.freed[row]
        for start in range(len(choice.start_job)):
            if problem.groups.rank[choice.start_group[start]] <= rank:
                for pool, count in _parts(choice, start):
                    room[pool] -= count
        if (room < 0).any():
            found.append(f"rank {rank}: pools {np.nonzero(room < 0)[0].tolist()} are overfull")
    return found


def _watt_faults(problem: PlacementProblem, choice: Choice) -> list[str]:
    index, holds, options = problem.index, problem.holds, problem.options
    ranks = sorted(set(problem.groups.rank[choice.start_group].tolist())) or [None]
    least = {int(r): float(c) for r, c, yes in zip(
        options.resident, options.cap_w, options.least, strict=True) if yes}  # fmt: skip
    found = []
    for rank in ranks:
        now, floor = np.zeros((len(problem.residents), len(index.names))), np.zeros(
            (len(problem.residents), len(index.names)))  # fmt: skip
        for row in range(len(holds.resident)):
            resident = int(holds.resident[row])
            option = choice.option[resident]
            stays = options.act[option] != Act.PREEMPT
            runs_w = holds.fixed_w[row] + holds.steered[row] * options.cap_w[option]
            least_w = holds.fixed_w[row] + holds.steered[row] * least.get(resident, 0.0)
            column = int(holds.leaf[row])
            while column >= 0:
                now[resident, column] += runs_w if stays else holds.empty_w[row]
                floor[resident, column] += least_w
                column = int(index.parent[column])
        used = np.zeros(len(index.names))
        for resident in range(len(problem.residents)):
            protected = rank is not None and problem.residents.rank[resident] >= rank
            used += np.maximum(now[resident], floor[resident]) if protected else now[resident]
        for start in range(len(choice.start_job)):
            if rank is not None and problem.groups.rank[choice.start_group[start]] <= rank:
                for pool, count in _parts(choice, start):
                    cap_w = np.array(choice.start_cap_w[start])
                    watts = count * float(problem.pools.loaded_w(np.array(pool), cap_w))
                    column = int(problem.pools.leaf[pool])
                    while column >= 0:
                        used[column] += watts
                        column = int(index.parent[column])
        over = np.nonzero(used > problem.room_w + WATTS)[0]
        found += [f"rank {rank}: domain {d} by {used[d] - problem.room_w[d]:.3f} W" for d in over]
    return found

"""The placement problem of one snapshot as plain data: pools of GPUs, who wants them, who holds them.

Built once; solved by CP-SAT (`solver_model.py`) or greedily (`greedy.py`); both answer with a `Choice`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from scheduler.model import JobState
from scheduler.residents import Option, Resident, empty_w, residents_of
from scheduler.snapshot import GpuView, JobView, Snapshot
from scheduler.windows import Plan, plan_hold
from scheduler.worth import GpuKind, Level, best, levels, price_block

MAX_EXTRA_CANDIDATES = 64  # considered beyond one per usable GPU; bounds are over the jobs considered


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Interchangeable GPUs: one kind, on one node.

    `coming` are held by a run that is being stopped. `empty_w` is the least that an empty one counts at;
    in a pool with a GPU whose limit cannot be set, every loaded GPU counts at its maximum.
    """

    node: str
    kind: GpuKind
    settable: bool
    free: tuple[str, ...]
    coming: tuple[str, ...]
    empty_w: float
    size: int
    domains: tuple[str, ...]  # nearest first

    def loaded_w(self, cap_w: float) -> float:
        """Watts that one more loaded GPU adds to every domain over it."""
        return max(0.0, (cap_w if self.settable else self.kind.max_cap_w) - self.empty_w)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A job that may start now. `nodes` equal parts, one pool each; `nodes=0`: split in any way."""

    view: JobView
    nodes: int
    offers: Mapping[GpuKind, tuple[Level, ...]]  # worth of ONE GPU; lowest cap first

    @property
    def per_node(self) -> int:
        return self.view.job.spec.gpus // max(1, self.nodes)

    def offered(self, pool: Pool) -> tuple[Level, ...]:
        """Levels in this pool; only the top one where limits cannot be set."""
        offers = self.offers.get(pool.kind, ())
        return offers if pool.settable else offers[-1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a candidate goes: GPUs per pool (index into `Instance.pools`), all at one cap."""

    cap_w: float
    parts: tuple[tuple[int, int], ...]
    worth_per_h: float  # of the whole job


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """An answer: which candidates start where, and which option each resident takes.

    `value` and `bound` are money per hour; `fallback` names the simpler method that answered, if any.
    """

    placements: Mapping[str, Placement]
    options: Mapping[str, Option]
    value: float
    bound: float
    solve_s: float
    fallback: str | None = None


@dataclass(frozen=True)
class Instance:
    """Everything the solvers need. `room_w` is what each limited domain has left for residents and starts:
    its limit less base loads and every GPU that stays as it is."""

    snapshot: Snapshot
    pools: tuple[Pool, ...]
    candidates: tuple[Candidate, ...]
    residents: tuple[Resident, ...]
    room_w: Mapping[str, float]
    short: frozenset[str]  # domains whose residents do not fit even at their contract floors
    price_held: Mapping[str, str] = field(default_factory=dict)  # job id -> why the price holds it back

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        return tuple(sorted({c.view.priority_rank for c in self.candidates}))

    def open_pools(self, candidate: Candidate) -> list[int]:
        """Pools of the right kind that are under no short domain."""
        return [
            index
            for index, pool in enumerate(self.pools)
            if pool.kind in candidate.offers and self.short.isdisjoint(pool.domains)
        ]


def build_instance(snapshot: Snapshot, plan: Plan | None = None) -> Instance:
    """The snapshot as a placement problem. With a `plan`, deferrable jobs wait for their cheap window."""
    pools = pools_of(snapshot)
    held = {v.job.id: why for v in waiting(snapshot) if (why := _price_hold(v, snapshot, plan)) is not None}
    able = [v for v in waiting(snapshot) if v.eligible and v.job.id not in held]
    ranks = [v.priority_rank for v in able]
    residents, room_w, short = residents_of(snapshot, top_rank=max(ranks, default=None))
    ample = _ample_domains(pools, residents, room_w)
    candidates = _candidates(able, snapshot, pools, residents, ample)
    return Instance(
        snapshot=snapshot,
        pools=pools,
        candidates=tuple(candidates),
        residents=residents,
        room_w=room_w,
        short=short,
        price_held=held,
    )


def waiting(snapshot: Snapshot) -> list[JobView]:
    """Jobs that hold no GPU and want to run: queued, or paused off their GPUs; oldest first."""
    rows = [
        v
        for v in snapshot.jobs
        if v.job.state is JobState.QUEUED or (v.job.state is JobState.PAUSED and v.job.run is None)
    ]
    return sorted(rows, key=lambda v: (v.job.submitted_at, v.job.id))


def fits_type(view: JobView, model: str) -> bool:
    """Whether the job accepts this GPU model (a case-insensitive part of its name)."""
    wanted = view.job.spec.gpu_type
    return wanted is None or wanted.lower() in model.lower()


def pools_of(snapshot: Snapshot) -> tuple[Pool, ...]:
    """Usable GPUs (healthy, not cordoned, nobody else's) by node and kind, in the order of the tree."""
    stopping = {
        v.job.run.id for v in snapshot.jobs if v.job.run is not None and v.job.state is JobState.STOPPING
    }
    by_uuid = {gpu.uuid: gpu for gpu in snapshot.gpus}
    groups: dict[tuple[str, GpuKind], list[GpuView]] = defaultdict(list)
    for uuid in snapshot.tree.gpu_uuids():
        gpu = by_uuid.get(uuid)
        if gpu is not None and gpu.healthy and not gpu.cordoned and not gpu.foreign:
            groups[snapshot.tree.path(uuid)[0], GpuKind.of(gpu)].append(gpu)
    return tuple(_pool(snapshot, node, kind, members, stopping) for (node, kind), members in groups.items())


def _pool(snapshot: Snapshot, node: str, kind: GpuKind, members: list[GpuView], stopping: set[str]) -> Pool:
    return Pool(
        node=node,
        kind=kind,
        settable=all(gpu.settable for gpu in members),
        free=tuple(gpu.uuid for gpu in members if gpu.free),
        coming=tuple(gpu.uuid for gpu in members if gpu.run_id in stopping),
        empty_w=min(empty_w(gpu) if gpu.run_id is None else gpu.idle_w for gpu in members),
        size=len(members),
        domains=snapshot.tree.path(members[0].uuid),
    )


def parts_for(view: JobView, pools: Iterable[Pool]) -> int | None:
    """On how many nodes the job goes: what it asks for; where no single node is large enough, 0 = any split.

    None when no set of pools could ever hold it.
    """
    spec = view.job.spec
    sizes = [pool.size for pool in pools if fits_type(view, pool.kind.model)]
    if sum(size >= spec.gpus // spec.nodes for size in sizes) >= spec.nodes:
        return spec.nodes
    kinds: dict[GpuKind, int] = defaultdict(int)
    for pool in pools:
        if fits_type(view, pool.kind.model):
            kinds[pool.kind] += pool.size
    return 0 if spec.nodes == 1 and max(kinds.values(), default=0) >= spec.gpus else None


def _price_hold(view: JobView, snapshot: Snapshot, plan: Plan | None) -> str | None:
    if not view.eligible:
        return None
    why = price_block(view, snapshot)
    return why if why is not None or plan is None else plan_hold(view, snapshot, plan)


def _candidates(
    able: list[JobView],
    snapshot: Snapshot,
    pools: tuple[Pool, ...],
    residents: tuple[Resident, ...],
    ample: frozenset[str],
) -> list[Candidate]:
    """Jobs with a chance: most important first, no more than could start, none too large for now."""
    found: list[Candidate] = []
    most = sum(pool.size for pool in pools) + MAX_EXTRA_CANDIDATES
    reach: dict[object, tuple[int, int | None]] = {}
    for view in sorted(able, key=lambda v: (-v.priority_rank, -v.value_per_gpu_h)):
        spec = view.job.spec
        key = (spec.gpus, spec.nodes, spec.gpu_type, view.priority_rank)
        if key not in reach:
            reach[key] = (_reachable(view, pools, residents), parts_for(view, pools))
        reachable, nodes = reach[key]
        if nodes is None or spec.gpus > reachable:
            continue
        found.append(Candidate(view=view, nodes=nodes, offers=_offers(view, snapshot, pools, ample)))
        if len(found) >= most:
            break
    return found


def _reachable(view: JobView, pools: tuple[Pool, ...], residents: tuple[Resident, ...]) -> int:
    """GPUs of the right type that are free, coming free, or under a job of lower priority."""
    own = sum(len(p.free) + len(p.coming) for p in pools if fits_type(view, p.kind.model))
    below = (r for r in residents if r.view.priority_rank < view.priority_rank and r.stoppable)
    return own + sum(r.view.job.spec.gpus for r in below)


def _offers(
    view: JobView, snapshot: Snapshot, pools: tuple[Pool, ...], ample: frozenset[str]
) -> dict[GpuKind, tuple[Level, ...]]:
    """Levels by kind of GPU; only the best one where watts cannot run short."""
    price = snapshot.energy_price_per_mwh()
    offers: dict[GpuKind, tuple[Level, ...]] = {}
    for pool in pools:
        if not fits_type(view, pool.kind.model) or pool.kind in offers:
            continue
        here = [p for p in pools if p.kind == pool.kind]
        rich = all(ample.issuperset(p.domains) and p.settable for p in here)
        offered = levels(view, pool.kind, price)
        offers[pool.kind] = (best(offered),) if rich else offered
    return offers


def _ample_domains(
    pools: tuple[Pool, ...], residents: tuple[Resident, ...], room_w: Mapping[str, float]
) -> frozenset[str]:
    """Domains that could carry every GPU under them at its maximum."""
    most: dict[str, float] = defaultdict(float)
    for pool in pools:
        for domain in pool.domains:
            most[domain] += (len(pool.free) + len(pool.coming)) * pool.loaded_w(pool.kind.max_cap_w)
    for resident in residents:
        for domain, watts in resident.most.watts.items():
            most[domain] += watts
    return frozenset(d for d, room in room_w.items() if math.isinf(room) or most[d] <= room)

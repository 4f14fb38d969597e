"""Made-up placement problems of any size, as the solvers read them: nearly full sites with a long queue.

Sizes are the mix of msitp_2021 (days 0-30): as submitted for those who wait, weighted by duration for those
who run, tilted towards large jobs until the wanted share of the site is held.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.placement_site import NODE_GPUS, SIZES, Runs, Site, runs_on, site_of
from power.arrays import Floats, Ints
from power.curve import CapCurve, prior
from scheduler.placing.problem import (
    Act,
    Groups,
    Holds,
    Offers,
    Options,
    PlacementProblem,
    Pools,
    Residents,
)

SUBMITTED = np.array([0.8582, 0.0198, 0.0407, 0.0719, 0.0023, 0.0056, 0.0014])
CLASS_SHARES = (0.25, 0.60, 0.15)
CLASS_VALUE_PER_GPU_H = np.array([0.5, 1.5, 4.0])
FLEX_SHARES = np.array([1.0, 0.9, 0.75, 0.5])  # of full speed that each tier keeps
WORKLOADS = ("bert", "resnet", "deepspeech", "shufflenet", "ncf", None)
MODELS = (("A100", 100.0, 400.0, 55.0), ("H100", 200.0, 700.0, 75.0))
ENERGY_PER_MWH = 90.0
LEVEL_SHARES = (0.75, 0.9, 0.97, 0.999)


@dataclass(frozen=True)
class _Ladders:
    """Per (curve row, kind, flex tier): caps and throughput, lowest first."""

    cap_w: Floats  # curves x kinds x tiers x levels
    share: Floats
    extra_w: Floats  # mean draw above idle


def placement_problem(
    *, gpus: int, running: int, pending: int, seed: int = 0, held_share: float = 0.95, binding: int = 10
) -> PlacementProblem:
    """A site of `gpus` GPUs on nodes of eight; `binding` domains have no watt to spare."""
    chance = np.random.default_rng(seed)
    site = site_of(gpus, chance)
    runs = runs_on(site, running, held_share, chance)
    ladders = _ladders()
    free = np.full(len(site.leaf), NODE_GPUS)
    np.subtract.at(free, runs.node, runs.held)
    pools = _pools(site, free)
    residents, options, holds, now_w = _residents(site, runs, ladders, chance, binding)
    groups, offers = _groups(pending, ladders, len(runs.gpus), chance)
    return PlacementProblem(
        index=site.index,
        room_w=now_w,
        pools=pools,
        groups=groups,
        offers=offers,
        residents=residents,
        options=options,
        holds=holds,
    )


def _ladders() -> _Ladders:
    curves: list[CapCurve] = []
    for workload in WORKLOADS:
        for model, low_w, high_w, _ in MODELS:
            curves.append(prior(model, min_cap_w=low_w, max_cap_w=high_w, workload=workload))
    caps, shares, extra = [], [], []
    for curve in curves:
        for floor in FLEX_SHARES:
            low = curve.cap_for(min(floor, 0.999))
            targets = [low, max(low, curve.knee_cap_w()), *(max(low, curve.cap_for(s)) for s in LEVEL_SHARES)]
            ladder = sorted(float(np.ceil(cap - 1e-6)) for cap in targets)
            caps.append([min(cap, curve.tdp_w) for cap in ladder])
            shares.append([curve.throughput(cap) for cap in caps[-1]])
            extra.append([curve.power_w(cap) - curve.idle_w for cap in caps[-1]])
    shape = (len(WORKLOADS), len(MODELS), len(FLEX_SHARES), 2 + len(LEVEL_SHARES))
    return _Ladders(*(np.array(rows).reshape(shape) for rows in (caps, shares, extra)))


def _pools(site: Site, free: Ints) -> Pools:
    count = len(site.leaf)
    idle = np.array([model[3] for model in MODELS])
    top = np.array([model[2] for model in MODELS])
    return Pools(
        leaf=site.leaf,
        kind=site.kind,
        settable=np.ones(count, dtype=bool),
        reserved=np.zeros(count, dtype=bool),
        free=free,
        coming=np.zeros(count, dtype=np.int64),
        size=np.full(count, NODE_GPUS),
        empty_w=idle[site.kind],
        max_cap_w=top[site.kind],
    )


def _ranks(count: int, chance: np.random.Generator) -> Ints:
    return chance.choice(len(CLASS_SHARES), size=count, p=CLASS_SHARES).astype(np.int64)


def _residents(
    site: Site, runs: Runs, ladders: _Ladders, chance: np.random.Generator, binding: int
) -> tuple[Residents, Options, Holds, Floats]:
    count = len(runs.gpus)
    rank = _ranks(count, chance)
    first = np.full(count, len(site.leaf))
    np.minimum.at(first, runs.job, runs.node)
    kind = site.kind[first] if count else np.zeros(0, dtype=np.int64)
    np.minimum.at(kind, runs.job, site.kind[runs.node])  # the smaller board of a mixed gang
    workload, tier = chance.integers(len(WORKLOADS), size=count), chance.integers(4, size=count)
    cap_w = ladders.cap_w[workload, kind, tier]
    value = CLASS_VALUE_PER_GPU_H[rank] * runs.gpus
    share, extra_w = ladders.share[workload, kind, tier], ladders.extra_w[workload, kind, tier]
    worth = value[:, None] * share - runs.gpus[:, None] * ENERGY_PER_MWH * extra_w / 1e6
    lost_h = np.where(chance.random(count) < 0.5, 0.0, chance.exponential(5.0, count)) + 60.0 / 3600.0
    stops = (rank < 2) & (chance.random(count) < 0.9)
    pauses = (rank < 2) & (chance.random(count) < 0.3)
    holds = Holds(
        resident=runs.job,
        leaf=site.leaf[runs.node],
        pool=runs.node,
        freed=runs.held,
        steered=runs.held,
        fixed_w=np.zeros(len(runs.job)),
        empty_w=runs.held * np.array([m[3] for m in MODELS])[site.kind[runs.node]],
    )
    room_w, level = _binding_rooms(site, runs, cap_w, worth, binding, chance)
    rows = np.arange(count)
    repeated = np.concatenate([np.ones((count, 1), bool), cap_w[:, 1:] > cap_w[:, :-1]], axis=1)
    level = np.array([np.nonzero(cap_w[r] == cap_w[r, level[r]])[0][0] for r in rows], dtype=np.int64)
    wide_cap = np.concatenate([np.zeros((count, 1)), cap_w[:, :1] * 0 + 100.0, cap_w], axis=1)
    wide_cap[:, 1] = np.array([m[1] for m in MODELS])[kind]
    wide_worth = np.concatenate(
        [-(lost_h * value)[:, None], -(30.0 / 3600.0 * value)[:, None], worth], axis=1
    )
    act = np.full(wide_cap.shape, int(Act.RUN))
    act[:, 0], act[:, 1] = int(Act.PREEMPT), int(Act.PAUSE)
    there = np.concatenate([stops[:, None], pauses[:, None], repeated], axis=1)
    unchanged = np.zeros(there.shape, dtype=bool)
    unchanged[rows, level + 2] = True
    least = np.zeros(there.shape, dtype=bool)
    least[:, 2] = True
    owner = np.broadcast_to(rows[:, None], there.shape)
    options = Options(
        resident=owner[there],
        act=act[there],
        cap_w=wide_cap[there],
        worth=wide_worth[there],
        least=least[there],
        unchanged=unchanged[there],
    )
    return Residents(job=rows, rank=rank, gpus=runs.gpus), options, holds, room_w


def _binding_rooms(
    site: Site, runs: Runs, cap_w: Floats, worth: Floats, binding: int, chance: np.random.Generator
) -> tuple[Floats, Ints]:
    """Rooms of the binding domains, just above what residents take now; and the level each stands at."""
    index = site.index
    columns = np.unique(np.concatenate([[0], site.row, site.rack]))
    rows, racks = np.unique(site.row), np.unique(site.rack)
    bound = [0, *chance.permutation(rows)[: max(1, binding // 5)]]
    bound = [*bound, *chance.permutation(racks)][:binding]
    price = np.zeros(len(index.names))
    price[bound] = chance.uniform(0.0003, 0.002, len(bound))
    above = index.ancestors[site.leaf]
    leaf_price = np.where(above >= 0, price[above], 0.0).sum(axis=1)
    watt_price = np.bincount(runs.job, leaf_price[runs.node] * runs.held, len(cap_w))
    level = np.argmax(worth - watt_price[:, None] * cap_w, axis=1)
    load = runs.held * cap_w[runs.job, level[runs.job]]
    used = index.under(site.leaf[runs.node], load)
    room = np.full(len(index.names), np.inf)
    room[columns] = 10.0 * used[columns] + 1e6
    room[bound] = 1.001 * used[bound] + 500.0
    return room, level


def _groups(
    pending: int, ladders: _Ladders, first_job: int, chance: np.random.Generator
) -> tuple[Groups, Offers]:
    size = chance.choice(SIZES, size=pending, p=SUBMITTED / SUBMITTED.sum())
    rank = _ranks(pending, chance)
    workload, tier = chance.integers(len(WORKLOADS), size=pending), chance.integers(4, size=pending)
    wanted = chance.choice(3, size=pending, p=(0.6, 0.2, 0.2))  # any board, the first, the second
    key = np.stack([size, rank, workload, tier, wanted], axis=1)
    alike, group = np.unique(key, axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    gpus, rank, workload, tier, wanted = alike.T
    groups = Groups(
        gpus=gpus,
        nodes=np.maximum(1, gpus // NODE_GPUS),
        rank=rank,
        backfill=np.zeros(len(gpus), dtype=bool),
        member_start=np.concatenate([[0], np.cumsum(np.bincount(group.ravel(), minlength=len(gpus)))]),
        member=first_job + order,
        head_start=np.full(len(gpus), 1e-4),
    )
    kinds = np.array([0, 1])
    cap_w = ladders.cap_w[workload[:, None], kinds[None], tier[:, None]]
    share = ladders.share[workload[:, None], kinds[None], tier[:, None]]
    extra_w = ladders.extra_w[workload[:, None], kinds[None], tier[:, None]]
    worth = CLASS_VALUE_PER_GPU_H[rank][:, None, None] * share - ENERGY_PER_MWH * extra_w / 1e6
    there = np.concatenate(
        [np.ones((*cap_w.shape[:2], 1), dtype=bool), cap_w[..., 1:] > cap_w[..., :-1]], axis=2
    )
    there &= ((wanted[:, None] == 0) | (wanted[:, None] == kinds + 1))[..., None]
    top = np.zeros(cap_w.shape, dtype=bool)
    top[..., -1] = True
    last = np.where(there, np.arange(cap_w.shape[2]), -1).max(axis=2)
    top = np.arange(cap_w.shape[2]) == last[..., None]
    shape = cap_w.shape
    return groups, Offers(
        group=np.broadcast_to(np.arange(len(gpus))[:, None, None], shape)[there],
        kind=np.broadcast_to(kinds[None, :, None], shape)[there],
        cap_w=cap_w[there],
        worth=worth[there],
        top=top[there],
    )

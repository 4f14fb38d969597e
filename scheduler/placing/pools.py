"""GPUs by pool: one kind on one node. And what every GPU counts at while a placement is sought."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.gpu_table import NOBODY, GpuTable
from scheduler.model import JobState
from scheduler.placing.problem import Pools
from scheduler.snapshot import Snapshot

NO_POOL = -1


@dataclass(frozen=True)
class PoolMap:
    """The pools of a snapshot, and the pool of each GPU row (NO_POOL: not usable)."""

    snapshot: Snapshot
    pools: Pools
    of_gpu: Ints
    free: Bools  # per GPU
    coming: Bools  # per GPU: held by a run that is being stopped, and kept for nobody
    stopping: Bools  # per GPU: held by a run that is being stopped
    idle_counts_w: Floats  # per GPU: what it counts at without a run, while a placement is sought


def held_by(snapshot: Snapshot, jobs: Bools) -> Bools:
    """Per GPU: held by one of these jobs (a mask over job rows)."""
    return np.append(jobs, False)[snapshot.gpus.holder]  # NOBODY reads the last entry


def pools_of(snapshot: Snapshot) -> PoolMap:
    """Usable GPUs (healthy, not cordoned, nobody else's) by node and kind, in the order of the tree.

    Where the limit of one cannot be set, the whole pool counts as not settable.
    """
    gpus = snapshot.gpus
    kinds, nodes = max(1, len(gpus.kinds)), len(snapshot.tree.index.names)
    stopping = held_by(snapshot, snapshot.jobs.in_state(JobState.STOPPING))
    free = gpus.free
    coming = gpus.usable & stopping & (gpus.reserved == NOBODY)
    rows = np.nonzero(gpus.usable)[0]
    code = gpus.leaf[rows] * kinds + gpus.kind[rows]
    size = np.bincount(code, minlength=nodes * kinds)
    there = np.nonzero(size)[0]
    idle_w = _idle_counts_w(gpus)
    pool_of_code = np.full(nodes * kinds, NO_POOL, dtype=np.int64)
    pool_of_code[there] = np.arange(len(there))
    of_gpu = np.full(len(gpus), NO_POOL, dtype=np.int64)
    of_gpu[rows] = pool_of_code[code]
    kind = there % kinds
    max_caps = np.array([k.max_cap_w for k in gpus.kinds], dtype=np.float64)
    pools = Pools(
        leaf=there // kinds,
        kind=kind,
        settable=_count(of_gpu, gpus.usable & ~gpus.settable, len(there)) == 0,
        reserved=np.zeros(len(there), dtype=bool),
        free=_count(of_gpu, free, len(there)),
        coming=_count(of_gpu, coming, len(there)),
        size=size[there],
        empty_w=_least_empty_w(np.where(gpus.held, gpus.idle_w, idle_w)[rows], of_gpu[rows], len(there)),
        max_cap_w=max_caps[kind] if len(max_caps) else np.zeros(0),
    )
    return PoolMap(snapshot, pools, of_gpu, free, coming, stopping, idle_w)


def _count(pool: Ints, mask: Bools, pools: int) -> Ints:
    return np.bincount(pool[mask], minlength=pools)


def _least_empty_w(empty_w: Floats, pool: Ints, pools: int) -> Floats:
    least = np.full(pools, np.inf)
    np.minimum.at(least, pool, empty_w)
    return least


def _idle_counts_w(gpus: GpuTable) -> Floats:
    """What each GPU without a run counts at while a placement is sought.

    One that draws no more than idle may count higher only because its watts are promised to a start; the
    placement decides about those anew, unless the GPU is kept for that very start.
    """
    idle = gpus.healthy & ~gpus.foreign & (gpus.draw_w <= gpus.idle_w) & (gpus.reserved == NOBODY)
    return np.where(idle, np.minimum(gpus.idle_w, gpus.accounted_w), gpus.accounted_w)


def base_counts_w(pools: PoolMap, inside: Bools) -> Floats:
    """What each GPU outside the decision counts at: as accounted, but one that is being left as already idle.

    `inside` are GPUs of residents: they count 0 here.
    """
    gpus = pools.snapshot.gpus
    watts = np.where(gpus.held, gpus.accounted_w, pools.idle_counts_w)
    leaving = pools.stopping & (gpus.reserved == NOBODY) & gpus.healthy
    return np.where(inside, 0.0, np.where(leaving, gpus.idle_w, watts))

"""Which GPUs the residents hold, by pool: counted once, so that an option's watts are one multiplication."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.pools import NO_POOL, PoolMap
from scheduler.placing.problem import Holds
from scheduler.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True)
class Held:
    """Per resident: its job row, GPUs, the board that holds it down most, and the range of its boards.

    `gpu` are the rows of all GPUs that residents hold, `resident` whose each is, sorted by that.
    """

    job: Ints
    count: Ints
    kind: Ints
    least_w: Floats  # the least cap that all its boards allow
    max_w: Floats  # of the board with the lowest maximum
    now_w: Floats  # the present cap
    settable: Bools
    healthy: Bools
    gpu: Ints
    resident: Ints
    holds: Holds


def held_rows(snapshot: Snapshot, pools: PoolMap, jobs: Ints) -> Held:
    """What these jobs hold; each has at least one GPU in the picture."""
    gpus = snapshot.gpus
    resident_of = np.full(len(snapshot.jobs) + 1, -1, dtype=np.int64)
    resident_of[jobs] = np.arange(len(jobs))
    owner = resident_of[gpus.holder]  # NOBODY reads the last entry
    gpu = np.nonzero((owner >= 0) & (gpus.leaf >= 0))[0]
    gpu = gpu[np.argsort(owner[gpu], kind="stable")]
    resident = owner[gpu]
    count = np.bincount(resident, minlength=len(jobs))
    begin = np.cumsum(count) - count
    max_w = gpus.max_cap_w[gpu]
    confirmed_w = gpus.confirmed_cap_w[gpu]
    return Held(
        job=jobs,
        count=count,
        kind=_slowest(gpus.kind[gpu], max_w, resident, begin),
        least_w=_reduce(np.maximum, gpus.min_cap_w[gpu], begin),
        max_w=_reduce(np.minimum, max_w, begin),
        now_w=_reduce(np.maximum, np.where(np.isnan(confirmed_w), max_w, confirmed_w), begin),
        settable=_reduce(np.minimum, gpus.settable[gpu].astype(np.float64), begin) > 0,
        healthy=_reduce(np.minimum, gpus.healthy[gpu].astype(np.float64), begin) > 0,
        gpu=gpu,
        resident=resident,
        holds=_holds(snapshot, pools, gpu, resident),
    )


def _reduce(how: np.ufunc, values: Floats, begin: Ints) -> Floats:
    return np.asarray(how.reduceat(values, begin) if len(begin) else np.zeros(0), dtype=np.float64)


def _slowest(kind: Ints, max_w: Floats, resident: Ints, begin: Ints) -> Ints:
    """The kind of the board with the lowest maximum, the first of equals."""
    least_w = _reduce(np.minimum, max_w, begin)
    at_least = np.nonzero(max_w <= least_w[resident])[0] if len(begin) else np.zeros(0, dtype=np.int64)
    found = np.zeros(len(begin), dtype=np.int64)
    found[resident[at_least][::-1]] = kind[at_least][::-1]
    return found


def _holds(snapshot: Snapshot, pools: PoolMap, gpu: Ints, resident: Ints) -> Holds:
    """One row per resident and pool; GPUs in no pool by node."""
    gpus = snapshot.gpus
    pool, leaf = pools.of_gpu[gpu], gpus.leaf[gpu]
    place = np.where(pool == NO_POOL, len(pools.pools) + leaf, pool)
    key = resident * (len(pools.pools) + len(snapshot.tree.index.names)) + place
    if len(key) and (key[1:] < key[:-1]).any():
        order = np.argsort(key, kind="stable")
        gpu, resident, pool, leaf, key = gpu[order], resident[order], pool[order], leaf[order], key[order]
    new = np.concatenate([[True], key[1:] != key[:-1]])[: len(key)]
    begin = np.nonzero(new)[0]
    healthy, settable = gpus.healthy[gpu], gpus.settable[gpu]
    steered = healthy & settable
    # What is unhealthy counts as accounted whatever happens; an unsettable board under load at its maximum.
    fixed_w = np.where(healthy, np.where(settable, 0.0, gpus.max_cap_w[gpu]), gpus.accounted_w[gpu])
    empty_w = np.where(healthy, gpus.idle_w[gpu], gpus.accounted_w[gpu])
    return Holds(
        resident=resident[begin],
        leaf=leaf[begin],
        pool=pool[begin],
        freed=_sum(pool != NO_POOL, begin).astype(np.int64),
        steered=_sum(steered, begin).astype(np.int64),
        fixed_w=_sum(fixed_w, begin),
        empty_w=_sum(empty_w, begin),
    )


def _sum(values: Floats | Bools, begin: Ints) -> Floats:
    return _reduce(np.add, np.asarray(values, dtype=np.float64), begin)

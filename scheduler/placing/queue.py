"""Who waits, in columns: jobs that are alike are one kin, and thousands of them are decided on at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.distinct import distinct
from scheduler.placing.pools import PoolMap
from scheduler.snapshot import Snapshot

NEVER = -1  # `Kin.nodes` of what no set of pools could ever hold


@dataclass(frozen=True, kw_only=True)
class Kin:
    """Kinds of waiting job: alike in what they ask for, in rank and in worth; a row each.

    `nodes` is on how many nodes it goes (ANY_SPLIT where no single node is large enough, NEVER where nothing
    is); `planned` jobs were meant to run now, so that the plan's shadow prices are not held against them.
    `first` is the queue entry of its oldest member.
    """

    gpus: Ints
    asked_nodes: Ints
    nodes: Ints
    gpu_type: Ints
    rank: Ints
    curve: Ints
    floor_share: Floats
    rule_share: Floats
    value: Floats
    planned: Bools
    first: Ints

    def __len__(self) -> int:
        return len(self.gpus)


@dataclass(frozen=True, kw_only=True)
class Queue:
    """Eligible waiting jobs, oldest first. `job` are their rows, `held` marks those that wait for a price."""

    snapshot: Snapshot
    job: Ints
    held: Bools
    kin_of: Ints
    kin: Kin
    fits: Bools  # gpu types x kinds of GPU: whether the board's name suits

    @cached_property
    def able(self) -> Bools:
        """May start now."""
        return np.asarray(~self.held, dtype=bool)

    def top_rank(self) -> int | None:
        """The highest priority that may start now; None = nobody."""
        ranks = self.snapshot.jobs.ints("rank")[self.job[self.able]]
        return int(ranks.max()) if len(ranks) else None


def eligible_rows(snapshot: Snapshot) -> Ints:
    """Rows of jobs that hold no GPU, want to run and may, oldest first."""
    jobs = snapshot.jobs
    rows = np.nonzero(jobs.waiting & jobs.bools("eligible"))[0]
    oldest: Ints = rows[np.argsort(jobs.floats("submitted_s")[rows], kind="stable")]
    return oldest


def queue_of(snapshot: Snapshot, pools: PoolMap, job: Ints, held: Bools, planned: Bools) -> Queue:
    """`held` and `planned` are per entry of `job`."""
    jobs = snapshot.jobs
    gpus, nodes, kind_of = jobs.ints("gpus")[job], jobs.ints("nodes")[job], jobs.gpu_type[job]
    rank, curve = jobs.ints("rank")[job], jobs.curve[job]
    floor, rule = jobs.floats("floor_share")[job], jobs.floats("rule_cap_share")[job]
    value = jobs.floats("value_per_gpu_h")[job]
    first, kin_of = distinct(gpus, nodes, kind_of, rank, curve, floor, rule, value, planned)
    fits = type_fits(snapshot)
    return Queue(
        snapshot=snapshot,
        job=job,
        held=held,
        kin_of=kin_of,
        fits=fits,
        kin=Kin(
            gpus=gpus[first],
            asked_nodes=nodes[first],
            nodes=_nodes(gpus[first], nodes[first], kind_of[first], fits, pools),
            gpu_type=kind_of[first],
            rank=rank[first],
            curve=curve[first],
            floor_share=floor[first],
            rule_share=rule[first],
            value=value[first],
            planned=planned[first],
            first=first,
        ),
    )


def type_fits(snapshot: Snapshot) -> Bools:
    """gpu types x kinds: whether a job accepts this GPU model (a case-insensitive part of its name)."""
    wanted = [None if name is None else name.lower() for name in snapshot.jobs.gpu_types]
    models = [kind.model.lower() for kind in snapshot.gpus.kinds]
    rows = [[name is None or name in model for model in models] for name in wanted]
    return np.array(rows, dtype=bool).reshape(len(wanted), len(models))


def _nodes(gpus: Ints, nodes: Ints, gpu_type: Ints, fits: Bools, pools: PoolMap) -> Ints:
    """On how many nodes each goes: what it asks for; where no single node is large enough, 0 = any split."""
    sizes = [np.sort(pools.pools.size[pools.pools.kind == kind]) for kind in range(fits.shape[1])]
    found = np.full(len(gpus), NEVER, dtype=np.int64)
    for kind, size in enumerate(sizes):
        mine = fits[gpu_type, kind]
        wide = len(size) - np.searchsorted(size, gpus // nodes)
        found[mine & (wide >= nodes)] = nodes[mine & (wide >= nodes)]
    for kind, size in enumerate(sizes):
        splits = fits[gpu_type, kind] & (found == NEVER) & (nodes == 1) & (int(size.sum()) >= gpus)
        found[splits] = 0
    return found

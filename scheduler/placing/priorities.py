"""Whether a waiting job would start at once if its priority were higher: by stopping jobs below it.

Only claimed where the answer at hand shows it: the GPUs and watts of enough stoppable jobs of lower rank on
one node, worth less than the job would bring. Classes are those of the jobs in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from power.arrays import Floats, Ints
from scheduler.placing.build import Posed
from scheduler.placing.distinct import distinct
from scheduler.placing.problem import Act
from scheduler.placing.scene import Scene

MARGIN = 1.25  # what it brings must exceed what is lost by this factor
AT_LEAST = 1e-2  # money per hour


@dataclass(frozen=True)
class _Class:
    rank: int
    name: str
    value: float


@dataclass(frozen=True)
class _Yield:
    """Residents that could be stopped for a class, sorted by pool, cheapest GPU first; sums within a pool."""

    pool: Ints
    gpus: Ints
    loss: Floats
    watts: Floats  # that would be gained


@dataclass(frozen=True)
class _Spot:
    """The cheapest node for so many GPUs."""

    pool: int
    loss: float
    watts: float


def starts_with(posed: Posed, scene: Scene) -> list[str | None]:
    """Per kin: the lowest class above its own that would start it now; None where none is sure to."""
    kin, terraces, pools = posed.queue.kin, posed.terraces, posed.problem.pools
    ladder, gpus = terraces.ladder, kin.gpus[terraces.kin]
    found: list[str | None] = [None] * len(kin)
    whole = kin.nodes[terraces.kin] == 1
    stoppable = _stoppable(posed, scene)
    for one in reversed(_classes(posed)):
        yields = _yields(posed, scene, stoppable, one.rank)
        rows = np.nonzero(whole & (kin.rank[terraces.kin] < one.rank))[0]
        first, ask = distinct(terraces.kind[rows], gpus[rows])
        spots = [
            _cheapest(posed, scene, yields, int(terraces.kind[r]), int(gpus[r])) for r in rows[first].tolist()
        ]
        there = np.array([spot is not None for spot in spots], dtype=bool)[ask]
        rows, ask = rows[there], ask[there]
        pool = np.array([-1 if spot is None else spot.pool for spot in spots], dtype=np.int64)[ask]
        loss = np.array([0.0 if spot is None else spot.loss for spot in spots])[ask]
        has_w = (
            np.array([0.0 if spot is None else spot.watts for spot in spots])[ask] + scene.pool_slack_w[pool]
        )
        more_value = one.value - kin.value[terraces.kin[rows]]
        brings = gpus[rows] * (ladder.worth[rows, 0] + more_value * ladder.share[rows, 0])
        need_w = gpus[rows] * pools.loaded_w(pool, ladder.cap_w[rows, 0])
        for row in rows[(brings > MARGIN * loss + AT_LEAST) & (need_w <= has_w)].tolist():
            found[int(terraces.kin[row])] = one.name
    return found


def _cheapest(posed: Posed, scene: Scene, found: _Yield, kind: int, gpus: int) -> _Spot | None:
    """Residents of one pool in order of loss, until with the free GPUs there are enough."""
    pools = posed.problem.pools
    mine = (pools.kind[found.pool] == kind) & pools.settable[found.pool] & ~pools.reserved[found.pool]
    mine &= ~posed.short_pool[found.pool]
    rows = np.nonzero(mine & (scene.free_after[found.pool] + found.gpus >= gpus))[0]
    if not len(rows):
        return None
    best = int(rows[np.argmin(found.loss[rows])])
    return _Spot(int(found.pool[best]), float(found.loss[best]), float(found.watts[best]))


def _classes(posed: Posed) -> tuple[_Class, ...]:
    """The priority classes of the jobs in the picture, lowest first."""
    jobs = posed.snapshot.jobs
    rank_of = jobs.ints("rank")
    ranks = np.nonzero(np.bincount(rank_of))[0]  # places in the list of classes: few, and small
    first = [int(np.argmax(rank_of == rank)) for rank in ranks.tolist()]
    values = jobs.floats("value_per_gpu_h")
    return tuple(
        _Class(rank, jobs.jobs[row].spec.priority, float(values[row]))
        for rank, row in zip(ranks.tolist(), first, strict=True)
    )


def _stoppable(posed: Posed, scene: Scene) -> Ints:
    """Rows of `holds`: residents that may be stopped, run on one pool alone, and are not stopped anyway; by
    pool, cheapest GPU first."""
    problem, choice = posed.problem, scene.choice
    holds = problem.holds
    stays = problem.options.act[choice.option] == int(Act.RUN)
    alone = np.bincount(holds.resident, minlength=len(problem.residents)) == 1
    mine = stays & alone & np.isfinite(posed.cast.stop_loss)
    rows = np.nonzero(mine[holds.resident] & (holds.pool >= 0) & (holds.freed > 0))[0]
    return rows[np.lexsort((_loss(posed, scene, rows) / holds.freed[rows], holds.pool[rows]))]


def _loss(posed: Posed, scene: Scene, rows: Ints) -> Floats:
    """What stopping each loses, and what it would have brought."""
    who = posed.problem.holds.resident[rows]
    return posed.cast.stop_loss[who] + posed.problem.options.worth[scene.choice.option[who]]


def _yields(posed: Posed, scene: Scene, stoppable: Ints, rank: int) -> _Yield:
    """Those of them below this rank."""
    problem, holds = posed.problem, posed.problem.holds
    rows = stoppable[problem.residents.rank[holds.resident[stoppable]] < rank]
    cap_w = problem.options.cap_w[scene.choice.option[holds.resident[rows]]]
    pool = holds.pool[rows]
    first = np.searchsorted(pool, pool)
    return _Yield(
        pool=pool,
        gpus=_sums(holds.freed[rows].astype(np.float64), first).astype(np.int64),
        loss=_sums(_loss(posed, scene, rows), first),
        watts=_sums(holds.fixed_w[rows] + holds.steered[rows] * cap_w - holds.empty_w[rows], first),
    )


def _sums(values: Floats, first: Ints) -> Floats:
    """Running sums that begin anew at `first` of each row."""
    total = np.cumsum(values)
    return np.asarray(total - (total - values)[first], dtype=np.float64)

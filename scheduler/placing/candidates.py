"""From the queue to groups and offers: who could start now, at which caps, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.distinct import distinct
from scheduler.placing.levels import Boards, Ladder, Terms, ladder
from scheduler.placing.pools import PoolMap
from scheduler.placing.problem import Act, Groups, Offers
from scheduler.placing.queue import NEVER, Kin, Queue
from scheduler.placing.residents import Cast
from scheduler.placing.shadow import Shadow

AGE_BONUS = 1e-3  # money per hour: the oldest group's head start among equals


@dataclass(frozen=True, kw_only=True)
class Terraces:
    """Levels of every kin on every kind of GPU that suits it, a row per pair, sorted by kin, then kind.

    `offered` marks the rungs that are on offer (kins x pairs as in `ladder`).
    """

    kin: Ints
    kind: Ints
    ladder: Ladder
    offered: Bools
    top: Ints  # column of the highest rung
    shadow: Floats  # what the plan's prices take from each worth

    @property
    def lowest_share(self) -> Floats:
        """Per pair: share of full speed at the contract's floor."""
        return np.asarray(self.ladder.share[:, 0], dtype=np.float64)


def terraces_of(queue: Queue, pools: PoolMap, boards: Boards, shadow: Shadow, tight_leaf: Bools) -> Terraces:
    """`tight_leaf` marks domains under which watts could run short; elsewhere only the best level counts."""
    kin, board = queue.kin, pools.pools
    kinds = queue.fits.shape[1]
    there = np.bincount(board.kind, minlength=kinds) > 0
    fixed = np.bincount(board.kind[~board.settable], minlength=kinds) > 0
    rich = ~fixed & (np.bincount(board.kind[tight_leaf[board.leaf]], minlength=kinds) == 0)
    of_kin, kind = np.nonzero(queue.fits[kin.gpu_type] & there)
    first, row = distinct(
        kin.curve[of_kin],
        kin.floor_share[of_kin],
        kin.rule_share[of_kin],
        kin.value[of_kin],
        kin.planned[of_kin],
        kind,
    )
    one, one_kind = of_kin[first], kind[first]
    terms, per_gpu, per_w = _terms(kin, one, one_kind, boards, shadow)
    rungs = ladder(boards, terms, queue.snapshot.energy_price_per_mwh())
    columns = np.arange(rungs.cap_w.shape[1])
    top = np.max(np.where(rungs.there, columns, 0), axis=1)
    at_best = columns == rungs.best[:, None]
    at_top = columns == top[:, None]
    offered = np.where(
        rich[one_kind][:, None], at_best, rungs.useful | (at_top & fixed[one_kind][:, None])
    ) & (rungs.worth > 0)
    top = np.where(rich[one_kind], rungs.best, top)
    return Terraces(
        kin=of_kin,
        kind=kind,
        ladder=rungs.only(row),
        offered=np.asarray(offered[row], dtype=bool),
        top=top[row],
        shadow=(per_gpu[:, None] + per_w[:, None] * rungs.cap_w)[row],
    )


def _terms(kin: Kin, row: Ints, kind: Ints, boards: Boards, shadow: Shadow) -> tuple[Terms, Floats, Floats]:
    """(terms, the plan's price of a GPU, and of a watt): nothing for those that it wants to run now."""
    per_gpu = np.where(kin.planned[row], 0.0, shadow.per_gpu)
    per_w = np.where(kin.planned[row], 0.0, shadow.per_w[kind])
    terms = Terms(
        board=boards.row(kin.curve[row], kind),
        floor_share=kin.floor_share[row],
        rule_share=kin.rule_share[row],
        value=kin.value[row],
        price_per_w=per_w,
        price_per_gpu=per_gpu,
    )
    return terms, per_gpu, per_w


def within_reach(queue: Queue, pools: PoolMap, cast: Cast) -> Bools:
    """Per kin: GPUs of one kind that are free, coming free, or under a job of lower priority are enough."""
    kin, board = queue.kin, pools.pools
    kinds = queue.fits.shape[1]
    own = np.bincount(board.kind, board.free + board.coming, minlength=kinds)
    options, holds = cast.options, cast.holds
    stoppable = np.zeros(len(cast.residents), dtype=bool)
    stoppable[options.resident[options.act == int(Act.PREEMPT)]] = True
    mine = (holds.pool >= 0) & stoppable[holds.resident]
    rank = cast.residents.rank[holds.resident[mine]]
    freed, freed_kind = holds.freed[mine], board.kind[holds.pool[mine]]
    enough = np.zeros(len(kin), dtype=bool)
    for level in np.unique(kin.rank).tolist():
        lower = rank < level
        most = own + np.bincount(freed_kind[lower], freed[lower], minlength=kinds)
        here = kin.rank == level
        enough[here] = np.any(queue.fits[kin.gpu_type[here]] & (most >= kin.gpus[here, None]), axis=1)
    return np.asarray(enough & (kin.nodes != NEVER), dtype=bool)


def groups_of(queue: Queue, terraces: Terraces, reach: Bools, backfill: Bools) -> tuple[Groups, Offers, Ints]:
    """(groups, offers, the group of each queue entry or -1). `backfill` is per queue entry."""
    earns = np.zeros(len(queue.kin), dtype=bool)
    earns[terraces.kin[terraces.offered.any(axis=1)]] = True
    entry = np.nonzero(queue.able & (reach & earns)[queue.kin_of])[0]
    first, code = distinct(queue.kin_of[entry], backfill[entry])
    kin_of = queue.kin_of[entry[first]]
    kin = queue.kin
    order = np.argsort(code, kind="stable")
    group_of = np.full(len(queue.job), -1, dtype=np.int64)
    group_of[entry] = code
    oldest = np.argsort(np.argsort(entry[first], kind="stable"), kind="stable")
    groups = Groups(
        gpus=kin.gpus[kin_of],
        nodes=kin.nodes[kin_of],
        rank=kin.rank[kin_of],
        backfill=backfill[entry[first]],
        member_start=np.concatenate([[0], np.cumsum(np.bincount(code, minlength=len(first)))]),
        member=queue.job[entry[order]],
        head_start=AGE_BONUS * (1.0 - oldest / max(1, len(first))),
    )
    return groups, _offers(terraces, kin_of, len(queue.kin)), group_of


def _offers(terraces: Terraces, kin_of: Ints, kins: int) -> Offers:
    """The rungs on offer to each group, sorted by group, kind and cap."""
    pairs = np.bincount(terraces.kin, minlength=kins)
    begin = np.cumsum(pairs) - pairs
    count = pairs[kin_of]
    group = np.repeat(np.arange(len(kin_of)), count)
    pair = np.repeat(begin[kin_of] - (np.cumsum(count) - count), count) + np.arange(int(count.sum()))
    at, rung = np.nonzero(terraces.offered[pair])
    row = pair[at]
    return Offers(
        group=group[at],
        kind=terraces.kind[row],
        cap_w=terraces.ladder.cap_w[row, rung],
        worth=terraces.ladder.worth[row, rung],
        top=rung == terraces.top[row],
    )

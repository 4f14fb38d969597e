"""Jobs that hold GPUs, and what a placement may do with each: run at a cap, pause, stop, thaw. In columns.

Only a domain that is short even with all residents at their contract floors opens the options that break
contracts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.model import JobState
from scheduler.placing.holds import Held, held_rows
from scheduler.placing.levels import Boards, Terms, ladder, single
from scheduler.placing.pools import PoolMap, base_counts_w
from scheduler.placing.price_gate import PriceGate, pause_cost, pause_left, stop_cost
from scheduler.placing.problem import Act, Holds, Options, Residents
from scheduler.snapshot import Snapshot

BREACH_FACTOR = 100.0  # breaking a contract costs this many times the job's full worth
ROOM_W = 1e-6
SAME_W = 0.5


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Residents with their options and holds; `room_w`, `short` and `need_w` (what all residents need at
    their contract floors) are per domain column.

    Per resident: `forced` must pause for its price, `frozen` is paused in place; `now_w` is its present cap;
    `stop_loss` is money that stopping it loses, infinite where it may not be stopped, whoever waits.
    """

    residents: Residents
    options: Options
    holds: Holds
    room_w: Floats
    short: Bools
    need_w: Floats
    forced: Bools
    frozen: Bools
    settable: Bools
    now_w: Floats
    stop_loss: Floats
    speed: Floats  # share of full speed at the present cap


@dataclass(frozen=True, kw_only=True)
class _Acts:
    """Which options each resident has, and the rungs of those that run; per resident."""

    preempt: Bools
    pause: Bools
    emergency: Bools
    run: Bools


def movable(snapshot: Snapshot) -> Ints:
    """Rows of the jobs that a placement may touch: running because they are wanted to, or frozen in place."""
    jobs = snapshot.jobs
    frozen = jobs.bools("frozen")
    runs = jobs.in_state(JobState.RUNNING) & jobs.bools("wanted") & ~frozen
    rows: Ints = np.nonzero(snapshot.complete & (runs | (frozen & jobs.in_state(JobState.PAUSED))))[0]
    return rows


def cast_of(
    snapshot: Snapshot,
    pools: PoolMap,
    boards: Boards,
    gate: PriceGate,
    rows: Ints,
    *,
    top_rank: int | None,
    tight: Bools,
) -> Cast:
    """`rows` are the jobs that may be touched, all or some of `movable`.

    `top_rank` is the highest priority that waits (None: nobody): only a higher one disturbs a job.

    `tight` are domains that could run short of watts: elsewhere a resident needs no levels to choose from.
    Where even every lowest option exceeds a domain, its room is raised to that: nothing more can be done.
    """
    held = held_rows(snapshot, pools, rows)
    builder = _Builder(snapshot, boards, held, gate)
    inside = np.zeros(len(snapshot.gpus), dtype=bool)
    inside[held.gpu] = True
    base_w = snapshot.tree.index.under(snapshot.gpus.leaf, base_counts_w(pools, inside))
    room_w = snapshot.domain_gpu_w - base_w
    acts = builder.acts(top_rank)
    options = builder.options(acts, builder.reaches(tight))
    floors_w = _total_w(snapshot, held.holds, options, options.least)
    short = np.asarray(floors_w > room_w + ROOM_W, dtype=bool)
    need_w = floors_w
    if short.any():
        needy = builder.reaches(short)
        acts = builder.in_need(acts, needy)
        options = builder.options(acts, builder.reaches(tight))
        lowest = np.concatenate([[True], options.resident[1:] != options.resident[:-1]])[: len(options)]
        options = replace(options, least=np.where(needy[options.resident], lowest, options.least))
        floors_w = _total_w(snapshot, held.holds, options, lowest)
        room_w = np.where(short, np.maximum(room_w, floors_w), room_w)
    return Cast(
        residents=Residents(
            job=held.job,
            rank=snapshot.jobs.ints("rank")[held.job],
            gpus=held.count,
        ),
        options=options,
        holds=held.holds,
        room_w=room_w,
        short=short,
        need_w=need_w,
        forced=builder.forced,
        frozen=builder.frozen,
        settable=held.settable,
        now_w=builder.now_w,
        stop_loss=np.where(builder.stoppable & ~builder.forced, builder.stop_loss, np.inf),
        speed=builder.speed,
    )


def _total_w(snapshot: Snapshot, holds: Holds, options: Options, chosen: Bools) -> Floats:
    """Watts per domain when each resident takes the option that is marked (at most one each)."""
    cap_w = np.zeros(int(options.resident.max()) + 1 if len(options) else 0)
    cap_w[options.resident[chosen]] = options.cap_w[chosen]
    acts = np.full(len(cap_w), int(Act.RUN))
    acts[options.resident[chosen]] = options.act[chosen]
    stopped = acts[holds.resident] == int(Act.PREEMPT)
    watts = np.where(stopped, holds.empty_w, holds.fixed_w + holds.steered * cap_w[holds.resident])
    return snapshot.tree.index.under(holds.leaf, watts)


class _Builder:
    """Columns of all residents, from which acts and options are put together."""

    def __init__(self, snapshot: Snapshot, boards: Boards, held: Held, gate: PriceGate) -> None:
        jobs, rows, now_s = snapshot.jobs, held.job, snapshot.now.timestamp()
        self._snapshot, self._boards, self._held = snapshot, boards, held
        self._price = snapshot.energy_price_per_mwh()
        self.now_w = held.now_w
        self.frozen = jobs.bools("frozen")[rows]
        self.blocked = gate.shut[rows]
        self.forced = self.blocked & ~self.frozen
        self._rank = jobs.ints("rank")[rows]
        self._pausable = pause_left(jobs, now_s)[rows]
        self._pause_loss = np.where(self.frozen, 0.0, pause_cost(jobs)[rows])
        self.stop_loss = stop_cost(jobs)[rows]
        old = now_s - jobs.floats("since_s")[rows] >= snapshot.min_run_s
        self.stoppable = np.asarray(old & ~self.frozen & jobs.bools("requeue")[rows], dtype=bool)
        sound = jobs.bools("eligible")[rows] & jobs.bools("wanted")[rows] & held.healthy
        self._may_thaw = np.asarray(sound & ~self.blocked, dtype=bool)
        self.value = jobs.floats("value_per_gpu_h")[rows]
        self.terms = Terms(
            board=boards.row(jobs.curve[rows], held.kind),
            floor_share=jobs.floats("floor_share")[rows],
            rule_share=jobs.floats("rule_cap_share")[rows],
            value=self.value,
            least_w=held.least_w,
        )
        self.speed = boards.table.throughput(self.terms.board, self.now_w)
        self._rungs()

    def _rungs(self) -> None:
        """Levels at which each may run; one whose limits cannot be set has its boards' maximum alone."""
        fixed = ~self._held.settable
        rungs = ladder(self._boards, self.terms, self._price, also_w=self.now_w)
        self._cap_w, self._worth, self._there = rungs.cap_w, rungs.worth, rungs.there
        self._best = rungs.best
        if fixed.any():
            top = single(self._boards, self.terms, self._held.max_w, self._price)
            self._cap_w = np.where(fixed[:, None], top.cap_w, rungs.cap_w)
            self._worth = np.where(fixed[:, None], top.worth, rungs.worth)
            self._there = np.where(fixed[:, None], np.arange(rungs.cap_w.shape[1]) == 0, rungs.there)
            self._best = np.where(fixed, 0, rungs.best)
        self._worth = self._worth * self._held.count[:, None]
        self._low_w = self._cap_w[:, 0]
        off = np.where(self._there, np.abs(self._cap_w - self.now_w[:, None]), np.inf)
        self._now = np.argmin(off, axis=1)

    def reaches(self, domains: Bools) -> Bools:
        """Per resident: holds a GPU under one of these domains."""
        index, holds = self._snapshot.tree.index, self._held.holds
        over = index.ancestors
        leaf = np.any(domains[np.maximum(over, 0)] & (over >= 0), axis=1)
        touched = np.zeros(len(self._held.job), dtype=bool)
        inside = holds.leaf >= 0
        touched[holds.resident[inside & leaf[holds.leaf]]] = True
        return touched

    def acts(self, top_rank: int | None) -> _Acts:
        """What contracts allow."""
        below = np.zeros(len(self._rank), dtype=bool) if top_rank is None else self._rank < top_rank
        best = np.take_along_axis(self._worth, self._best[:, None], axis=1)[:, 0]
        may_pause = self._pausable & (below | (best < 0))
        return _Acts(
            preempt=np.asarray(~self.forced & below & self.stoppable, dtype=bool),
            pause=np.asarray(self.frozen | self.forced | may_pause, dtype=bool),
            emergency=np.zeros(len(self._rank), dtype=bool),
            run=np.asarray(~self.forced & (~self.frozen | self._may_thaw), dtype=bool),
        )

    def in_need(self, acts: _Acts, short: Bools) -> _Acts:
        """With the options that only an unmeetable budget opens: a pause, the least cap. Who must stop
        because not even that fits is the cap step's to say."""
        pause = acts.pause | (acts.run & self._pausable)
        return _Acts(
            preempt=acts.preempt & ~short,
            pause=np.asarray(np.where(short, pause, acts.pause), dtype=bool),
            emergency=np.asarray(short & acts.run & ~self.frozen, dtype=bool),
            run=acts.run,
        )

    def options(self, acts: _Acts, choosy: Bools) -> Options:
        """All options, sorted by resident and watts; `choosy` residents have every level, others the best."""
        rungs = np.arange(self._cap_w.shape[1])
        at_now = rungs == self._now[:, None]
        levels = choosy[:, None] | at_now | (rungs == self._best[:, None])
        keep = _beside(
            acts.preempt, acts.pause, acts.emergency, self._there & acts.run[:, None] & levels
        ).astype(bool)
        zero, least_w = np.zeros(len(self._rank)), self._held.least_w
        resident, column = np.nonzero(keep)
        act = np.array([Act.PREEMPT, Act.PAUSE, Act.EMERGENCY, *[Act.RUN] * len(rungs)], dtype=np.int64)[
            column
        ]
        breach = self._breach() if acts.emergency.any() else zero
        return Options(
            resident=resident,
            act=act,
            cap_w=_beside(zero, least_w, least_w, self._cap_w)[keep],
            worth=_beside(-self.stop_loss, -self._pause_loss, breach, self._worth)[keep],
            least=self._least(resident, act, acts),
            unchanged=self._unchanged(resident, act, column - 3 == self._now[resident], acts),
        )

    def _least(self, resident: Ints, act: Ints, acts: _Acts) -> Bools:
        """The first option of the act by which each stays what it is."""
        stays = np.where(acts.run & ~self.frozen, int(Act.RUN), int(Act.PAUSE))
        mine = act == stays[resident]
        first = np.concatenate([[True], (resident[1:] != resident[:-1]) | ~mine[:-1]])[: len(resident)]
        return np.asarray(mine & first, dtype=bool)

    def _unchanged(self, resident: Ints, act: Ints, at_now: Bools, acts: _Acts) -> Bools:
        """Frozen: frozen. Running below its floor: the emergency, where open. Else the present cap."""
        below = acts.emergency & (self.now_w < self._low_w - SAME_W)
        runs = acts.run & ~self.frozen & ~below
        return np.asarray(
            ((act == int(Act.RUN)) & at_now & runs[resident])
            | ((act == int(Act.EMERGENCY)) & below[resident])
            | ((act == int(Act.PAUSE)) & (self.frozen | ~acts.run)[resident]),
            dtype=bool,
        )

    def _breach(self) -> Floats:
        """Worth of running at the least cap, below the contract."""
        least = single(self._boards, self.terms, self._held.least_w, self._price)
        return self._held.count * (least.worth[:, 0] - BREACH_FACTOR * self.value)


def _beside(*columns: Floats | Bools) -> Floats:
    """Columns and blocks of columns side by side, a row per resident."""
    return np.concatenate([c[:, None] if c.ndim == 1 else c for c in columns], axis=1, dtype=np.float64)

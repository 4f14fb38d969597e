"""The rounds of heterogeneity-aware schedulers: each job its share of time on each kind of GPU.

After Gavel (Narayanan et al., OSDI 2020): an LP gives jobs fractions of time per kind of GPU
(`throughput_lp.py`). Every round the jobs furthest behind their fractions run, and the others are stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from power.arrays import Floats, Ints
from scheduler.decision import Decision, Preempt
from scheduler.model import JobState
from scheduler.placing.pools import NO_POOL, pools_of
from scheduler.placing.queue import type_fits
from scheduler.policy.even_caps import even_caps
from scheduler.policy.queueing import Filling, queue
from scheduler.policy.room import Seats
from scheduler.policy.throughput_lp import shares
from scheduler.snapshot import Snapshot

OBJECTIVES: Final = ("sum", "fair")
Speeds = Mapping[tuple[str, str], float]  # (workload, GPU model): speed in any unit that all share


@dataclass
class MaxThroughput:
    """Priority of a job on a kind of GPU: its fraction of time there over the seconds it had there.

    Higher classes go first; among equals who had least, then the oldest. Within a round of `round_s`, what
    comes free goes to those chosen at its start, then to newcomers. `objective`: `sum` is the work of all
    GPUs together, `fair` the least share of a job (least attained service). On one kind of GPU, or where all
    are equally fast, every job has the same fraction: a fair-share order. A speed that `speeds` does not
    give is 1. Lengths of jobs and prices are not used; all boards at full power.

    Raises:
        ValueError: a round that is not above 0 seconds, an unknown objective, a speed that is negative.
    """

    name: str = "max_throughput"
    round_s: float = 360.0
    objective: str = "sum"
    speeds: Speeds = field(default_factory=dict)
    _began_s: float = field(default=-math.inf, init=False)
    _had_s: dict[str, Floats] = field(default_factory=dict, init=False)  # by job, per kind
    _chosen: dict[str, int] = field(default_factory=dict, init=False)  # to start in this round, on this kind

    def __post_init__(self) -> None:
        if not 0.0 < self.round_s < math.inf:
            raise ValueError(f"round_s must be above 0 seconds, got {self.round_s}")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}")
        if not all(0.0 <= speed < math.inf for speed in self.speeds.values()):
            raise ValueError("speeds must be finite and not negative")

    @property
    def looks_every_s(self) -> float:
        return self.round_s

    def place(self, snapshot: Snapshot, *, time_limit_s: float) -> Decision:
        waiting, preempts = queue(snapshot).tolist(), tuple[Preempt, ...]()
        if snapshot.now.timestamp() >= self._began_s + self.round_s:
            preempts = self._new_round(snapshot, waiting)
        filling, row_of = Filling(snapshot), snapshot.jobs.row_of
        chosen = {row_of[job_id]: kind for job_id, kind in self._chosen.items() if job_id in row_of}
        queued = set(waiting)
        started = [filling.start(row, kinds=(kind,)) for row, kind in chosen.items() if row in queued]
        if all(started) and not preempts:
            for row in waiting:
                if row not in chosen and filling.room.free.any():
                    filling.start(row)
        return filling.decision(preempts)

    def caps(self, snapshot: Snapshot) -> Decision:
        return even_caps(snapshot)

    def _new_round(self, snapshot: Snapshot, waiting: list[int]) -> tuple[Preempt, ...]:
        """Choose who runs; the stops of those who do not."""
        running = _Running.of(snapshot)
        self._count(snapshot, running)
        self._began_s, self._chosen = snapshot.now.timestamp(), {}
        if not waiting:
            return ()
        rows = np.array([*running.seats, *waiting], dtype=np.int64)
        order = self._order(snapshot, rows, fractions(snapshot, rows, self.speeds, self.objective))
        stays, starts = chosen(snapshot, order, running)
        ids = snapshot.jobs.ids
        self._chosen = {ids[row]: kind for row, kind in starts.items()}
        cause = f"others are further behind their share of time in this round of {self.round_s:.0f} s"
        return tuple(Preempt(job_id=ids[row], cause=cause) for row in running.seats if row not in stays)

    def _count(self, snapshot: Snapshot, running: _Running) -> None:
        """Add what each had since the last round began; forget who is gone."""
        jobs, now_s = snapshot.jobs, snapshot.now.timestamp()
        self._had_s = {job_id: had_s for job_id, had_s in self._had_s.items() if job_id in jobs.row_of}
        had_now_s = now_s - np.maximum(jobs.floats("since_s"), self._began_s)
        for row in np.nonzero(running.kind >= 0)[0].tolist():
            had_s = self._had_s.setdefault(jobs.ids[row], np.zeros(len(snapshot.gpus.kinds)))
            had_s[running.kind[row]] += had_now_s[row]

    def _order(self, snapshot: Snapshot, rows: Ints, fraction: Floats) -> list[tuple[int, int]]:
        """(job row, kind) pairs, the most deserving first; those whose fraction is 0 last."""
        jobs, nothing = snapshot.jobs, np.zeros(fraction.shape[1])
        had_s = np.array([self._had_s.get(jobs.ids[row], nothing) for row in rows.tolist()])
        with np.errstate(divide="ignore", invalid="ignore"):
            priority = np.where(fraction > 0.0, fraction / had_s, 0.0)
        job, kind = np.nonzero(fraction >= 0.0)
        oldest, rank = jobs.floats("submitted_s")[rows], jobs.ints("rank")[rows]
        keys = (-fraction[job, kind], oldest[job], had_s.sum(axis=1)[job], -priority[job, kind], -rank[job])
        order = np.lexsort(keys)
        return list(zip(rows[job[order]].tolist(), kind[order].tolist(), strict=True))


@dataclass(frozen=True)
class _Running:
    """`kind` of GPU per job row, -1 where it does not run; the `seats` of those that may be stopped now."""

    kind: Ints
    seats: Mapping[int, Seats]

    @classmethod
    def of(cls, snapshot: Snapshot) -> _Running:
        jobs, gpus = snapshot.jobs, snapshot.gpus
        runs = jobs.in_state(JobState.RUNNING) & ~jobs.bools("frozen") & snapshot.complete
        held = np.nonzero(np.append(runs, False)[gpus.holder])[0]  # the last: NOBODY's
        kind = np.full(len(jobs), -1, dtype=np.int64)
        kind[gpus.holder[held]] = gpus.kind[held]
        old = snapshot.now.timestamp() - jobs.floats("since_s") >= snapshot.min_run_s
        pool = pools_of(snapshot).of_gpu
        sound = np.bincount(gpus.holder[held], pool[held] != NO_POOL, len(jobs)) == jobs.ints("run_gpus")
        found = held[(jobs.bools("requeue") & old & sound)[gpus.holder[held]]]
        where = np.stack([gpus.holder[found], pool[found]], axis=1)
        where, counts = np.unique(where, axis=0, return_counts=True)
        rows, first = np.unique(where[:, 0], return_index=True)
        top_w = np.array([board.max_cap_w for board in gpus.kinds])[kind[rows]]
        parts = zip(np.split(where[:, 1], first[1:]), np.split(counts, first[1:]), strict=True)
        seats = {
            row: Seats(*part, cap_w)
            for row, part, cap_w in zip(rows.tolist(), parts, top_w.tolist(), strict=False)
        }
        return cls(kind, seats)


def fractions(snapshot: Snapshot, rows: Ints, speeds: Speeds, objective: str) -> Floats:
    """Jobs x kinds: the fraction of time that each should have there; -1 where the board does not suit."""
    jobs, gpus = snapshot.jobs, snapshot.gpus
    models = [kind.model for kind in gpus.kinds]
    workloads = [jobs.jobs[row].spec.workload or "" for row in rows.tolist()]
    known = {
        workload: [speeds.get((workload, model), 1.0) for model in models] for workload in set(workloads)
    }
    suits = type_fits(snapshot)[jobs.gpu_type[rows]]
    speed = np.where(suits, np.array([known[workload] for workload in workloads]), -1.0)
    there = np.bincount(gpus.kind[gpus.usable], minlength=len(models)).astype(np.float64)
    wanted = jobs.ints("gpus")[rows]
    if ((speed < 0.0) | (speed == speed.max(axis=1)[:, None])).all():  # no kind is better for anybody
        return np.where(suits, min(1.0, float(there.sum() / wanted.sum())), -1.0)
    alike, which, count = np.unique(
        np.column_stack([speed, wanted]), axis=0, return_inverse=True, return_counts=True
    )
    fair = objective == "fair"
    found = shares(alike[:, :-1], alike[:, -1], count.astype(np.float64), there, fair=fair)
    return np.where(suits, found[which.ravel()], -1.0)


def chosen(
    snapshot: Snapshot, order: list[tuple[int, int]], running: _Running
) -> tuple[set[int], dict[int, int]]:
    """(rows of jobs that stay where they are, kind by row of those that start) in a new round.

    First who, by filling the site in this order as if all who may be stopped were gone. Then where: who runs
    stays, if the others find room beside them; otherwise seats are as they were dealt in order.
    """
    dealt_stays, dealt = _dealt(snapshot, order, running)
    selected = [(row, kind) for row, kind in order if row in dealt_stays or dealt.get(row) == kind]
    first = [pair for pair in selected if running.kind[pair[0]] == pair[1]]
    others = [pair for pair in selected if running.kind[pair[0]] != pair[1]]
    stays, starts = _dealt(snapshot, first + others, running)
    if len(stays) + len(starts) == len(dealt_stays) + len(dealt):
        return stays, starts
    return dealt_stays, dealt


def _dealt(
    snapshot: Snapshot, order: list[tuple[int, int]], running: _Running
) -> tuple[set[int], dict[int, int]]:
    """Seats given out in order; who runs keeps its own while nobody before it took them."""
    filling = Filling(snapshot)
    leaves = np.zeros(len(snapshot.jobs) + 1, dtype=bool)  # the last: NOBODY's
    leaves[list(running.seats)] = True
    filling.room = filling.room.with_more(filling.there, leaves[snapshot.gpus.holder])
    stays, starts = set[int](), dict[int, int]()
    for row, kind in order:
        if row in stays or row in starts:
            continue
        own = running.seats.get(row) if running.kind[row] == kind else None
        if own is not None and filling.room.has(own):
            filling.room.take(own)
            stays.add(row)
        elif filling.start(row, kinds=(kind,)):
            starts[row] = kind
    return stays, starts

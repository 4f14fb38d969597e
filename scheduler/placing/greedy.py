"""The simple answer: most valuable jobs first, each at the least level that earns, then watts where they pay.

No solver. Stands in for one that has no answer in time. Disturbs nobody, except where a budget cannot be met
otherwise; O((jobs + pools) log) and no table of jobs by pools.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from power.arrays import Ints
from scheduler.placing.climb import Climbers, climb
from scheduler.placing.problem import Act, Choice, PlacementProblem
from scheduler.placing.shelves import Shelves
from scheduler.placing.tight import Tight

FALLBACK = "greedy"
ROOM_W = 1e-6


def choose(problem: PlacementProblem, *, fallback: str | None = FALLBACK) -> Choice:
    """Residents give way to their floors, groups enter, then everyone rises into what is left."""
    began_s = time.perf_counter()
    tight = Tight(problem)
    option = _settled(problem, tight)
    starts = _Starts(problem, tight, option)
    starts.admit()
    option, offer = _raised(problem, tight, option, starts)
    return _choice(problem, option, offer, starts, began_s, fallback)


def upper_bound(problem: PlacementProblem) -> float:
    """Money per hour that no answer can beat: every resident at its best, free GPUs to whoever earns most."""
    best = np.full(len(problem.residents), -np.inf)
    np.maximum.at(best, problem.options.resident, problem.options.worth)
    stops = np.zeros(len(problem.residents), dtype=bool)
    stops[problem.options.resident[problem.options.act == int(Act.PREEMPT)]] = True
    pools, groups, holds = problem.pools, problem.groups, problem.holds
    capacity = float(np.sum(pools.free + pools.coming) + np.sum(holds.freed[stops[holds.resident]]))
    rate = np.zeros(len(groups))
    np.maximum.at(rate, problem.offers.group, problem.offers.worth)
    order = np.argsort(-rate, kind="stable")
    wanted = (groups.count * groups.gpus)[order].astype(np.float64)
    given = np.clip(capacity - (np.cumsum(wanted) - wanted), 0.0, wanted)
    return float(np.sum(best) + np.sum(given * rate[order]))


def unchanged_value(problem: PlacementProblem) -> float:
    """Money per hour of residents as they are, without any start."""
    return float(np.sum(problem.options.worth[problem.options.unchanged]))


def _settled(problem: PlacementProblem, tight: Tight) -> Ints:
    """Everyone at the least that keeps it what it is; where even that is too much, the cheapest go down."""
    options, residents = problem.options, problem.residents
    option = np.zeros(len(residents), dtype=np.int64)
    option[options.resident[options.least]] = np.nonzero(options.least)[0]
    tight.load_residents(options.cap_w[option])
    if not (tight.left_w < -ROOM_W).any():
        return option
    kept = np.nonzero(options.act != int(Act.PREEMPT))[0][::-1]
    lowest = option.copy()
    lowest[options.resident[kept]] = kept
    for row in np.argsort(residents.rank, kind="stable").tolist():
        if tight.over(row) and lowest[row] != option[row]:
            tight.move(row, float(options.cap_w[lowest[row]] - options.cap_w[option[row]]))
            option[row] = lowest[row]
    # What a paused job gives up is only there for a higher rank; here nobody is stopped for anybody.
    least = np.nonzero(options.least)[0]
    tight.hold_back(np.maximum(0.0, options.cap_w[least] - options.cap_w[option[options.resident[least]]]))
    return option


@dataclass(frozen=True)
class _Level:
    """The offers of one group on one kind, lowest cap first; `top` is the row for GPUs that cannot be set."""

    kind: int
    rows: range
    top: int | None


class _Starts:
    """Which members start, where, and from which offer they begin to rise."""

    def __init__(self, problem: PlacementProblem, tight: Tight, option: Ints) -> None:
        self._problem, self._tight = problem, tight
        self._shelves = Shelves(problem, tight)
        self._begin = np.searchsorted(problem.offers.group, np.arange(len(problem.groups) + 1))
        self.job: list[int] = []
        self.group: list[int] = []
        self.offer: list[int] = []
        self.last: list[int] = []  # the highest offer that it may rise to
        self.parts: list[tuple[tuple[int, int], ...]] = []

    def admit(self) -> None:
        """Groups in order of merit: rank, worth of a GPU, age; each member where it fits most tightly."""
        groups, offers = self._problem.groups, self._problem.offers
        rate = np.zeros(len(groups))
        np.maximum.at(rate, offers.group, offers.worth)
        for group in np.lexsort((-groups.head_start, -rate, -groups.rank)).tolist():
            members = groups.member[groups.member_start[group] : groups.member_start[group + 1]].tolist()
            for level in self._levels(group):
                while members and self._place(group, level, members[0]):
                    members.pop(0)

    def _levels(self, group: int) -> Iterator[_Level]:
        """By kind of GPU, the one that earns most first."""
        offers = self._problem.offers
        rows = range(int(self._begin[group]), int(self._begin[group + 1]))
        kinds: dict[int, list[int]] = {}
        for row in rows:
            kinds.setdefault(int(offers.kind[row]), []).append(row)
        for kind in sorted(kinds, key=lambda k: -max(offers.worth[row] for row in kinds[k])):
            found = kinds[kind]
            top = next((row for row in found if offers.top[row]), None)
            yield _Level(kind, range(found[0], found[-1] + 1), top)

    def _place(self, group: int, level: _Level, job: int) -> bool:
        groups, offers = self._problem.groups, self._problem.offers
        backfill = bool(groups.backfill[group])
        for settable in (True, False):
            row = level.rows[0] if settable else level.top
            if row is None:
                continue
            parts = self._shelves.take(
                gpus=int(groups.gpus[group]),
                nodes=int(groups.nodes[group]),
                cap_w=float(offers.cap_w[row]),
                kind=level.kind,
                settable=settable,
                backfill=backfill,
            )
            if parts is not None:
                self.job.append(job)
                self.group.append(group)
                self.offer.append(row)
                self.last.append(level.rows[-1] if settable else row)
                self.parts.append(parts)
                return True
        return False


def _raised(problem: PlacementProblem, tight: Tight, option: Ints, starts: _Starts) -> tuple[Ints, Ints]:
    """(option of each resident, offer of each start) once the watts that are left have been given out."""
    options, offers, groups = problem.options, problem.offers, problem.groups
    tight.release()
    # Residents that went below their least stay there; the others rise through the levels at which they run.
    rises = options.least[option] if len(option) else np.zeros(0, dtype=bool)
    last = option.copy()
    runs = np.nonzero(options.act == int(Act.RUN))[0]
    last[options.resident[runs]] = runs
    first_run = option.copy()
    first_run[options.resident[runs[::-1]]] = runs[::-1]
    residents = Climbers(
        now=option,
        first=np.maximum(option, first_run),
        last=np.where(rises, last, option),
        cap_w=options.cap_w,
        worth=options.worth,
        scale=np.ones(len(option)),
    )
    offer = np.array(starts.offer, dtype=np.int64)
    waiting = Climbers(
        now=offer,
        first=offer,
        last=np.array(starts.last, dtype=np.int64),
        cap_w=offers.cap_w,
        worth=offers.worth,
        scale=groups.gpus[np.array(starts.group, dtype=np.int64)].astype(np.float64),
    )
    return climb(tight, residents, waiting, starts.parts)


def _choice(
    problem: PlacementProblem,
    option: Ints,
    offer: Ints,
    starts: _Starts,
    began_s: float,
    fallback: str | None,
) -> Choice:
    group = np.array(starts.group, dtype=np.int64)
    value = float(np.sum(problem.options.worth[option]))
    value += float(np.sum(problem.offers.worth[offer] * problem.groups.gpus[group]))
    parts = [part for start in starts.parts for part in start]
    columns = np.array(parts, dtype=np.int64).reshape(-1, 2)
    counts = np.array([len(start) for start in starts.parts], dtype=np.int64)
    return Choice(
        option=option,
        start_job=np.array(starts.job, dtype=np.int64),
        start_group=group,
        start_cap_w=problem.offers.cap_w[offer],
        part_start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        part_pool=columns[:, 0],
        part_gpus=columns[:, 1],
        value=value,
        bound=max(value, upper_bound(problem)),
        unchanged=unchanged_value(problem),
        domain_price=np.zeros(len(problem.index.names)),
        solve_s=time.perf_counter() - began_s,
        fallback=fallback,
    )

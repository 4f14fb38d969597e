"""Watts that are left go, step by step, where a watt earns most: along the concave hull of every ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.placing.tight import ROOM_W, Tight

CHUNK = 4096  # steps that are tried at once
NO_GAIN = 1e-12


@dataclass(frozen=True, kw_only=True)
class Climbers:
    """Ladders as runs of rows in a table of caps and worths: a climber stands at row `now` and may go to rows
    `first .. last`. `scale` turns the worth of a row into that of the climber."""

    now: Ints
    first: Ints
    last: Ints
    cap_w: Floats
    worth: Floats
    scale: Floats

    def __len__(self) -> int:
        return len(self.now)


@dataclass(frozen=True)
class _Steps:
    climber: Ints
    to: Ints  # row of the ladder's table
    up_w: Floats  # of cap
    per_w: Floats  # money per watt-hour


@dataclass(frozen=True)
class _Edges:
    """Watts per watt of cap that each climber takes, a row per tight domain over it, sorted by climber."""

    begin: Ints
    domain: Ints
    weight: Floats


def climb(
    tight: Tight, residents: Climbers, starts: Climbers, parts: Sequence[tuple[tuple[int, int], ...]]
) -> tuple[Ints, Ints]:
    """(row of each resident, row of each start) at the end; `tight.left_w` is used up."""
    both = _joined(residents, starts)
    weight = np.concatenate([_gpus_of(tight, len(residents)), starts.scale])
    edges = _edges(tight, len(residents), parts)
    at = both.now.copy()
    for hull in (True, False):  # what the hull leaps over may still fit at the end, rung by rung
        steps = _steps(both, at, weight, hull=hull)
        at = _taken(tight, edges, steps, at)
    return at[: len(residents)], at[len(residents) :] - len(residents.cap_w)


def _joined(residents: Climbers, starts: Climbers) -> Climbers:
    shift = len(residents.cap_w)
    return Climbers(
        now=np.concatenate([residents.now, starts.now + shift]),
        first=np.concatenate([residents.first, starts.first + shift]),
        last=np.concatenate([residents.last, starts.last + shift]),
        cap_w=np.concatenate([residents.cap_w, starts.cap_w]),
        worth=np.concatenate([residents.worth, starts.worth]),
        scale=np.concatenate([residents.scale, starts.scale]),
    )


def _gpus_of(tight: Tight, residents: int) -> Floats:
    holds = tight.problem.holds
    return np.maximum(1.0, np.bincount(holds.resident, holds.steered, residents))


def _edges(tight: Tight, residents: int, parts: Sequence[tuple[tuple[int, int], ...]]) -> _Edges:
    holds, pools = tight.problem.holds, tight.problem.pools
    inside = np.nonzero(holds.leaf >= 0)[0]
    start = np.array([i for i, start in enumerate(parts) for _ in start], dtype=np.int64)
    flat = np.array([part for start in parts for part in start], dtype=np.int64).reshape(-1, 2)
    climber = np.concatenate([holds.resident[inside], residents + start])
    over = np.concatenate([tight.over_leaf[holds.leaf[inside]], tight.over_pool[flat[:, 0]]])
    weight = np.concatenate([holds.steered[inside], flat[:, 1] * pools.settable[flat[:, 0]]])
    row, step = np.nonzero(over < len(tight.columns))
    domains = max(1, len(tight.columns))
    key, same = np.unique(climber[row] * domains + over[row, step], return_inverse=True)
    total = np.bincount(same.ravel(), weight[row], len(key)).astype(np.float64)
    begin = np.searchsorted(key // domains, np.arange(residents + len(parts) + 1))
    return _Edges(begin, key % domains, total)


def _steps(climbers: Climbers, at: Ints, weight: Floats, *, hull: bool) -> _Steps:
    """Steps upward that gain, best first; those of one climber in order. Without `hull`: rung by rung."""
    most = int(np.max(climbers.last - at, initial=0))
    found: list[tuple[Ints, Ints, Floats, Floats]] = []
    here, who = at.copy(), np.arange(len(at))
    for _ in range(most):
        rows = np.maximum(here + 1, climbers.first)[:, None] + np.arange(most if hull else 1)
        ahead = rows <= climbers.last[:, None]
        rows = np.minimum(rows, len(climbers.cap_w) - 1)
        gain = (climbers.worth[rows] - climbers.worth[here][:, None]) * climbers.scale[:, None]
        up_w = climbers.cap_w[rows] - climbers.cap_w[here][:, None]
        per_w = gain / np.maximum(up_w * weight[:, None], 1e-6)
        per_w = np.where(ahead & (gain > NO_GAIN), per_w, -np.inf)
        best = np.argmax(per_w, axis=1)[:, None]
        rate = np.take_along_axis(per_w, best, axis=1)[:, 0]
        go = np.nonzero(np.isfinite(rate))[0]
        if not len(go):
            break
        to = np.take_along_axis(rows, best, axis=1)[go, 0]
        up = np.take_along_axis(up_w, best, axis=1)[go, 0]
        found.append((who[go], to, up, rate[go]))
        here[go] = to
        stays = ~np.isfinite(rate)
        here[stays] = climbers.last[stays]
    if not found:
        nobody = np.zeros(0, dtype=np.int64)
        return _Steps(nobody, nobody, np.zeros(0), np.zeros(0))
    climber, to, up, rate = (np.concatenate([f[i] for f in found]) for i in range(4))
    order = np.argsort(-rate, kind="stable")
    return _Steps(climber[order], to[order], up[order], rate[order])


def _taken(tight: Tight, edges: _Edges, steps: _Steps, at: Ints) -> Ints:
    """Take the steps in order as long as their watts are left; who is refused climbs no further."""
    at, closed = at.copy(), np.zeros(len(at), dtype=bool)
    free = edges.begin[steps.climber] == edges.begin[steps.climber + 1]
    _stand(at, steps, np.nonzero(free)[0])
    todo = np.nonzero(~free)[0]
    for begin in range(0, len(todo), CHUNK):
        rows = todo[begin : begin + CHUNK]
        rows = rows[_possible(tight, edges, steps, rows, closed)]
        need = _need_w(tight, edges, steps, rows)
        if (need <= np.maximum(tight.left_w, 0.0) + ROOM_W).all():
            tight.left_w -= need
            _stand(at, steps, rows)
        else:
            _stand(at, steps, _one_by_one(tight, edges, steps, rows, closed))
    return at


def _one_by_one(tight: Tight, edges: _Edges, steps: _Steps, rows: Ints, closed: Bools) -> Ints:
    """The steps among these that fit, in order."""
    row, edge = _spread(edges, steps.climber[rows])
    domains = edges.domain[edge].tolist()
    watts = (edges.weight[edge] * steps.up_w[rows][row]).tolist()
    ends = np.searchsorted(row, np.arange(len(rows)), side="right").tolist()
    left_w, shut = tight.left_w.tolist(), set[int]()
    taken, begin = [], 0
    for step, (climber, end) in enumerate(zip(steps.climber[rows].tolist(), ends, strict=True)):
        span, begin = range(begin, end), end
        if climber in shut:
            continue
        if all(watts[e] <= max(left_w[domains[e]], 0.0) + ROOM_W for e in span):
            for e in span:
                left_w[domains[e]] -= watts[e]
            taken.append(step)
        else:
            shut.add(climber)
    tight.left_w[:] = left_w
    closed[list(shut)] = True
    return rows[np.array(taken, dtype=np.int64)]


def _stand(at: Ints, steps: _Steps, rows: Ints) -> None:
    np.maximum.at(at, steps.climber[rows], steps.to[rows])


def _possible(tight: Tight, edges: _Edges, steps: _Steps, rows: Ints, closed: Bools) -> Bools:
    """Which steps are not under a domain without any watts left; climbers of the others are closed."""
    short = np.append(tight.left_w[:-1], np.inf) <= ROOM_W
    row, edge = _spread(edges, steps.climber[rows])
    hits = short[edges.domain[edge]] & (edges.weight[edge] > 0) & (steps.up_w[rows][row] > 0)
    bad = np.zeros(len(rows), dtype=bool)
    bad[row[hits]] = True
    closed[steps.climber[rows[bad]]] = True
    return np.asarray(~closed[steps.climber[rows]], dtype=bool)


def _need_w(tight: Tight, edges: _Edges, steps: _Steps, rows: Ints) -> Floats:
    row, edge = _spread(edges, steps.climber[rows])
    watts = edges.weight[edge] * steps.up_w[rows][row]
    need: Floats = np.bincount(edges.domain[edge], watts, len(tight.left_w)).astype(np.float64)
    return need


def _spread(edges: _Edges, climber: Ints) -> tuple[Ints, Ints]:
    """(entry of `climber`, row of `edges`) for every edge of each."""
    count = edges.begin[climber + 1] - edges.begin[climber]
    row = np.repeat(np.arange(len(climber)), count)
    first = np.repeat(edges.begin[climber] - (np.cumsum(count) - count), count)
    return row, first + np.arange(int(count.sum()))

"""Split the watts of every power domain over what runs: water-filling down the tree. Pure.

A loaded GPU counts at its cap, so a job on n GPUs takes n times its cap, from each domain above them.
The gain of each job over its cap is cut into concave steps of a few watts, and the steepest are taken first
until a domain is full. That is exact (to the step) where every job hangs under one leaf; where gangs span
domains, prices of the domains from the dual order the steps. `bound` is the Lagrangian dual at the best
prices found: no split beats it, so `bound - value` certifies the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from power.budget import PowerTree
from power.cap_floors import BrokenFloor, Floors, Rows, Shortage, fit_floors
from power.cap_prices import Climb, better_prices, climb, dual_bound, prices_from, score_per_price
from power.cap_steps import Floats, GainGrid, Worth, concave_steps, gain_grid
from power.curve import CapCurve

__all__ = ["BrokenFloor", "CapDemand", "CapSplit", "LimitedBy", "Shortage", "water_fill"]

LimitedBy: TypeAlias = Literal["budget", "price", "nothing"]

_GOOD_ENOUGH = 1e-3  # a relative gap not worth a second pass
_DUAL_ROUNDS = 60
_SAME_W = 1e-3
_FITS_W = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class CapDemand:
    """One running job. Watts are per GPU; all its GPUs get one cap.

    `floor_w` is the least cap its contract allows and `ceiling_w` the most it may have; both count within the
    curve's `min_cap_w .. tdp_w`, and a floor above the ceiling counts as the ceiling.
    `value_per_gpu_h` is money per hour at full speed; the price is electricity plus carbon.
    """

    key: str
    gpu_uuids: tuple[str, ...]
    floor_w: float
    ceiling_w: float
    priority_rank: int  # higher = more important
    curve: CapCurve
    value_per_gpu_h: float
    energy_price_per_mwh: float

    @property
    def worth(self) -> Worth:
        return Worth(self.curve, self.value_per_gpu_h, self.energy_price_per_mwh)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapSplit:
    """A cap for every job, and why it is not higher.

    Jobs in `must_pause` stand at their board minimum and are in no sum: the rest fits once they are gone.
    `limited_by` is `budget` (`binding` names the domain), `price` (more watts cost more than they bring; a
    floor may hold the cap above that point) or `nothing` (at the ceiling). `value` and `bound` are money per
    hour of the jobs that need not pause, with floors as they had to be broken.
    """

    caps_w: dict[str, float]
    limited_by: dict[str, LimitedBy]
    binding: dict[str, str | None]
    broken_floors: tuple[BrokenFloor, ...] = ()
    short: tuple[Shortage, ...] = ()
    must_pause: tuple[str, ...] = ()  # least important first
    value: float = 0.0
    bound: float = 0.0


@dataclass(frozen=True, slots=True)
class _Filled:
    caps_w: list[float]
    blocked_by: list[int]
    value: float
    bound: float


def water_fill(demands: Sequence[CapDemand], tree: PowerTree, available_w: Mapping[str, float]) -> CapSplit:
    """Maximise the value of work less energy within floors, ceilings and every domain's watts.

    Args:
        demands: what runs, oldest first: among equals the youngest gives way first.
        available_w: watts for the GPUs of these demands, by domain; a domain left out has no limit.

    Raises:
        KeyError: a GPU that hangs on no domain.
        ValueError: two demands share a key, one has no GPU, or a figure is not finite.
    """
    _check(demands, available_w)
    parents, rows = _rows(demands, tree, available_w)
    minimums_w = np.array([d.curve.min_cap_w for d in demands])
    ceilings_w = np.array([min(max(d.ceiling_w, d.curve.min_cap_w), d.curve.tdp_w) for d in demands])
    floors_w = np.clip(np.array([d.floor_w for d in demands]), minimums_w, ceilings_w)
    floors = fit_floors(rows, floors_w, minimums_w)
    stays = [row for row in range(len(demands)) if row not in set(floors.paused)]
    if not stays:
        return _named(demands, rows, floors, [], None, _Filled([], [], 0.0, 0.0))
    worths = [demands[row].worth for row in stays]
    grid = gain_grid(worths, floors.caps_w[stays], ceilings_w[stays])
    filled = _fill(worths, grid, floors.caps_w[stays], rows.counts[stays], rows.available_w, parents)
    return _named(demands, rows, floors, stays, (grid, ceilings_w), filled)


def _fill(
    worths: list[Worth],
    grid: GainGrid,
    start_w: Floats,
    counts: Floats,
    available_w: Floats,
    parents: list[int],
) -> _Filled:
    """Everybody at the economic cap where that fits; else climb, twice where one pass is not good enough."""
    nothing = np.zeros(len(parents))
    wanted_w = grid.economic_w
    if (wanted_w @ counts <= available_w + _FITS_W).all():
        bound, _ = dual_bound(grid, nothing, counts, available_w)
        return _filled(
            worths, Climb(wanted_w.tolist(), wanted_w.tolist(), [-1] * len(worths), {}), counts, bound
        )
    steps = concave_steps(grid)
    first = climb(steps, steps.slope, start_w, counts, available_w)
    prices = prices_from(first.refused_at, parents)
    bound, _ = dual_bound(grid, prices, counts, available_w)
    best = _filled(worths, first, counts, bound)
    if bound - best.value <= _GOOD_ENOUGH * abs(bound):
        return best
    lower, prices = better_prices(grid, prices, counts, available_w, value=best.value, rounds=_DUAL_ROUNDS)
    bound = min(bound, lower)
    second = climb(steps, score_per_price(steps, prices, counts), start_w, counts, available_w)
    both = (_filled(worths, first, counts, bound), _filled(worths, second, counts, bound))
    return max(both, key=lambda filled: filled.value)


def _filled(worths: list[Worth], reached: Climb, counts: Floats, bound: float) -> _Filled:
    """The true value of the caps reached; a last step cut short on a curve bent the wrong way is undone."""
    caps_w, value = [], 0.0
    gpus = counts.max(axis=1).tolist()
    for worth, cap_w, whole_w, n in zip(worths, reached.caps_w, reached.whole_w, gpus, strict=True):
        choices = (cap_w,) if cap_w == whole_w else (cap_w, whole_w)
        gain, chosen_w = max((worth.at(choice), choice) for choice in choices)
        caps_w.append(chosen_w)
        value += n * gain
    return _Filled(caps_w, reached.blocked_by, value, max(bound, value))


def _named(
    demands: Sequence[CapDemand],
    rows: Rows,
    floors: Floors,
    stays: list[int],
    ranges: tuple[GainGrid, Floats] | None,
    filled: _Filled,
) -> CapSplit:
    """The answer by job key, with what held each cap down."""
    caps_w = {d.key: d.curve.min_cap_w for d in demands}
    limited_by: dict[str, LimitedBy] = {d.key: "budget" for d in demands}
    binding: dict[str, str | None] = {d.key: None for d in demands}
    binding |= {rows.keys[row]: domain for row, domain in floors.paused.items()}
    for index, row in enumerate(stays):
        assert ranges is not None
        key, cap_w, domain = rows.keys[row], filled.caps_w[index], filled.blocked_by[index]
        caps_w[key] = _whole_milliwatts(cap_w)
        if domain >= 0 and cap_w < ranges[0].economic_w[index] - _SAME_W:
            binding[key] = rows.domains[domain]
        else:
            below = max(cap_w, ranges[0].economic_w[index]) < ranges[1][row] - _SAME_W
            limited_by[key] = "price" if below else "nothing"
    for broken in floors.broken:
        limited_by[broken.key], binding[broken.key] = "budget", broken.domain
    return CapSplit(
        caps_w=caps_w,
        limited_by=limited_by,
        binding=binding,
        broken_floors=floors.broken,
        short=floors.short,
        must_pause=tuple(rows.keys[row] for row in floors.paused),
        value=filled.value,
        bound=filled.bound,
    )


def _rows(
    demands: Sequence[CapDemand], tree: PowerTree, available_w: Mapping[str, float]
) -> tuple[list[int], Rows]:
    """Jobs against domains, parents first; and the column of each domain's parent (-1 for the root)."""
    depth = {tree.root: 0}
    waiting = [name for name in tree.domains if name != tree.root]
    while waiting:
        for name in waiting:
            parent = tree.domains[name].parent
            if parent in depth:
                depth[name] = depth[parent] + 1
        waiting = [name for name in waiting if name not in depth]
    names = sorted(depth, key=lambda name: depth[name])
    column = {name: index for index, name in enumerate(names)}
    counts = np.zeros((len(demands), len(names)))
    for row, demand in enumerate(demands):
        for uuid in demand.gpu_uuids:
            for name in tree.path(uuid):
                counts[row, column[name]] += 1.0
    parents = [column.get(tree.domains[name].parent or "", -1) for name in names]
    limits_w = np.array([available_w.get(name, math.inf) for name in names], dtype=np.float64)
    keys, ranks = tuple(d.key for d in demands), tuple(d.priority_rank for d in demands)
    return parents, Rows(keys, ranks, tuple(names), counts, limits_w)


def _check(demands: Sequence[CapDemand], available_w: Mapping[str, float]) -> None:
    if len({d.key for d in demands}) != len(demands):
        raise ValueError("two demands share a key")
    for demand in demands:
        figures = (demand.floor_w, demand.ceiling_w, demand.value_per_gpu_h, demand.energy_price_per_mwh)
        if not demand.gpu_uuids or not all(math.isfinite(figure) for figure in figures):
            raise ValueError(f"{demand.key}: needs a GPU, and finite floor, ceiling, value and price")
    if any(math.isnan(watts) for watts in available_w.values()):
        raise ValueError("available watts must be numbers")


def _whole_milliwatts(cap_w: float) -> float:
    """Rounded down (but for float dust), so that what is sent never adds up to more."""
    return math.floor(cap_w * 1000 + 1e-6) / 1000

"""Split the watts of every power domain over what runs: water levels from the deepest domain up. Pure.

A loaded GPU counts at its cap, so a job on n GPUs takes n times its cap, from each domain above them.
Everybody gets the economic cap where that fits. Where a domain is scarce, its watts get a price, and each job
the cap up to which a watt is worth it. That is exact (to the grid of caps) where every job hangs under one
scarce domain and curves are concave. Curves that are not count as their upper hull; gangs that span scarce
domains pay the mean of their prices. `bound` is the Lagrangian dual at those prices on the true curves: no
split beats it, so `bound - value` certifies the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from power.arrays import Floats, Ints
from power.cap_floors import FloorRules, Floors, fit_floors
from power.cap_gains import gain_classes
from power.cap_scarce import Holdings
from power.cap_sharing import SAME_W, Wanted, share_out
from power.curve_table import CurveTable
from power.tree_index import OUTSIDE, TreeIndex

__all__ = ["BUDGET", "NOTHING", "PRICE", "CapDemands", "CapSplit", "Holdings", "split_watts"]

BUDGET: Final = 0
PRICE: Final = 1
NOTHING: Final = 2


@dataclass(frozen=True, kw_only=True)
class CapDemands:
    """What runs, one row per job. Watts are per GPU; all GPUs of a job get one cap.

    `floor_w` is the least cap its contract allows and `ceiling_w` the most it may have; both count within the
    curve's `min_cap_w .. tdp_w`, and a floor above the ceiling counts as the ceiling. `rank`: higher = more
    important; among equals the one submitted last gives way first, then the later row. `value_per_gpu_h` is
    money per hour at full speed; `price_per_mwh` is electricity plus carbon.
    """

    curves: CurveTable
    curve: Ints  # row of `curves`
    floor_w: Floats
    ceiling_w: Floats
    value_per_gpu_h: Floats
    price_per_mwh: Floats
    rank: Ints
    submitted_s: Floats
    holdings: Holdings

    def turn(self) -> Ints:
        """Per job: its place among those that give way, the least important first."""
        rows = np.arange(len(self.rank))
        turn = np.empty_like(rows)
        turn[np.lexsort((-rows, -self.submitted_s, self.rank))] = rows
        return turn

    def only(self, rows: Ints) -> CapDemands:
        """Some of the jobs, in this order."""
        row_of = np.full(len(self.rank), OUTSIDE)
        row_of[rows] = np.arange(len(rows))
        kept = self.holdings.only(row_of[self.holdings.job] >= 0)
        return CapDemands(
            curves=self.curves,
            curve=self.curve[rows],
            floor_w=self.floor_w[rows],
            ceiling_w=self.ceiling_w[rows],
            value_per_gpu_h=self.value_per_gpu_h[rows],
            price_per_mwh=self.price_per_mwh[rows],
            rank=self.rank[rows],
            submitted_s=self.submitted_s[rows],
            holdings=replace(kept, job=row_of[kept.job]),
        )

    def worth(self, cap_w: Floats) -> Floats:
        """Money per hour that one GPU of each job brings at a cap."""
        work = self.value_per_gpu_h * self.curves.throughput(self.curve, cap_w)
        worth: Floats = work - self.price_per_mwh / 1e6 * self.curves.power_w(self.curve, cap_w)
        return worth


@dataclass(frozen=True, kw_only=True)
class CapSplit:
    """A cap for every job, and why it is not higher. Domains are columns of the tree, OUTSIDE for none.

    `limited_by` is BUDGET (`binding` is the domain), PRICE (more watts cost more than they bring; a floor may
    hold the cap above that point) or NOTHING (at the ceiling). `floors` says whose floors broke and who must
    pause: those stand at their board minimum and are in no sum. `value`, `least` (everybody at the floors)
    and `bound` are money per hour of the jobs that need not pause, with floors as they had to be broken.
    """

    cap_w: Floats
    limited_by: Ints
    binding: Ints
    floors: Floors
    value: float
    least: float
    bound: float


def split_watts(demands: CapDemands, index: TreeIndex, available_w: Floats) -> CapSplit:
    """Maximise the value of work less energy within floors, ceilings and every domain's watts.

    Args:
        available_w: watts for the GPUs of these demands, per column of the tree; infinite = no limit.

    Raises:
        ValueError: a job without a GPU, a GPU on no domain, or a figure that is not finite.
    """
    _check(demands, available_w)
    least_w, most_w = demands.curves.min_cap_w[demands.curve], demands.curves.tdp_w[demands.curve]
    ceiling_w = np.clip(demands.ceiling_w, least_w, most_w)
    floor_w = np.clip(demands.floor_w, least_w, ceiling_w)
    floors = fit_floors(FloorRules(demands.holdings, index, available_w, floor_w, least_w, demands.turn))
    stays = np.nonzero(floors.stays)[0]
    of = demands if len(stays) == len(floor_w) else demands.only(stays)
    table, of_class = gain_classes(of.curves, of.curve, of.value_per_gpu_h, of.price_per_mwh)
    gpus = of.holdings.total(len(stays))
    wanted = Wanted(table, of_class, gpus, floors.cap_w[stays], ceiling_w[stays], of.holdings)
    shared = share_out(wanted, index, available_w)
    value = float((gpus * of.worth(shared.cap_w)).sum())
    least = min(value, float((gpus * table.hull.at(of_class, wanted.floor_w)).sum()))
    cap_w, limited_by, binding = floors.cap_w.copy(), np.full(len(floor_w), BUDGET), floors.paused_for.copy()
    cap_w[stays] = shared.cap_w
    binding[stays] = np.where(floors.broken_for[stays] == OUTSIDE, shared.binding, floors.broken_for[stays])
    below_top = np.maximum(shared.cap_w, wanted.economic_w) < wanted.ceiling_w - SAME_W
    limited_by[stays] = np.where(binding[stays] != OUTSIDE, BUDGET, np.where(below_top, PRICE, NOTHING))
    return CapSplit(
        cap_w=cap_w,
        limited_by=limited_by,
        binding=binding,
        floors=floors,
        value=value,
        least=least,
        bound=max(shared.bound, value),
    )


def _check(demands: CapDemands, available_w: Floats) -> None:
    figures = (demands.floor_w, demands.ceiling_w, demands.value_per_gpu_h, demands.price_per_mwh)
    if not all(np.isfinite(column).all() for column in figures):
        raise ValueError("floors, ceilings, values and prices must be finite")
    if (demands.holdings.leaf < 0).any():
        raise ValueError("every GPU must hang on a domain")
    if (demands.holdings.total(len(demands.rank)) <= 0).any():
        raise ValueError("every job must have a GPU")
    if np.isnan(available_w).any():
        raise ValueError("available watts must be numbers")

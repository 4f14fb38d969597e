"""When floors do not fit a domain: whose break, how far, and who must pause. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.cap_scarce import Holdings, Parts, Scarce
from power.cap_yielding import Given, give_way
from power.tree_index import OUTSIDE, TreeIndex

_FITS_W = 1e-6  # watts of rounding that are no excess


@dataclass(frozen=True)
class Floors:
    """The caps that everybody starts from.

    `broken_for` and `paused_for` are, per job, the column of the domain that its floor broke for, or that
    cannot carry it at all; OUTSIDE for none. Jobs that must pause stand at their minimum and are in no sum.
    `missing_w` is per column: what a domain lacks to carry everybody at minimum caps.
    """

    cap_w: Floats
    broken_for: Ints
    paused_for: Ints
    missing_w: Floats

    @property
    def stays(self) -> Bools:
        """Jobs that need not pause."""
        rows: Bools = self.paused_for == OUTSIDE
        return rows


@dataclass(frozen=True)
class FloorRules:
    """What the caps must keep: jobs in rows, domains in the tree's columns.

    `turn` numbers the jobs in the order in which they give way; it is only asked for where something must.
    """

    holdings: Holdings
    index: TreeIndex
    available_w: Floats
    floor_w: Floats
    minimum_w: Floats
    turn: Callable[[], Ints]


def fit_floors(rules: FloorRules) -> Floors:
    """Keep every floor that fits; break the others in turn, no further than needed."""
    jobs = len(rules.floor_w)
    nobody = np.full(jobs, OUTSIDE)
    excess_w = rules.holdings.used_w(rules.index, rules.floor_w) - rules.available_w
    if not (excess_w > _FITS_W).any():
        return Floors(rules.floor_w, nobody, nobody, np.zeros(len(excess_w)))
    turn = rules.turn()
    holdings, floor_w, paused_for = rules.holdings, rules.floor_w, nobody
    missing_w = holdings.used_w(rules.index, rules.minimum_w) - rules.available_w
    if (missing_w > _FITS_W).any():
        paused_for = _yielding(rules, holdings, missing_w, rules.minimum_w, turn, whole=True)[1]
        stays = paused_for == OUTSIDE
        holdings, floor_w = holdings.only(stays[holdings.job]), np.where(stays, floor_w, rules.minimum_w)
        excess_w = holdings.used_w(rules.index, floor_w) - rules.available_w
    given, broken_for = _yielding(rules, holdings, excess_w, floor_w - rules.minimum_w, turn, whole=False)
    cap_w = np.maximum(floor_w - given.watts, rules.minimum_w)
    return Floors(cap_w, broken_for, paused_for, np.maximum(missing_w, 0.0))


def _yielding(
    rules: FloorRules, holdings: Holdings, excess_w: Floats, can_give_w: Floats, turn: Ints, *, whole: bool
) -> tuple[Given, Ints]:
    """What each job gives, and the column of the domain it gives it to."""
    scarce = Scarce.of(rules.index, excess_w > _FITS_W, rules.available_w)
    parts = Parts.of(holdings, scarce, len(can_give_w))
    given = give_way(parts, scarce, excess_w[scarce.column], can_give_w, turn, whole=whole)
    columns = np.append(scarce.column, OUTSIDE)
    return given, columns[given.domain]

"""Climb the steepest steps until the domains are full; and what a watt of each domain is worth. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from power.cap_steps import Floats, GainGrid, Steps

_FULL_W = 1e-7
_CLOSED = 1e-5  # a relative gap that is none


@dataclass(frozen=True, slots=True)
class Climb:
    """Caps reached; `blocked_by` is the column of the domain that stopped a job, -1 for none."""

    caps_w: list[float]
    whole_w: list[float]  # the cap before the last step, if that was cut short
    blocked_by: list[int]
    refused_at: dict[int, float]  # domain -> slope of the first step that it had no room for


def climb(steps: Steps, score: Floats, start_w: Floats, counts: Floats, available_w: Floats) -> Climb:
    """Take steps in falling order of `score`; the last of each stopped job is cut to what is left."""
    room_w = (available_w - start_w @ counts).tolist()
    uses = [[(int(d), float(row[d])) for d in np.nonzero(row)[0]] for row in counts]
    caps_w: list[float] = start_w.tolist()
    whole_w = caps_w.copy()
    blocked_by = [-1] * len(caps_w)
    refused_at: dict[int, float] = {}
    order = np.argsort(-score, kind="stable")
    taken = zip(
        steps.job[order].tolist(), steps.length_w[order].tolist(), steps.slope[order].tolist(), strict=True
    )
    for job, length_w, slope in taken:
        if blocked_by[job] >= 0:
            continue
        fits_w, tight = length_w, -1
        for domain, count in uses[job]:
            if room_w[domain] < fits_w * count - _FULL_W:
                fits_w, tight = max(0.0, room_w[domain] / count), domain
        whole_w[job] = caps_w[job]
        caps_w[job] += fits_w
        for domain, count in uses[job]:
            room_w[domain] -= fits_w * count
        if tight >= 0:
            blocked_by[job] = tight
            refused_at.setdefault(tight, slope)
        else:
            whole_w[job] = caps_w[job]
    return Climb(caps_w, whole_w, blocked_by, refused_at)


def prices_from(refused_at: dict[int, float], parents: Sequence[int]) -> Floats:
    """Money per watt-hour of each domain: its refused slope, less what the domains above it already ask.

    `parents` are columns, every parent before its children, -1 at the root.
    """
    path = np.zeros(len(parents))
    own = np.zeros(len(parents))
    for domain, parent in enumerate(parents):
        above = path[parent] if parent >= 0 else 0.0
        own[domain] = max(0.0, refused_at.get(domain, 0.0) - above)
        path[domain] = above + own[domain]
    return own


def dual_bound(grid: GainGrid, prices: Floats, counts: Floats, available_w: Floats) -> tuple[float, Floats]:
    """No split is worth more than this (money per hour); and the watts by which the answer to the prices
    overdraws each domain, which says where they are too low."""
    prices = np.where(np.isfinite(available_w), prices, 0.0)
    gpus = _gpus(counts)
    net = grid.gains - (counts @ prices / gpus)[:, None] * grid.caps_w
    best = (np.maximum(net[:, 1:], net[:, :-1]) + grid.slack).max(axis=1)
    priced = prices > 0
    bound = float(gpus @ best + prices[priced] @ available_w[priced])
    answer_w = np.take_along_axis(grid.caps_w, net.argmax(axis=1)[:, None], axis=1)[:, 0]
    overdrawn_w = answer_w @ counts - available_w
    return bound, np.where(np.isfinite(available_w), overdrawn_w, 0.0)


def better_prices(
    grid: GainGrid, prices: Floats, counts: Floats, available_w: Floats, *, value: float, rounds: int
) -> tuple[float, Floats]:
    """Walk the prices to the least bound: Polyak steps at a `value` reached, halved where they overshoot.

    Returns the bound and its prices.
    """
    bound, overdrawn_w = dual_bound(grid, prices, counts, available_w)
    stride = 1.0
    for _ in range(rounds):
        uphill = np.where((prices > 0) | (overdrawn_w > 0), overdrawn_w, 0.0)
        square = float(uphill @ uphill)
        if square <= 0 or bound - value <= _CLOSED * abs(bound):
            break
        tried = np.maximum(0.0, prices + stride * (bound - value) / square * uphill)
        tried_bound, tried_w = dual_bound(grid, tried, counts, available_w)
        if tried_bound < bound:
            bound, prices, overdrawn_w = tried_bound, tried, tried_w
        else:
            stride /= 2
    return bound, prices


def score_per_price(steps: Steps, prices: Floats, counts: Floats) -> Floats:
    """What a step brings for each unit of scarce watts it takes: the order for gangs that span domains."""
    per_watt = counts @ prices / _gpus(counts)
    least = max(float(per_watt.max()), 1e-12) * 1e-9
    scores: Floats = steps.slope / np.maximum(per_watt, least)[steps.job]
    return scores


def _gpus(counts: Floats) -> Floats:
    gpus: Floats = counts.max(axis=1)  # the root has them all
    return gpus

"""Who gives way where a domain is short: in turn, no further than needed, innermost domains first. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.cap_scarce import Parts, Scarce
from power.tree_index import OUTSIDE

_FITS_W = 1e-6  # watts of rounding that are no excess


@dataclass(frozen=True)
class Given:
    """What each job gave, per GPU, and the short domain (row) that it gave it to; OUTSIDE for none."""

    watts: Floats
    domain: Ints


def give_way(
    parts: Parts, scarce: Scarce, excess_w: Floats, can_give_w: Floats, turn: Ints, *, whole: bool
) -> Given:
    """Cover the excess of each short domain, as far as what jobs can give reaches.

    Args:
        excess_w: per short domain.
        can_give_w: per job, of one GPU.
        turn: per job, its place in the order of giving way.
        whole: a job gives all it can or nothing.
    """
    given = Given(np.zeros(len(can_give_w)), np.full(len(can_give_w), OUTSIDE))
    left_w = excess_w.copy()
    for queue in _queues(parts, scarce, turn):
        can_w = queue.gpus * (can_give_w - given.watts)[queue.job]
        before_w = _before(can_w, queue.domain)
        missing_w = left_w[queue.domain] - before_w
        gives = (missing_w > _FITS_W) & (can_w > 0)
        watts = (can_w if whole else np.minimum(can_w, missing_w))[gives] / queue.gpus[gives]
        if len(watts):
            more_w = np.zeros(len(can_give_w))
            more_w[queue.job[gives]] = watts
            given.watts[:] += more_w
            given.domain[queue.job[gives]] = queue.domain[gives]
            left_w -= parts.used_w(scarce, more_w)
    if whole:
        _take_back(parts, scarce, left_w, given, turn)
    return given


@dataclass(frozen=True)
class _Queue:
    """Jobs by domain and, within each, in turn; no job twice."""

    job: Ints
    domain: Ints
    gpus: Floats


def _queues(parts: Parts, scarce: Scarce, turn: Ints) -> Iterator[_Queue]:
    """The innermost domains first. Domains that share a gang come one after the other: what it gives to one
    helps the next."""
    for depth in range(scarce.above.shape[1] - 1, -1, -1):
        job, domain, gpus = _at_depth(parts, scarce, depth)
        order = np.lexsort((turn[job], domain))
        job, domain, gpus = job[order], domain[order], gpus[order]
        shared = np.bincount(job, minlength=len(turn))[job] > 1
        one_by_one = np.unique(domain[shared])
        apart = ~np.isin(domain, one_by_one)
        for rows in (apart, *(domain == row for row in one_by_one)):
            if rows.any():
                yield _Queue(job[rows], domain[rows], gpus[rows])


def _at_depth(parts: Parts, scarce: Scarce, depth: int) -> tuple[Ints, Ints, Floats]:
    """Jobs under each domain of one depth, and with how many GPUs."""
    domain = scarce.above[parts.home, depth]
    inside = domain >= 0
    keys, which = np.unique(parts.job[inside] * len(scarce) + domain[inside], return_inverse=True)
    gpus = np.bincount(which, parts.gpus[inside], len(keys)).astype(np.float64)
    return keys // len(scarce), keys % len(scarce), gpus


def queue_before(
    parts: Parts, scarce: Scarce, turn: Floats | Ints
) -> Iterator[tuple[Ints, Ints, Floats, Floats]]:
    """For each depth: jobs in turn within each domain, what is theirs, and what is ahead of them."""
    for depth in range(scarce.above.shape[1]):
        job, domain, amount = _at_depth(parts, scarce, depth)
        order = np.lexsort((turn[job], domain))
        job, domain, amount = job[order], domain[order], amount[order]
        yield job, domain, amount, _before(amount, domain)


def _before(watts: Floats, domain: Ints) -> Floats:
    """What those ahead in the same domain's queue can give."""
    total = np.cumsum(watts) - watts
    first = np.searchsorted(domain, domain)
    before: Floats = total - total[first]
    return before


def _take_back(parts: Parts, scarce: Scarce, left_w: Floats, given: Given, turn: Ints) -> None:
    """A later, larger one may have made an earlier one needless: the most important come back first."""
    rows: list[tuple[Ints, Ints, Floats]] = []
    for depth in range(scarce.above.shape[1]):
        job, domain, gpus = _at_depth(parts, scarce, depth)
        gone = given.watts[job] > 0
        rows.append((job[gone], domain[gone], (gpus * given.watts[job])[gone]))
    job, domain, watts = (np.concatenate(column) for column in zip(*rows, strict=True))
    too_much: Bools = left_w[domain] + watts > _FITS_W
    hopeless = np.zeros(len(given.watts), dtype=bool)
    hopeless[job[too_much]] = True
    keep = ~hopeless[job]
    uses: dict[int, list[tuple[int, float]]] = {}
    for j, d, w in zip(job[keep].tolist(), domain[keep].tolist(), watts[keep].tolist(), strict=True):
        uses.setdefault(j, []).append((d, w))
    for j in sorted(uses, key=lambda row: -int(turn[row])):
        if all(left_w[d] + w <= _FITS_W for d, w in uses[j]):
            given.watts[j], given.domain[j] = 0.0, OUTSIDE
            for d, w in uses[j]:
                left_w[d] += w

"""Watts confirmed free under every limit, as they fill up with what `verify` has passed. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from power.arrays import Floats, Ints
from scheduler.snapshot import Snapshot

FITS_W = 1e-6
ROUNDING = 1e-12  # share of a limit by which sums over a hundred thousand GPUs may be off

NOWHERE = -1  # no domain's column


@dataclass(frozen=True)
class Shortage:
    """Per part: the domain (column) that lacks watts for it, NOWHERE where none does; what that domain has
    left, and what the part asks for there."""

    names: Sequence[str]  # of the domains
    domain: Ints
    left_w: Floats
    asks_w: Floats

    def reason(self, part: int) -> str:
        """Why a part is not counted: too few watts for it, or for one before it."""
        domain, left_w = self.names[int(self.domain[part])], float(self.left_w[part])
        asks_w = float(self.asks_w[part])
        if asks_w > left_w:
            return too_few(domain, left_w, asks_w)
        return f"{domain} has {left_w:.0f} W confirmed free, and a more important start lacks watts there"


class Room:
    """`left_w` per domain (columns of the tree's index), `worst_w` per GPU: what each counts at most by now.

    A figure that is not a number fits nowhere.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        gpus, index = snapshot.gpus, snapshot.tree.index
        self._index, self._leaf = index, gpus.leaf
        self._ancestors, self._names = index.ancestors, index.names
        self.worst_w = gpus.accounted_w.copy()
        left_w = snapshot.domain_gpu_w - index.under(gpus.leaf, self.worst_w)
        for column in _unseen(snapshot):  # a GPU that the snapshot does not show could draw anything
            left_w[[above for above in index.ancestors[column] if above >= 0]] = -math.inf
        self.left_w = np.where(np.isnan(left_w), -math.inf, left_w)
        limit_w = np.abs(snapshot.domain_limit_w)
        self.slack_w = FITS_W + ROUNDING * np.where(np.isfinite(limit_w), limit_w, 0.0)

    def take(self, rows: list[int], loads_w: list[float]) -> str | None:
        """Count these GPUs at the worse of what they count now and the new load, all of them or none.

        Returns why they do not fit, or None.
        """
        worst_w = np.maximum(self.worst_w[rows], loads_w)
        extra = self._per_domain(self._leaf[rows].tolist(), (worst_w - self.worst_w[rows]).tolist())
        for column, extra_w in extra.items():
            left_w = float(self.left_w[column])
            if not extra_w <= left_w + self.slack_w[column]:
                return too_few(self._names[column], left_w, extra_w)
        for column, extra_w in extra.items():
            self.left_w[column] -= extra_w
        self.worst_w[rows] = worst_w
        return None

    def take_in_order(self, rows: Ints, loads_w: Floats, part: Ints, parts: int) -> Shortage:
        """Count parts of several GPUs at their loads, the first part first; no GPU is named twice.

        `part` says to which part (0 .. parts - 1) each of `rows` belongs. Where a domain cannot carry all,
        the parts up to the first that does not fit are counted. Returns what the others lack.
        """
        extra_w = np.maximum(self.worst_w[rows], loads_w) - self.worst_w[rows]
        extra_w = np.where(np.isnan(extra_w), math.inf, extra_w)
        leaf, stays = self._leaf[rows], np.ones(parts, dtype=bool)
        short = Shortage(self._names, np.full(parts, NOWHERE), np.zeros(parts), np.zeros(parts))
        touched = self._index.under(leaf, np.ones(len(leaf))) > 0
        full = np.nonzero(touched & (self._index.under(leaf, extra_w) > self.left_w + self.slack_w))[0]
        for column in full[np.argsort(-self._index.depth[full], kind="stable")].tolist():
            here = (self._ancestors[leaf] == column).any(axis=1) & stays[part]
            asks_w = np.bincount(part[here], extra_w[here], minlength=parts)
            left_w = float(self.left_w[column])
            late = np.cumsum(asks_w) > left_w + self.slack_w[column]
            late &= np.bincount(part[here], minlength=parts) > 0
            left_w -= float(asks_w[stays & ~late].sum())
            at = np.nonzero(late & stays)[0]
            short.domain[at], short.left_w[at], short.asks_w[at] = column, left_w, asks_w[at]
            stays[at] = False
        taken = stays[part]
        self.left_w = self.left_w - self._index.under(leaf[taken], extra_w[taken])
        self.worst_w[rows[taken]] = np.maximum(self.worst_w[rows[taken]], loads_w[taken])
        return short

    def _per_domain(self, leaves: list[int], amounts: list[float]) -> dict[int, float]:
        """Sums in every domain over the GPUs, the nearest first."""
        own: dict[int, float] = {}
        for leaf, amount in zip(leaves, amounts, strict=True):
            own[leaf] = own.get(leaf, 0.0) + amount
        total: dict[int, float] = {}
        for leaf, amount in own.items():
            for column in self._ancestors[leaf].tolist():
                if column >= 0:
                    total[column] = total.get(column, 0.0) + amount
        return total


def too_few(domain: str, left_w: float, extra_w: float) -> str:
    """Why so many watts more do not fit."""
    return f"{domain} has {max(left_w, 0.0):.0f} W confirmed free, {extra_w - left_w:.0f} W too few for it"


def _unseen(snapshot: Snapshot) -> set[int]:
    """Columns of the domains on which GPUs hang that the snapshot does not show."""
    gpus, index = snapshot.gpus, snapshot.tree.index
    each_once = len(gpus.row_of) == len(gpus)
    if each_once and np.count_nonzero(gpus.leaf >= 0) == len(index.gpu_uuids):
        return set()
    hangs_on = zip(index.gpu_uuids, index.leaf.tolist(), strict=True)
    return {leaf for uuid, leaf in hangs_on if uuid not in gpus.row_of}

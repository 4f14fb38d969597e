"""The tree of power domains compiled to arrays: sums over a hundred thousand GPUs in a millisecond.

Domains are columns, parents before their children, the root at 0. GPUs are rows in the tree's own order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from power.arrays import Floats, Ints

OUTSIDE = -1  # the parent of the root, or the leaf of a GPU that hangs on no domain


@dataclass(frozen=True)
class TreeIndex:
    """Names and columns of the domains, and who is under whom."""

    names: tuple[str, ...]
    parent: Ints  # column of the parent, OUTSIDE at the root
    base_under_w: Floats  # base loads of the domain and of everything below it
    pue: Floats  # what its meter shows for each watt under it
    gpu_uuids: tuple[str, ...]
    leaf: Ints  # per GPU: the column of the domain that it hangs on

    @cached_property
    def column(self) -> Mapping[str, int]:
        """Column by name."""
        return {name: column for column, name in enumerate(self.names)}

    @cached_property
    def gpu_row(self) -> Mapping[str, int]:
        """Row by UUID."""
        return {uuid: row for row, uuid in enumerate(self.gpu_uuids)}

    @cached_property
    def depth(self) -> Ints:
        """Steps below the root."""
        depth = np.zeros(len(self.names), dtype=np.int64)
        for column in range(1, len(self.names)):
            depth[column] = depth[self.parent[column]] + 1
        return depth

    @cached_property
    def by_depth(self) -> tuple[Ints, ...]:
        """Columns of each depth, the root's first."""
        return tuple(np.nonzero(self.depth == depth)[0] for depth in range(int(self.depth.max()) + 1))

    @cached_property
    def ancestors(self) -> Ints:
        """domains x (depth + 1): the domain itself, its parent, ..., the root, then OUTSIDE."""
        rows = np.full((len(self.names), len(self.by_depth)), OUTSIDE, dtype=np.int64)
        rows[:, 0] = np.arange(len(self.names))
        for step in range(1, rows.shape[1]):
            above = rows[:, step - 1]
            rows[:, step] = np.where(above >= 0, self.parent[above], OUTSIDE)
        return rows

    def path(self, column: int) -> tuple[str, ...]:
        """Names from the domain up to the root."""
        return tuple(self.names[above] for above in self.ancestors[column] if above >= 0)

    def roll_up(self, own: Floats) -> Floats:
        """What hangs directly on each domain (domains, or domains x anything) -> with everything below it."""
        total = np.array(own, dtype=np.float64)
        for columns in reversed(self.by_depth[1:]):
            np.add.at(total, self.parent[columns], total[columns])
        return total

    def under(self, leaf: Ints, amount: Floats) -> Floats:
        """Sums per domain of an amount per GPU, whose domains are `leaf`; those OUTSIDE are left out."""
        # OUTSIDE comes first.
        own: Floats = np.bincount(leaf + 1, amount, len(self.names) + 1)[1:].astype(np.float64)
        return self.roll_up(own)

    def available_w(self, limits_w: Floats) -> Floats:
        """Watts that the limits leave for GPUs, after overhead and all base loads (may be negative)."""
        return limits_w / self.pue - self.base_under_w

    def metered_w(self, gpu_w: Floats) -> Floats:
        """What each domain's meter shows when the GPUs under it take `gpu_w` (per domain)."""
        return (gpu_w + self.base_under_w) * self.pue

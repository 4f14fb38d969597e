"""The domains that cannot carry what the jobs under them want: a small tree of their own. Pure.

Caps only fall from what jobs want, so a domain that could carry that never binds and needs no price.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.tree_index import OUTSIDE, TreeIndex

FITS_W = 1e-7  # watts of rounding that are no excess


@dataclass(frozen=True)
class Holdings:
    """What each job holds: `gpus` of `job` under `leaf`; a job has as many entries as it needs."""

    job: Ints
    leaf: Ints  # column of the tree
    gpus: Floats

    def total(self, jobs: int) -> Floats:
        """GPUs of each job."""
        gpus: Floats = np.bincount(self.job, self.gpus, jobs).astype(np.float64)
        return gpus

    def used_w(self, index: TreeIndex, watts: Floats) -> Floats:
        """Per column of the tree: the sum of `watts` (per job, of one GPU)."""
        return index.under(self.leaf, self.gpus * watts[self.job])

    def only(self, entries: Bools) -> Holdings:
        """Some of the entries."""
        return Holdings(self.job[entries], self.leaf[entries], self.gpus[entries])


@dataclass(frozen=True)
class Scarce:
    """Rows are scarce domains, parents before their children; there may be several without a parent."""

    column: Ints  # in the tree
    parent: Ints  # row, OUTSIDE where no scarce domain is above
    available_w: Floats
    home: Ints  # per column of the tree: the nearest scarce domain at or above it, else OUTSIDE

    @classmethod
    def of(cls, index: TreeIndex, scarce: Bools, available_w: Floats) -> Scarce:
        """`scarce` and `available_w` are per column of the tree."""
        column = np.nonzero(scarce)[0]
        home = np.full(len(scarce) + 1, OUTSIDE, dtype=np.int64)  # one more: what OUTSIDE points at
        home[column] = np.arange(len(column))
        for columns in index.by_depth[1:]:
            home[columns] = np.where(scarce[columns], home[columns], home[index.parent[columns]])
        above = index.parent[column]
        return cls(column, np.where(above >= 0, home[above], OUTSIDE), available_w[column], home[:-1])

    def __len__(self) -> int:
        return len(self.column)

    @cached_property
    def depth(self) -> Ints:
        """Scarce domains above each."""
        depth = np.zeros(len(self), dtype=np.int64)
        walker = self.parent
        while (walker >= 0).any():
            depth += walker >= 0
            walker = np.where(walker >= 0, self.parent[walker], OUTSIDE)
        return depth

    @cached_property
    def above(self) -> Ints:
        """rows x depths: the domain of each depth on the way down to a row, itself included, else OUTSIDE."""
        table = np.full((len(self), int(self.depth.max(initial=0)) + 1), OUTSIDE, dtype=np.int64)
        walker = np.arange(len(self))
        while (walker >= 0).any():
            rows = np.nonzero(walker >= 0)[0]
            table[rows, self.depth[walker[rows]]] = walker[rows]
            walker = np.where(walker >= 0, self.parent[walker], OUTSIDE)
        return table

    def path_sums(self, own: Floats) -> Floats:
        """Per row: the sum over the domain and all above it."""
        total: Floats = np.append(own, 0.0)[self.above].sum(axis=1)
        return total

    def path_most(self, own: Floats) -> Floats:
        """Per row: the most among the domain and all above it, at least 0."""
        most: Floats = np.append(np.maximum(own, 0.0), 0.0)[self.above].max(axis=1)
        return most

    def roll_up(self, own: Floats) -> Floats:
        """Per row: its own and everything below it."""
        inside = self.above >= 0
        every = np.broadcast_to(own[:, None], inside.shape)
        return np.bincount(self.above[inside], every[inside], len(self)).astype(np.float64)


@dataclass(frozen=True)
class Parts:
    """Jobs cut along the scarce domains: `gpus` of `job` whose nearest scarce domain is `home`.

    A job is in one part where all its GPUs have one home. GPUs under no scarce domain are in no part.
    """

    job: Ints
    home: Ints
    gpus: Floats
    spans: Bools  # per job: its GPUs have several homes

    @classmethod
    def of(cls, holdings: Holdings, scarce: Scarce, jobs: int) -> Parts:
        home = scarce.home[holdings.leaf]
        least, most = np.full(jobs, len(scarce)), np.full(jobs, OUTSIDE)
        np.minimum.at(least, holdings.job, home)
        np.maximum.at(most, holdings.job, home)
        spans = least < most
        whole = np.nonzero(~spans & (most >= 0))[0]
        part = spans[holdings.job] & (home >= 0)
        width = len(scarce) + 1
        keys, which = np.unique(holdings.job[part] * width + home[part], return_inverse=True)
        gpus = np.bincount(which, holdings.gpus[part], len(keys))
        return cls(
            job=np.concatenate([whole, keys // width]),
            home=np.concatenate([most[whole], keys % width]),
            gpus=np.concatenate([holdings.total(jobs)[whole], gpus]),
            spans=spans,
        )

    def only(self, rows: Bools) -> Parts:
        """Some of the parts."""
        return Parts(self.job[rows], self.home[rows], self.gpus[rows], self.spans)

    def used_w(self, scarce: Scarce, watts: Floats) -> Floats:
        """Per scarce domain: the sum of `watts` (per job, of one GPU)."""
        own = np.bincount(self.home, self.gpus * watts[self.job], len(scarce))
        return scarce.roll_up(own.astype(np.float64))

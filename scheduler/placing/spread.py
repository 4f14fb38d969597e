"""How a gang is spread over several pools: near together, in few pieces, whole nodes left whole."""

from __future__ import annotations

import numpy as np

from power.arrays import Ints
from power.tree_index import TreeIndex
from scheduler.placing.problem import ANY_SPLIT


def spread(
    index: TreeIndex, leaf: Ints, left: Ints, pools: Ints, *, gpus: int, nodes: int
) -> tuple[Ints, Ints] | None:
    """(pools, GPUs in each) of a gang; None where there is no room. `leaf` and `left` are per pool.

    Equal parts go where they fill most tightly; a gang that may be split in any way goes to the emptiest
    pools. All of it is under the lowest domain that has room: one rack, else one row, ...
    """
    part = 1 if nodes == ANY_SPLIT else gpus // nodes
    need = gpus if nodes == ANY_SPLIT else nodes
    takes = left[pools] if nodes == ANY_SPLIT else np.ones(len(pools), dtype=np.int64)
    over = index.ancestors[leaf[pools]]
    for step in range(over.shape[1]):
        inside = over[:, step] >= 0
        room = np.bincount(over[inside, step], takes[inside], minlength=1)
        enough = np.nonzero(room >= need)[0]
        if len(enough):
            near = np.nonzero(over[:, step] == enough[np.argmin(room[enough])])[0]
            emptiest_first = -takes[near] if nodes == ANY_SPLIT else left[pools[near]]
            near = near[np.argsort(emptiest_first, kind="stable")]
            given = np.clip(need - (np.cumsum(takes[near]) - takes[near]), 0, takes[near])
            rows = np.nonzero(given)[0]
            return pools[near[rows]], given[rows] * part
    return None


def nearest(index: TreeIndex, leaf: Ints) -> int:
    """Steps from these domains up to the lowest one over all of them (columns of one depth)."""
    over = index.ancestors[leaf]
    same = np.nonzero((over == over[0]).all(axis=0) & (over[0] >= 0))[0]
    return int(same[0]) if len(same) else over.shape[1]

"""From the root down: what the domains over each domain say, in one pass over the tree."""

from __future__ import annotations

import numpy as np

from power.arrays import Bools, Floats
from power.tree_index import TreeIndex


def under_any(index: TreeIndex, domains: Bools) -> Bools:
    """Per domain: itself or one over it is among `domains`."""
    found = domains.copy()
    if domains.any():
        for columns in index.by_depth[1:]:
            found[columns] |= found[index.parent[columns]]
    return found


def least_over(index: TreeIndex, values: Floats) -> Floats:
    """Per domain: the least of its own value and of those over it."""
    least = values.copy()
    for columns in index.by_depth[1:]:
        least[columns] = np.minimum(least[columns], least[index.parent[columns]])
    return least

"""Where the GPUs of a made-up site are, and who holds them: nodes of eight in racks in rows, nearly full."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from power.arrays import Floats, Ints
from power.tree_index import TreeIndex

NODE_GPUS = 8
RACK_NODES = 8
RUNNING = np.array([0.6526, 0.0147, 0.0707, 0.2130, 0.0142, 0.0288, 0.0060])
SIZES = np.array([1, 2, 4, 8, 16, 32, 64])


@dataclass(frozen=True)
class Site:
    """Nodes with their kind and the tree over them: site, rows, racks, nodes."""

    index: TreeIndex
    leaf: Ints
    rack: Ints
    row: Ints
    kind: Ints


@dataclass(frozen=True)
class Runs:
    """Running jobs and, per (job, node), how many GPUs they hold."""

    gpus: Ints
    job: Ints
    node: Ints
    held: Ints


def site_of(gpus: int, chance: np.random.Generator) -> Site:
    nodes = max(1, gpus // NODE_GPUS)
    racks = -(-nodes // RACK_NODES)
    rows = min(8, max(1, racks // 8))
    rack_of = np.arange(nodes) // RACK_NODES
    row_of_rack = np.arange(racks) * rows // racks
    parent = np.concatenate([[-1], np.zeros(rows, int), 1 + row_of_rack, 1 + rows + rack_of]).astype(np.int64)
    names = tuple(f"d{column}" for column in range(len(parent)))
    quiet = np.zeros(len(parent))
    index = TreeIndex(names, parent, quiet, quiet + 1.0, (), np.zeros(0, dtype=np.int64))
    kind = (chance.random(racks) < 0.3).astype(np.int64)[rack_of]
    leaf = 1 + rows + racks + np.arange(nodes)
    return Site(index, leaf, 1 + rows + rack_of, 1 + row_of_rack[rack_of], kind)


def runs_on(site: Site, running: int, held_share: float, chance: np.random.Generator) -> Runs:
    """Fill the site at random, then let jobs end until the wanted share is held."""
    nodes = len(site.leaf)
    wanted = held_share * nodes * NODE_GPUS
    sizes = SIZES[nodes * NODE_GPUS >= 8 * SIZES]
    weights = _tilted(RUNNING[: len(sizes)], sizes, wanted / max(1, running))
    drawn = chance.choice(sizes, size=int(1.5 * running) + 8, p=weights)
    at = 0
    node_order = chance.permutation(nodes)
    held: list[tuple[int, int, int]] = []
    kept: list[int] = []
    open_nodes: dict[int, list[int]] = {left: [] for left in range(1, NODE_GPUS)}
    for size in drawn:
        whole, part = divmod(int(size), NODE_GPUS)
        spot = next((left for left in range(part, NODE_GPUS) if part and open_nodes[left]), None)
        need = whole + (1 if part and spot is None else 0)
        if at + need > nodes or len(kept) >= int(1.15 * running):
            continue
        job = len(kept)
        kept.append(int(size))
        for node in node_order[at : at + whole]:
            held.append((job, int(node), NODE_GPUS))
        at += whole
        if part:
            if spot is None:
                node, left = int(node_order[at]), NODE_GPUS
                at += 1
            else:
                node, left = open_nodes[spot].pop(), spot
            held.append((job, node, part))
            if left > part:
                open_nodes[left - part].append(node)
    return _thinned(np.array(kept), np.array(held).reshape(-1, 3), wanted, running, chance)


def _tilted(weights: Floats, sizes: Ints, mean: float) -> Floats:
    """Weights times a power of the size, such that the mean size is `mean`."""
    low, high = -4.0, 4.0
    for _ in range(60):
        power = (low + high) / 2
        tilted = weights * sizes.astype(float) ** power
        tilted /= tilted.sum()
        low, high = (power, high) if (tilted * sizes).sum() < mean else (low, power)
    return tilted


def _thinned(kept: Ints, held: Ints, wanted: float, running: int, chance: np.random.Generator) -> Runs:
    order = chance.permutation(len(kept))
    stays = np.zeros(len(kept), dtype=bool)
    ample = np.cumsum(kept[order]) <= wanted
    stays[order[ample][:running]] = True
    number = np.cumsum(stays) - 1
    rows = held[stays[held[:, 0]]]
    return Runs(kept[stays], number[rows[:, 0]], rows[:, 1], rows[:, 2])

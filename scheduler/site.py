"""From the configured domains and the GPUs that were found to the tree of power domains."""

from __future__ import annotations

import math
from collections.abc import Sequence

from power.budget import Domain, InvalidTree, PowerTree
from power.device import GpuInfo
from scheduler.config import DomainConfig


def build_tree(domains: Sequence[DomainConfig], gpus: Sequence[GpuInfo]) -> PowerTree:
    """Every GPU on exactly one domain: by its index, or on the one leaf that names none.

    Raises:
        InvalidTree: an index that no GPU has, a GPU left over, or two leaves that want the rest.
    """
    by_index = {gpu.index: gpu.uuid for gpu in gpus}
    parents = {d.parent for d in domains}
    takes_rest = [d.name for d in domains if d.gpus is None and d.name not in parents]
    if len(takes_rest) > 1:
        raise InvalidTree(f"only one leaf may leave out `gpus`: {', '.join(takes_rest)}")
    named = {index for d in domains for index in (d.gpus or ())}
    missing = sorted(named - by_index.keys())
    if missing:
        raise InvalidTree(
            f"GPU index {missing[0]} is in `domains`, but this machine has {len(by_index)} GPUs"
        )
    rest = tuple(uuid for index, uuid in by_index.items() if index not in named)
    if rest and not takes_rest:
        raise InvalidTree(f"{len(rest)} GPUs are in no domain; name them, or leave out `gpus` on one leaf")
    return PowerTree.of(
        Domain(
            name=d.name,
            parent=d.parent,
            base_load_w=d.base_load_w,
            pue=d.pue,
            limit_w=math.inf if d.limit_w is None else d.limit_w,
            gpu_uuids=tuple(by_index[i] for i in d.gpus)
            if d.gpus is not None
            else (rest if d.name in takes_rest else ()),
        )
        for d in domains
    )

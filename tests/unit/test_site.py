"""Every GPU on exactly one domain."""

from __future__ import annotations

import pytest

from power.budget import InvalidTree
from power.device import GpuInfo
from scheduler.config import DomainConfig
from scheduler.site import build_tree


def boards(count: int) -> list[GpuInfo]:
    return [
        GpuInfo(
            uuid=f"gpu-{i}",
            index=i,
            model="A40",
            min_cap_w=100,
            max_cap_w=300,
            default_cap_w=300,
            memory_bytes=0,
        )
        for i in range(count)
    ]


def domains(drawing: str) -> list[DomainConfig]:
    """`domains("site; left<site: 0 1; right<site")`: name<parent: GPU indices."""
    rows = []
    for part in drawing.split(";"):
        head, _, indices = part.partition(":")
        name, _, parent = head.strip().partition("<")
        gpus = [int(i) for i in indices.split()] if indices else None
        rows.append(DomainConfig(name=name, parent=parent or None, gpus=gpus))
    return rows


def test_the_leaf_without_indices_takes_the_rest() -> None:
    tree = build_tree(domains("site; left<site: 0 1; right<site"), boards(5))
    assert tree.domains["left"].gpu_uuids == ("gpu-0", "gpu-1")
    assert tree.domains["right"].gpu_uuids == ("gpu-2", "gpu-3", "gpu-4")
    assert tree.path("gpu-4") == ("right", "site")


@pytest.mark.parametrize(
    ("drawing", "mistake"),
    [
        ("site; left<site: 0 7", "GPU index 7"),
        ("site; left<site: 0", "1 GPUs are in no domain"),
        ("site; left<site; right<site", "only one leaf may leave out"),
        ("site; left<site: 0 1; right<site: 1", "hangs on"),
        ("site; left<moon: 0 1", "unknown parent moon"),
    ],
)
def test_a_tree_that_cannot_be_is_refused(drawing: str, mistake: str) -> None:
    with pytest.raises(InvalidTree, match=mistake):
        build_tree(domains(drawing), boards(2))


def test_overhead_reaches_the_tree() -> None:
    site = [DomainConfig(name="site", pue=1.25), DomainConfig(name="node", parent="site")]
    assert build_tree(site, boards(1)).domains["site"].pue == 1.25

"""Clusters to simulate: groups of like nodes in racks and rows, from a TOML file or from a few figures."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError, model_validator

from power.budget import Domain, PowerTree
from power.curve import board_caps_w
from power.device import GpuInfo
from scheduler.config import Section
from scheduler.simulation.model import BadInput, Cluster

SITE: Final = "site"
NODE_BASE_LOAD_W: Final = 1500.0
"""An eight-GPU server without its GPUs, about: the tenth percentile of what Acme's A100 servers draw
(InternLM/AcmeTrace)."""

MOST_GPUS: Final = 1_000_000
UNKNOWN_MEMORY: Final = 0

Watts = Annotated[float, Field(gt=0, le=1e12)]


class NodeGroup(Section):
    """Like nodes in racks and rows of their own. Caps default to what boards of the model ship with."""

    model: str = Field(min_length=1, description="the board's own name, such as NVIDIA H100")
    gpus: int = Field(ge=1, le=MOST_GPUS, description="of the whole group; the last node may have fewer")
    per_node: int = Field(8, ge=1, le=1024)
    nodes_per_rack: int = Field(8, ge=1)
    racks_per_row: int = Field(16, ge=1)
    base_load_w: float = Field(NODE_BASE_LOAD_W, ge=0, description="of each node, without its GPUs")
    min_cap_w: Watts | None = None
    max_cap_w: Watts | None = None

    @model_validator(mode="after")
    def _caps_make_a_range(self) -> NodeGroup:
        least_w, most_w = self.caps_w
        if least_w > most_w:
            raise ValueError(f"min_cap_w {least_w:g} is above max_cap_w {most_w:g} of {self.model}")
        return self

    @property
    def caps_w(self) -> tuple[float, float]:
        """(least, highest)."""
        least_w, most_w, _ = board_caps_w(self.model)
        return self.min_cap_w or least_w, self.max_cap_w or most_w


class ClusterPlan(Section):
    """A cluster file. Domains: `site` over `row-0` ... over `rack-0` ... over `node-0` ..., numbered through.

    `limits_w` bounds domains by name or pattern (`rack-*`); where several match, the lowest holds.
    """

    name: str = ""
    pue: float = Field(1.0, ge=1, le=10, description="what the site's meter shows per watt under it")
    nodes: list[NodeGroup] = Field(min_length=1)
    limits_w: dict[str, Watts] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _size(self) -> ClusterPlan:
        total = sum(group.gpus for group in self.nodes)
        if total > MOST_GPUS:
            raise ValueError(f"{total} GPUs are more than {MOST_GPUS}")
        return self


def load_cluster(path: Path) -> Cluster:
    """Read a cluster file; see `examples/clusters/`.

    Raises:
        BadInput: names the file and every mistake in it.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not valid TOML: {error}") from error
    return _cluster({"name": path.stem} | values, source=str(path))


def uniform_cluster(
    *,
    gpus: int,
    model: str,
    per_node: int = 8,
    nodes_per_rack: int = 8,
    base_load_w: float = NODE_BASE_LOAD_W,
    pue: float = 1.0,
) -> Cluster:
    """`gpus` boards of one model. `base_load_w` is of each node without its GPUs.

    Raises:
        BadInput: names every figure that is out of range.
    """
    group = {
        "model": model,
        "gpus": gpus,
        "per_node": per_node,
        "nodes_per_rack": nodes_per_rack,
        "base_load_w": base_load_w,
    }
    values = {"name": f"{gpus} x {model}", "pue": pue, "nodes": [group]}
    return _cluster(values, source="the uniform cluster")


def largest_gang(cluster: Cluster) -> int:
    """GPUs that one job can hold at most: a gang runs on boards of one model with one range of caps."""
    kinds = Counter((board.model, board.min_cap_w, board.max_cap_w) for board in cluster.boards)
    return max(kinds.values())


def quiet_w(tree: PowerTree, domain: str) -> float:
    """What the domain's meter shows for base loads and overhead alone: less than it no limit can ask."""
    return tree.base_load_under_w(domain) * tree.domains[domain].pue


def _cluster(values: dict[str, Any], *, source: str) -> Cluster:
    try:
        plan = ClusterPlan.model_validate(values)
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors()]
        raise _invalid(source, mistakes) from error
    boards = tuple(_boards(plan))
    domains = [Domain(name=SITE, pue=plan.pue), *_domains(plan, boards)]
    mistakes = [
        f"limits_w.{pattern}: there is no such domain; there are {SITE}, row-*, rack-* and node-*"
        for pattern in plan.limits_w
        if not any(fnmatchcase(domain.name, pattern) for domain in domains)
    ]
    tree = PowerTree.of(_limited(domain, plan.limits_w) for domain in domains)
    mistakes += [
        f"limits_w: {name} may draw {domain.limit_w:g} W, but base loads and overhead alone are {need_w:g} W"
        for name, domain in tree.domains.items()
        if domain.limit_w <= (need_w := quiet_w(tree, name))
    ]
    if mistakes:
        raise _invalid(source, mistakes)
    return Cluster(name=plan.name, tree=tree, boards=boards)


def _invalid(source: str, mistakes: list[str]) -> BadInput:
    return BadInput(
        f"{source} has {len(mistakes)} mistake(s):\n" + "\n".join(f"  {what}" for what in mistakes)
    )


def _boards(plan: ClusterPlan) -> Iterator[GpuInfo]:
    index = 0
    for group in plan.nodes:
        least_w, most_w = group.caps_w
        for _ in range(group.gpus):
            yield GpuInfo(
                uuid=f"GPU-{index:06}",
                index=index,
                model=group.model,
                min_cap_w=least_w,
                max_cap_w=most_w,
                default_cap_w=most_w,
                memory_bytes=UNKNOWN_MEMORY,
            )
            index += 1


def _domains(plan: ClusterPlan, boards: tuple[GpuInfo, ...]) -> Iterator[Domain]:
    """Rows, racks and nodes; every group begins a new row."""
    rows = racks = nodes = gpus = 0
    for group in plan.nodes:
        first_rack, first_node, end = racks, nodes, gpus + group.gpus
        while gpus < end:
            if (nodes - first_node) % group.nodes_per_rack == 0:
                if (racks - first_rack) % group.racks_per_row == 0:
                    yield Domain(name=f"row-{rows}", parent=SITE)
                    rows += 1
                yield Domain(name=f"rack-{racks}", parent=f"row-{rows - 1}")
                racks += 1
            own = tuple(board.uuid for board in boards[gpus : min(end, gpus + group.per_node)])
            yield Domain(
                name=f"node-{nodes}",
                parent=f"rack-{racks - 1}",
                base_load_w=group.base_load_w,
                gpu_uuids=own,
            )
            nodes, gpus = nodes + 1, gpus + len(own)


def _limited(domain: Domain, limits_w: dict[str, float]) -> Domain:
    matching = [watts for pattern, watts in limits_w.items() if fnmatchcase(domain.name, pattern)]
    return Domain(
        name=domain.name,
        parent=domain.parent,
        base_load_w=domain.base_load_w,
        pue=domain.pue,
        limit_w=min([domain.limit_w, *matching]),
        gpu_uuids=domain.gpu_uuids,
    )

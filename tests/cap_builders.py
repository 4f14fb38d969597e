"""Demands for watts that read one by one, and the split of them by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from power.budget import PowerTree
from power.capping import BUDGET, PRICE, CapDemands, CapSplit, Holdings, split_watts
from power.curve import CapCurve, prior
from power.curve_table import CurveTable

BERT = prior("A40", min_cap_w=100.0, max_cap_w=300.0, workload="bert")
NCF = prior("A40", min_cap_w=100.0, max_cap_w=300.0, workload="ncf")


@dataclass(frozen=True, kw_only=True)
class CapDemand:
    """One running job; see `power.capping.CapDemands`."""

    key: str
    gpu_uuids: tuple[str, ...]
    floor_w: float = 100.0
    ceiling_w: float = 300.0
    rank: int = 1
    curve: CapCurve = BERT
    value: float = 1.5
    price: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BrokenFloor:
    key: str
    domain: str
    floor_w: float
    given_w: float


@dataclass(frozen=True, kw_only=True)
class NamedSplit:
    """A split with the names of jobs and domains in place of rows and columns."""

    caps_w: Mapping[str, float]
    limited_by: Mapping[str, str]
    binding: Mapping[str, str | None]
    broken: tuple[BrokenFloor, ...]  # in the order in which they gave way
    must_pause: tuple[str, ...]
    missing_w: Mapping[str, float]
    value: float
    least: float
    bound: float


def columns(demands: Sequence[CapDemand], tree: PowerTree) -> CapDemands:
    """The demands in columns, oldest first."""
    curves, curve = CurveTable.of(d.curve for d in demands)
    index = tree.index
    held = [(row, index.leaf[index.gpu_row[u]]) for row, d in enumerate(demands) for u in d.gpu_uuids]
    job, leaf = (
        np.array(column, dtype=np.int64) for column in (zip(*held, strict=True) if held else ((), ()))
    )

    def floats(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([getattr(d, name) for d in demands], dtype=np.float64)

    return CapDemands(
        curves=curves,
        curve=curve,
        floor_w=floats("floor_w"),
        ceiling_w=floats("ceiling_w"),
        value_per_gpu_h=floats("value"),
        price_per_mwh=floats("price"),
        rank=np.array([d.rank for d in demands], dtype=np.int64),
        submitted_s=np.arange(len(demands), dtype=np.float64),
        holdings=Holdings(job, leaf, np.ones(len(job))),
    )


def split(demands: Sequence[CapDemand], tree: PowerTree, available_w: Mapping[str, float]) -> NamedSplit:
    """`available_w` by domain; one left out has no limit."""
    names = tree.index.names
    limits_w = np.array([available_w.get(name, math.inf) for name in names], dtype=np.float64)
    cut = columns(demands, tree)
    return _named(demands, cut, split_watts(cut, tree.index, limits_w), names)


def _named(
    demands: Sequence[CapDemand], cut: CapDemands, found: CapSplit, names: tuple[str, ...]
) -> NamedSplit:
    keys = [d.key for d in demands]
    reasons = ["budget" if r == BUDGET else "price" if r == PRICE else "nothing" for r in found.limited_by]
    turn = sorted(range(len(keys)), key=lambda row: int(cut.turn()[row]))
    floors = found.floors
    return NamedSplit(
        caps_w=dict(zip(keys, found.cap_w.tolist(), strict=True)),
        limited_by=dict(zip(keys, reasons, strict=True)),
        binding={key: names[d] if d >= 0 else None for key, d in zip(keys, found.binding, strict=True)},
        broken=tuple(
            BrokenFloor(
                key=keys[row],
                domain=names[floors.broken_for[row]],
                floor_w=demands[row].floor_w,
                given_w=float(floors.cap_w[row]),
            )
            for row in turn
            if floors.broken_for[row] >= 0
        ),
        must_pause=tuple(keys[row] for row in turn if floors.paused_for[row] >= 0),
        missing_w={name: float(w) for name, w in zip(names, floors.missing_w, strict=True) if w > 0},
        value=found.value,
        least=found.least,
        bound=found.bound,
    )

"""When floors do not fit a domain: whose break, how far, and who must pause. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FITS_W = 1e-6  # watts of rounding that are no excess


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenFloor:
    """A job's contract that the domain's watts could not keep; caps per GPU."""

    key: str
    domain: str
    floor_w: float
    given_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """A domain that cannot carry what runs under it even at the boards' minimum caps."""

    domain: str
    missing_w: float


@dataclass(frozen=True, slots=True)
class Rows:
    """Jobs as rows, domains as columns (parents first); `counts` are a job's GPUs under a domain."""

    keys: tuple[str, ...]
    ranks: tuple[int, ...]
    domains: tuple[str, ...]
    counts: NDArray[np.float64]
    available_w: NDArray[np.float64]

    def tight_domain(self, row: int, excess_w: NDArray[np.float64]) -> str | None:
        """Of the domains with an excess, the one that asks most of this row's caps."""
        over = (excess_w > _FITS_W) & (self.counts[row] > 0)
        if not over.any():
            return None
        per_gpu_w = np.where(over, excess_w / np.maximum(self.counts[row], 1.0), 0.0)
        return self.domains[int(per_gpu_w.argmax())]

    def yielding_order(self) -> list[int]:
        """Least important first; among equals the youngest."""
        return sorted(range(len(self.keys)), key=lambda row: (self.ranks[row], -row))


@dataclass(frozen=True, slots=True)
class Floors:
    """The caps everybody starts from. Rows that must pause are out of every sum."""

    caps_w: NDArray[np.float64]
    broken: tuple[BrokenFloor, ...]
    short: tuple[Shortage, ...]
    paused: dict[int, str]  # row -> the domain that cannot carry it; least important first


def fit_floors(rows: Rows, floors_w: NDArray[np.float64], minimums_w: NDArray[np.float64]) -> Floors:
    """Keep every floor that fits; break the others in reverse order of priority, no further than needed."""
    missing_w = minimums_w @ rows.counts - rows.available_w
    short = tuple(
        Shortage(domain=name, missing_w=float(watts))
        for name, watts in zip(rows.domains, missing_w, strict=True)
        if watts > _FITS_W
    )
    paused = _who_pauses(rows, minimums_w, missing_w) if short else {}
    caps_w = floors_w.copy()
    caps_w[list(paused)] = minimums_w[list(paused)]
    stays = np.ones(len(rows.keys))
    stays[list(paused)] = 0.0
    excess_w = (stays * caps_w) @ rows.counts - rows.available_w
    broken: list[BrokenFloor] = []
    for row in rows.yielding_order() if (excess_w > _FITS_W).any() else ():
        domain = rows.tight_domain(row, excess_w)
        if domain is None or not stays[row] or caps_w[row] <= minimums_w[row]:
            continue
        needs_w = excess_w[rows.domains.index(domain)] / rows.counts[row, rows.domains.index(domain)]
        cut_w = min(caps_w[row] - minimums_w[row], needs_w)
        caps_w[row] -= cut_w
        excess_w = excess_w - cut_w * rows.counts[row]
        given_w, floor_w = float(caps_w[row]), float(floors_w[row])
        broken.append(BrokenFloor(key=rows.keys[row], domain=domain, floor_w=floor_w, given_w=given_w))
    return Floors(caps_w, tuple(broken), short, paused)


def _who_pauses(
    rows: Rows, minimums_w: NDArray[np.float64], missing_w: NDArray[np.float64]
) -> dict[int, str]:
    """Rows whose going makes the rest fit at minimum caps, as few and as unimportant as this order finds."""
    excess_w = missing_w.copy()
    paused: dict[int, str] = {}
    for row in rows.yielding_order():
        domain = rows.tight_domain(row, excess_w)
        if domain is not None:
            paused[row] = domain
            excess_w -= minimums_w[row] * rows.counts[row]
    for row in reversed(list(paused)):  # a later, larger one may have made an earlier one needless
        back_w = excess_w + minimums_w[row] * rows.counts[row]
        if rows.tight_domain(row, back_w) is None:
            del paused[row]
            excess_w = back_w
    return paused

"""Shares by name: read from an option, and dealt out so that they hold in what jobs weigh."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Final

import numpy as np

from power.arrays import Floats
from scheduler.simulation.model import BadInput
from scheduler.simulation.plain_number import plain_number

SUM_ERROR: Final = 1e-6


def parse_shares(text: str, *, option: str, names: Collection[str]) -> dict[str, float]:
    """`none:0.2,low:0.8` -> shares by name, each from 0 to 1, together 1 within 1e-6; unnamed ones are 0.

    Raises:
        BadInput: names the option, the part of it and what is wanted.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, colon, figure = (piece.strip() for piece in part.partition(":"))
        where = f"{option}: {ascii(part.strip())[:60]}"
        if name not in names or not colon:
            raise BadInput(f"{where} is not NAME:SHARE with a name of {', '.join(names)}")
        if name in shares:
            raise BadInput(f"{where} names {name} a second time")
        try:
            shares[name] = plain_number(figure)
        except ValueError:
            raise BadInput(f"{where} has no number behind the colon") from None
        if not 0 <= shares[name] <= 1:
            raise BadInput(f"{where} is not a share from 0 to 1")
    total = math.fsum(shares.values())
    if abs(total - 1) > SUM_ERROR:
        raise BadInput(f"{option}: the shares of {ascii(text)[:120]} add up to {total:g}, wanted is 1")
    return shares


def deal(weights: Floats, shares: Mapping[str, float], draws: Floats) -> list[str]:
    """A name per row, so that the rows of a name together have its share of all weight.

    The heaviest row goes first. Each is drawn among the names that still have room for it, in proportion to
    what they have left; so its chance of a name is about the name's share whatever it weighs, and the light
    rows at the end fill what is missing. A row that has room nowhere goes where most is left: no name gets
    more than its share plus one row. Equal weights keep their order.

    Args:
        weights: per row, above 0.
        draws: per row, uniform in 0..1.
    """
    names = [name for name, share in shares.items() if share > 0]
    total = float(weights.sum())
    left = [shares[name] * total for name in names]
    dealt = [""] * len(weights)
    for row in np.argsort(-weights, kind="stable").tolist():
        weight = float(weights[row])
        chosen = _drawn([room if room >= weight else 0.0 for room in left], float(draws[row]))
        if chosen is None:
            chosen = max(range(len(left)), key=left.__getitem__)
        left[chosen] -= weight
        dealt[row] = names[chosen]
    return dealt


def _drawn(chances: list[float], draw: float) -> int | None:
    """The index that `draw` (0..1) falls on; None where every chance is 0."""
    mark, chosen = draw * sum(chances), None
    for index, chance in enumerate(chances):
        if chance > 0:
            chosen = index
            if mark < chance:
                break
            mark -= chance
    return chosen

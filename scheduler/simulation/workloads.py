"""What the jobs of a trace compute: families whose power demand was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from power.arrays import Floats
from scheduler.simulation.shares import parse_shares

FAMILIES: Final = ("bert", "resnet", "deepspeech", "shufflenet", "ncf")  # as in `power/curve.py`
EQUAL_SHARES: Final = {family: 1.0 / len(FAMILIES) for family in FAMILIES}


def parse_workloads(text: str) -> dict[str, float]:
    """`bert:0.5,ncf:0.5` -> share of the jobs by family; families that are not named are not drawn.

    Raises:
        BadInput: names the part and what is wanted.
    """
    return parse_shares(text, option="workloads", names=FAMILIES)


def workloads_of(shares: Mapping[str, float], draws: Floats) -> list[str]:
    """A family per job, drawn by its share of the jobs, whatever their size.

    Args:
        draws: per job, uniform in 0..1 (1 excluded).
    """
    names = [family for family, share in shares.items() if share > 0]
    tops = np.cumsum([shares[name] for name in names])
    found = np.searchsorted(tops / tops[-1], draws, side="right")
    return [names[index] for index in np.minimum(found, len(names) - 1).tolist()]

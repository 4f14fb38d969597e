"""Job sizes and lengths as a real cluster saw them: Microsoft ITP 2021, thirty days.

What runs at a moment is not what was submitted: a long job is seen more often. Running jobs are drawn by
length, pending ones as submitted.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from power.arrays import Floats, Ints

TRACE = "jobs/msitp_2021_days_0-30.csv"


@dataclass(frozen=True)
class Trace:
    """Submitted jobs: GPUs and seconds of each."""

    gpus: Ints
    duration_s: Floats


def data_folder() -> Path:
    """`$WATTMILL_DATA`, else `shared/data` beside the project. Raises FileNotFoundError."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("WATTMILL_DATA", beside))
    if not (folder / TRACE).exists():
        raise FileNotFoundError(f"no job trace in {folder}; set WATTMILL_DATA to the folder that has {TRACE}")
    return folder


@cache
def load_trace() -> Trace:
    """The whole trace; jobs of no length are left out."""
    with (data_folder() / TRACE).open() as file:
        rows = [(round(float(row["gpus"])), float(row["duration_s"])) for row in csv.DictReader(file)]
    kept = [row for row in rows if row[0] >= 1 and row[1] > 0]
    return Trace(np.array([gpus for gpus, _ in kept]), np.array([seconds for _, seconds in kept]))


def running_sizes(
    trace: Trace, count: int, *, gpus: int, chance: np.random.Generator
) -> tuple[Ints, Floats, Floats]:
    """(GPUs, seconds run, seconds left) of `count` running jobs that together hold about `gpus`.

    Drawn by length; where their mean size would leave the cluster emptier or fuller than asked, weights are
    tilted by a power of the size, as little as needed.
    """
    wanted = gpus / count
    low, high = -4.0, 4.0
    for _ in range(60):
        tilt = (low + high) / 2
        weight = trace.duration_s * trace.gpus.astype(np.float64) ** tilt
        mean = float((weight * trace.gpus).sum() / weight.sum())
        low, high = (tilt, high) if mean < wanted else (low, tilt)
    drawn = chance.choice(len(trace.gpus), size=count, p=weight / weight.sum())
    part = chance.uniform(0.02, 0.98, size=count)
    seconds = trace.duration_s[drawn]
    return trace.gpus[drawn], seconds * part, seconds * (1 - part)


def submitted_sizes(trace: Trace, count: int, *, chance: np.random.Generator) -> tuple[Ints, Floats]:
    """(GPUs, seconds) of `count` jobs as they were submitted."""
    drawn = chance.choice(len(trace.gpus), size=count)
    return trace.gpus[drawn], trace.duration_s[drawn]

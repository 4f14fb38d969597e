"""Files of a simulation, small enough that it takes a second: `Inputs.in_folder(tmp_path)`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from scheduler.simulation.clusters import uniform_cluster
from scheduler.simulation.scenarios import ScenarioOptions

START = datetime(2023, 6, 1, tzinfo=UTC)
JOBS = 12
GPUS = 8


@dataclass(frozen=True)
class Inputs:
    """Twelve jobs of one to four GPUs within six hours, and hourly prices with a day and a night."""

    trace: Path
    prices: Path

    @classmethod
    def in_folder(cls, folder: Path) -> Inputs:
        jobs = [f"job-{i},{1800 * i},{1 + i % 4},{900 + 700 * i}" for i in range(JOBS)]
        trace = folder / "jobs.csv"
        trace.write_text("\n".join(["job_id,submit_s,gpus,duration_s", *jobs]) + "\n")
        first = START - timedelta(days=36)
        rows = [_priced(first + timedelta(hours=hour)) for hour in range(24 * 52)]
        prices = folder / "prices.csv"
        prices.write_text("\n".join(["time_utc,value", *rows]) + "\n")
        return cls(trace, prices)

    def options(self, **more: Any) -> ScenarioOptions:
        """The same as `arguments`."""
        cluster = uniform_cluster(gpus=GPUS, model="A40")
        return ScenarioOptions(trace=self.trace, prices=self.prices, cluster=cluster, start=START, **more)

    def arguments(self, out: Path, *more: str) -> list[str]:
        """Of the command line, less the policies."""
        given = [
            "--jobs",
            self.trace,
            "--prices",
            self.prices,
            "--out",
            out,
            "--gpus",
            GPUS,
            "--model",
            "A40",
        ]
        return ["simulate", *map(str, given), "--processes", "1", *more]


def _priced(at: datetime) -> str:
    return f"{at.strftime('%Y-%m-%dT%H:%M:%SZ')},{60 - 40 * math.cos(at.hour / 24 * 2 * math.pi):.2f}"

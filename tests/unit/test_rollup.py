"""Many samples into one row: means, the highest draw, and the counter's step."""

from __future__ import annotations

from datetime import timedelta

import pytest

from power.device import GpuInfo, GpuReading
from telemetry.rollup import roll_up
from telemetry.sample import GpuSample
from tests.builders import NOW

BOARD = GpuInfo(
    uuid="gpu-0", index=0, model="A40", min_cap_w=100, max_cap_w=300, default_cap_w=300, memory_bytes=0
)


def samples(drawing: str) -> list[GpuSample]:
    """`samples("100 200 -")`: watts, one per second; `-` could not be read. The counter follows the watts."""
    made, energy_j = [], 0.0
    for second, word in enumerate(drawing.split()):
        power_w = None if word == "-" else float(word)
        energy_j += power_w or 0.0
        reading = GpuReading(
            power_w=power_w,
            enforced_cap_w=300.0,
            energy_j=energy_j,
            utilization=None,
            memory_used_bytes=None,
            temperature_c=40.0,
            sm_clock_hz=None,
            throttle_reasons=(),
            pids=(),
        )
        made.append(
            GpuSample(
                info=BOARD,
                at=NOW + timedelta(seconds=second),
                monotonic_s=float(second),
                reading=None if power_w is None else reading,
                energy_j=energy_j,
            )
        )
    return made


@pytest.mark.parametrize(
    ("drawing", "mean_w", "max_w", "energy_j", "span_s"),
    [
        ("100 200 300", 200, 300, 500, 2),
        ("100 - 300", 200, 300, 300, 2),
        ("- -", None, None, 0, 1),
        ("50", 50, 50, 0, 0),
    ],
)
def test_row(drawing: str, mean_w: float | None, max_w: float | None, energy_j: float, span_s: float) -> None:
    row = roll_up(samples(drawing))
    assert (row.power_w, row.power_max_w, row.energy_j, row.span_s) == (mean_w, max_w, energy_j, span_s)
    assert row.utilization is None


def test_nothing_cannot_be_rolled_up() -> None:
    with pytest.raises(ValueError, match="nothing"):
        roll_up([])

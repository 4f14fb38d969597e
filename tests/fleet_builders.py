"""A fleet of boards `gpu-0` ... that draw and say what a test tells them."""

from __future__ import annotations

from typing import Any

from power.accounting import AccountingRules
from power.budget import PowerTree
from power.device import GpuInfo
from power.readings import Readings
from scheduler.fleet import Fleet
from scheduler.snapshot import Snapshot
from tests.builders import NOW, tree
from tests.capd_builders import gpu_info, reading

SETTLING_S = 5.0


def boards(count: int) -> list[GpuInfo]:
    """Boards of 100 .. 300 W, named as in tests.builders."""
    infos = [gpu_info(index) for index in range(count)]
    return [_named(info, f"gpu-{index}") for index, info in enumerate(infos)]


def _named(info: GpuInfo, uuid: str) -> GpuInfo:
    return GpuInfo(**{name: getattr(info, name) for name in info.__slots__} | {"uuid": uuid})


def fleet(count: int = 4, *, power_tree: PowerTree | None = None) -> Fleet:
    """GPUs read once at second 0: empty, drawing 40 W, limited to 300 W."""
    shape = power_tree or tree(count)
    made = Fleet(shape, boards(count), rules=AccountingRules(), settling_s=SETTLING_S)
    look(made, at_s=0.0)
    return made


def look(what: Fleet, *, at_s: float, **odd: Any) -> None:
    """All GPUs read at `at_s`; `odd` is what they say other than 40 W and no process."""
    said = reading(**({"power_w": 40.0} | odd))
    what.put_readings(Readings.of([(said, at_s)] * len(what.uuids)))


def picture(what: Fleet, *, at_s: float = 0.0, **others: Any) -> Snapshot:
    fields: dict[str, Any] = {
        "cycle": 1,
        "now": NOW,
        "limits_w": {},
        "price_per_mwh": 50.0,
        "carbon_g_per_kwh": None,
        "carbon_cost_per_tonne": 0.0,
    }
    return what.snapshot(monotonic_s=at_s, **(fields | others))

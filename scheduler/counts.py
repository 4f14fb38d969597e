"""What the loop counts since it started, under the names of `telemetry/metric_table.py`."""

from __future__ import annotations

from telemetry.metrics import counter_key


class Counts:
    """Counters that only grow. An unknown name or label raises KeyError at once."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        key = counter_key(name, **labels)
        self._values[key] = self._values.get(key, 0.0) + amount

    def as_dict(self) -> dict[str, float]:
        return dict(self._values)

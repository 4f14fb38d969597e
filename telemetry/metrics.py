"""The controller's published state in the words of `metric_table.py`, as Prometheus reads them.

Sources are the columns of `scheduler/published.py`; this layer sees them as a plain mapping. A value that
is unknown is left out, never shown as zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from telemetry.metric_table import BY_NAME, METRICS, MetricSpec, counter_key

__all__ = ["BY_NAME", "CONTENT_TYPE", "METRICS", "MetricSpec", "counter_key", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LABEL_KEYS = {
    "domains": ("name",),
    "gpus": ("uuid", "index", "model", "node"),
    "jobs": ("job_id",),
    "certificates": ("step",),
}
"""Which columns of a row become its labels, in the table's order."""

Sample = tuple[str, tuple[str, ...], object]
"""(metric name, label values in the table's order, value as published)."""


def render(published_state: Mapping[str, Any]) -> bytes:
    """The state in Prometheus text format. An empty mapping (no state yet) gives no samples."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Published(published_state))
    return generate_latest(registry)


class _Published(Collector):
    """One state as Prometheus metric families, in the table's order."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        by_name: dict[str, dict[tuple[str, ...], float]] = {}
        for name, labels, value in _samples(self._state):
            number = _number(value)
            if number is not None:
                by_name.setdefault(name, {})[labels] = number
        for spec in METRICS:
            rows = by_name.get(spec.name)
            if rows:
                family = _family(spec)
                for labels, number in rows.items():
                    family.add_metric(labels, number)
                yield family


def _family(spec: MetricSpec) -> CounterMetricFamily | GaugeMetricFamily:
    cls = CounterMetricFamily if spec.type == "counter" else GaugeMetricFamily
    return cls(spec.name, spec.help, labels=spec.labels)


def _samples(state: Mapping[str, Any]) -> Iterator[Sample]:
    yield from _site_samples(state)
    for spec in (spec for spec in METRICS if spec.source):
        group, _, column = spec.source.partition(".")
        for row in _rows(state, group):
            labels = tuple(_text(row, key) for key in LABEL_KEYS.get(group, ()))
            yield spec.name, labels, row.get(column)
    for job in state.get("jobs") or ():
        yield "wattmill_job_condition", (_text(job, "job_id"), _text(job, "condition")), 1
    for certificate in state.get("certificates") or ():
        if certificate.get("fallback"):
            labels = (_text(certificate, "step"), _text(certificate, "fallback"))
            yield "wattmill_decision_fallback", labels, 1
    yield from _counter_samples(state.get("counters") or {})


def _site_samples(state: Mapping[str, Any]) -> Iterator[Sample]:
    currency = _text(state, "currency")
    if "backend" in state:
        yield "wattmill_controller_info", (_text(state, "backend"), currency), 1
    yield "wattmill_state_timestamp_seconds", (), _unix_s(state.get("real_at"))
    yield "wattmill_grid_timestamp_seconds", (), _unix_s(state.get("at"))
    yield "wattmill_price_per_mwh", (currency, _text(state, "price_source")), state.get("price_per_mwh")
    yield "wattmill_carbon_grams_per_kwh", (_text(state, "carbon_source"),), state.get("carbon_g_per_kwh")
    for name in state.get("degraded") or ():
        yield "wattmill_degraded", (str(name),), 1
    for name in state.get("active_rules") or ():
        yield "wattmill_price_rule_active", (str(name),), 1


def _counter_samples(counters: Mapping[str, object]) -> Iterator[Sample]:
    unlisted = 0
    for key, value in counters.items():
        name, _, inside = key.partition("{")
        given = {label: _unescaped(text) for label, text in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', inside)}
        spec = BY_NAME.get(name)
        if spec is None or spec.type != "counter" or set(given) != set(spec.labels):
            unlisted += 1
            continue
        yield name, tuple(given[label] for label in spec.labels), value
    yield "wattmill_unlisted_counters", (), unlisted if counters else None


def _rows(state: Mapping[str, Any], group: str) -> Sequence[Mapping[str, Any]]:
    """The rows of one list of the state; the state itself, or `capd`, is a list of one."""
    found = state if not group else state.get(group) or ()
    return [found] if isinstance(found, Mapping) else list(found)


def _number(value: object) -> float | None:
    """The value as a finite float; None for anything else, which is then left out."""
    if not isinstance(value, bool | int | float):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _unix_s(value: object) -> float | None:
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return None if when is None else when.timestamp()


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return "" if value is None else str(value)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text)

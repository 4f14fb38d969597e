"""Writes down the watts of a simulated site as they are, change by change; judges nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from power.arrays import Floats
from scheduler.simulation.model import PowerTrace, Scenario
from scheduler.simulation.published import or_nan
from scheduler.simulation.site import Signals, Site
from scheduler.simulation.work import Phase

_COLUMNS = (
    "at_s",
    "gpu_draw_w",
    "busy_draw_w",
    "meter_w",
    "caps_w",
    "limit_w",
    "excess_caps_w",
    "excess_draw_w",
    "price_per_mwh",
    "carbon_g_per_kwh",
    "busy_gpus",
    "waiting_jobs",
)


class Recorder:
    """One row per stretch of time in which nothing changed."""

    def __init__(self, scenario: Scenario, site: Site) -> None:
        self._site = site
        self._names = scenario.cluster.tree.index.names
        self._rows: list[tuple[float, ...]] = []
        self._limits_w: Mapping[str, float] = {}  # as last told, and by domain in the tree's order
        self._limit_w: Floats = np.full(len(self._names), math.inf)
        self._limited = False  # some of them are finite

    def note(self, signals: Signals, limits_w: Mapping[str, float]) -> None:
        """How things stand from now on."""
        site, boards, now = self._site, self._site.boards, self._site.now()
        gpu_draw_w = float(boards.draw_w.sum())
        busy_draw_w = float(site.work.draw_w[site.work.holders].sum())
        limit_w, limited = self._limits_of(limits_w)
        counted_w = boards.counted_w()
        self._rows.append(
            (
                site.work.now_s,
                gpu_draw_w,
                busy_draw_w,
                boards.site_w(gpu_draw_w),
                boards.site_w(float(counted_w.sum())),
                float(limit_w[0]),
                boards.excess_w(counted_w, limit_w) if limited else 0.0,
                boards.expected_excess_w(limit_w) if limited else 0.0,
                or_nan(signals.prices.at(now)),
                or_nan(signals.carbon.at(now)),
                int(np.count_nonzero(boards.busy)),
                site.work.count(Phase.WAITING),
            )
        )

    def _limits_of(self, limits_w: Mapping[str, float]) -> tuple[Floats, bool]:
        """(limit of each domain, whether there is any). Read anew only where another mapping is told."""
        if limits_w is not self._limits_w:
            self._limits_w = limits_w
            self._limit_w = np.array([limits_w.get(name, math.inf) for name in self._names], dtype=np.float64)
            self._limited = bool(np.isfinite(self._limit_w).any())
        return self._limit_w, self._limited

    def trace(self) -> PowerTrace:
        """All that was written down, until now."""
        table = np.array(self._rows, dtype=np.float64).reshape(len(self._rows), len(_COLUMNS)).T
        column = dict(zip(_COLUMNS, table, strict=True))
        busy, waiting = (column.pop(name).astype(np.int64) for name in ("busy_gpus", "waiting_jobs"))
        figures: dict[str, Any] = dict(column)
        return PowerTrace(until_s=self._site.work.now_s, busy_gpus=busy, waiting_jobs=waiting, **figures)

"""What a decision sees: one frozen picture of GPUs, jobs, limits and prices. Built by `observe.py`.

Columns, not objects: the tables hold a hundred thousand GPUs and give a single one as a value when asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from operator import is_
from typing import Any

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.budget import PowerTree
from power.series import Series
from scheduler.gpu_table import NOBODY, GpuKind, GpuTable, GpuView
from scheduler.horizon import Horizon
from scheduler.job_table import JobTable, JobView

__all__ = ["NOBODY", "GpuKind", "GpuTable", "GpuView", "JobTable", "JobView", "Snapshot"]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything a decision may look at. No clock, no I/O."""

    cycle: int
    now: datetime
    tree: PowerTree
    limits_w: Mapping[str, float]  # per domain, now
    gpus: GpuTable
    jobs: JobTable  # every job that is not terminal
    price_per_mwh: float | None  # now; None = no price known
    carbon_g_per_kwh: float | None
    carbon_cost_per_tonne: float
    prices: Series = field(default_factory=Series)  # from now on, published
    horizon: Horizon = field(default_factory=Horizon)
    degraded: tuple[str, ...] = ()  # named states: no_prices, telemetry_stale, ...
    min_run_s: float = 60.0  # do not preempt a run younger than this (real seconds are the cycle's affair)

    @classmethod
    def of(
        cls, *, tree: PowerTree, gpus: Iterable[GpuView], jobs: Iterable[JobView], **others: Any
    ) -> Snapshot:
        """From single views; `others` are the remaining fields."""
        table = JobTable.of(jobs)
        board = GpuTable.of(gpus, tree.index, run_ids=table.run_ids, job_ids=table.ids)
        return cls(tree=tree, gpus=board, jobs=table, **others)

    def but(
        self,
        *,
        gpus: Iterable[GpuView] | None = None,
        jobs: Iterable[JobView] | None = None,
        **changes: Any,
    ) -> Snapshot:
        """A copy with other GPUs, jobs or figures."""
        if gpus is not None or jobs is not None:
            table = self.jobs if jobs is None else JobTable.of(jobs)
            views = self.gpus if gpus is None else gpus
            board = GpuTable.of(views, self.tree.index, run_ids=table.run_ids, job_ids=table.ids)
            changes |= {"gpus": board, "jobs": table}
        return replace(self, **changes)

    def energy_price_per_mwh(self) -> float:
        """Electricity plus carbon, money per MWh; 0 when no price is known (price-blind)."""
        carbon = (self.carbon_g_per_kwh or 0.0) / 1e3 * self.carbon_cost_per_tonne
        return (self.price_per_mwh or 0.0) + carbon

    def gpu(self, uuid: str) -> GpuView:
        """Raises KeyError for an unknown GPU."""
        return self.gpus[self.gpus.row_of[uuid]]

    def job(self, job_id: str) -> JobView:
        """Raises KeyError for an unknown job."""
        return self.jobs[self.jobs.row_of[job_id]]

    @cached_property
    def domain_limit_w(self) -> Floats:
        """Per column of the tree's index: the meter's limit now, infinite where there is none."""
        tree, limits = self.tree, self.limits_w
        if len(limits) == len(tree.domains) and all(map(is_, limits, tree.domains)):
            limit_w = np.empty(len(limits))  # as `limits_at` gives them: without twenty thousand look-ups
            limit_w[tree.columns] = np.fromiter(limits.values(), dtype=np.float64, count=len(limits))
            return limit_w
        limit_w, column = np.full(len(tree.index.names), math.inf), tree.index.column
        for name, watts in limits.items():
            if name in column:
                limit_w[column[name]] = watts
        return limit_w

    @cached_property
    def domain_gpu_w(self) -> Floats:
        """Per column: watts that the limit leaves for GPUs."""
        return self.tree.index.available_w(self.domain_limit_w)

    @cached_property
    def _held(self) -> tuple[Ints, Ints]:
        """GPU rows sorted by holder, and where each job's begin (jobs + 1)."""
        held = np.nonzero(self.gpus.holder >= 0)[0]
        order = np.argsort(self.gpus.holder[held], kind="stable")
        counts = np.bincount(self.gpus.holder[held], minlength=len(self.jobs))
        return held[order], np.concatenate([[0], np.cumsum(counts)])

    def gpu_rows(self, job_row: int) -> Ints:
        """Rows of the GPUs that the job's run holds, those in the picture alone; in table order."""
        rows, starts = self._held
        return rows[starts[job_row] : starts[job_row + 1]]

    @cached_property
    def complete(self) -> Bools:
        """Per job: has a run, and every GPU of it is in the picture and on a power domain."""
        inside = np.where(self.gpus.leaf >= 0, self.gpus.holder, NOBODY)
        found = np.bincount(inside + 1, minlength=len(self.jobs) + 1)[1:]  # the first is nobody's
        wanted = self.jobs.ints("run_gpus")
        whole: Bools = (wanted > 0) & (found == wanted)
        return whole

"""Answers `POST /v1/jobs:plan`: what a job would get, per flex tier, if it were submitted now.

Runs in the server: it rebuilds the controller's picture from the published state and the database, so that a
dry run never costs the loop a millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from power.budget import PowerTree
from power.clock import Clock
from power.device import GpuInfo
from power.grid.feed import Kind
from power.series import Series
from scheduler.config import Config
from scheduler.job_views import JobFacts, job_views
from scheduler.learning import CurveBook, Learned
from scheduler.ledger import Ledger
from scheduler.model import Job, JobSpec
from scheduler.published import GpuState, PublishedState
from scheduler.quote import TierQuote, quote
from scheduler.snapshot import GpuView, Snapshot
from scheduler.store import Store

HORIZON = timedelta(hours=48)
ASKED = "job_asked"  # stands for the job that does not exist


class NothingPublished(Exception):
    """The controller has not published a state yet: nothing can be said of GPUs and watts."""


@dataclass(frozen=True, kw_only=True)
class Quoter:
    """Callable with a job spec; gives one row per flex tier.

    Raises NothingPublished.
    """

    config: Config
    store: Store
    tree: PowerTree
    infos: Sequence[GpuInfo]
    clock: Clock
    read_state: Callable[[], PublishedState | None]

    def __call__(self, spec: JobSpec) -> list[dict[str, Any]]:
        state = self.read_state()
        if state is None:
            raise NothingPublished("the controller has not published its state yet; try again in a second")
        now = self.clock.now()
        asked = Job(id=ASKED, spec=spec, owner="", submitted_at=now, state_since=now)
        snapshot = self._snapshot(state, asked)
        return [_row(tier) for tier in quote(snapshot.job(ASKED), snapshot)]

    def _snapshot(self, state: PublishedState, asked: Job) -> Snapshot:
        now = self.clock.now()
        limits = {d["name"]: math.inf if d["limit_w"] is None else d["limit_w"] for d in state["domains"]}
        prices = self.store.series.load(Kind.PRICE)
        return Snapshot.of(
            cycle=state["cycle"],
            now=now,
            tree=self.tree,
            limits_w=limits,
            gpus=tuple(_gpu_view(gpu) for gpu in state["gpus"]),
            jobs=job_views([*self.store.jobs.active(), asked], self._facts(state)),
            price_per_mwh=state["price_per_mwh"],
            carbon_g_per_kwh=state["carbon_g_per_kwh"],
            carbon_cost_per_tonne=self.config.site.carbon_cost_per_tonne,
            prices=prices.series.between(now, now + HORIZON) if prices else Series(),
        )

    def _facts(self, state: PublishedState) -> JobFacts:
        learned = {key: Learned(**curve) for key, curve in self.store.curves.all().items()}
        active = set(state["active_rules"])
        return JobFacts(
            config=self.config,
            curves=CurveBook(learned),
            gpus={info.uuid: info for info in self.infos},
            rules=tuple(rule for rule in self.store.policies.list() if rule.name in active),
            gated=frozenset(),
            frozen_runs=frozenset(job["run_id"] for job in state["jobs"] if job["frozen"]),
            ledgers=dict[str, Ledger](),
            work_done_s={},
            now=self.clock.now(),
        )


def _gpu_view(gpu: GpuState) -> GpuView:
    empty = gpu["run_id"] is None and not gpu["foreign"]
    return GpuView(
        uuid=gpu["uuid"],
        model=gpu["model"],
        min_cap_w=gpu["min_cap_w"],
        max_cap_w=gpu["max_cap_w"],
        confirmed_cap_w=gpu["cap_w"],
        accounted_w=gpu["accounted_w"],
        idle_w=gpu["accounted_w"] if empty else gpu["min_cap_w"],
        draw_w=gpu["power_w"],
        settable=gpu["settable"],
        healthy=gpu["healthy"],
        cordoned=gpu["cordoned"],
        run_id=gpu["run_id"],
        foreign=gpu["foreign"],
    )


def _row(tier: TierQuote) -> dict[str, Any]:
    """Plain JSON: enums and times as text."""
    row = asdict(tier)
    for name in ("start", "finish"):
        row[name] = None if row[name] is None else row[name].isoformat()
    return {**row, "flex": str(tier.flex), "wait_reason": tier.wait_reason and str(tier.wait_reason)}

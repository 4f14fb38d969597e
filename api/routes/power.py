"""Watts: the tree of domains, what holds now, and why each cap was set."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import ServicesDep, current_state, operation_id
from api.errors import problems
from api.fields import Instant, PageLimit, View
from api.limits import floor_of
from scheduler.published import PublishedState

router = APIRouter(tags=["power"], generate_unique_id_function=operation_id)


class DomainView(View):
    """One power domain. Null watts = no limit, or not known yet."""

    name: str
    parent: str | None
    gpus: list[str] = Field(description="UUIDs of the GPUs that hang on it")
    base_load_w: float = Field(description="its own draw without GPUs")
    configured_limit_w: float | None
    limit_w: float | None = Field(description="the lowest limit that holds now")
    idle_w: float = Field(description="base loads and idle GPUs under it: a lower limit is refused")
    floor_w: float = Field(
        description="with today's jobs at the lowest caps: a lower limit pauses or stops jobs"
    )
    accounted_w: float | None = Field(description="worst case now")
    draw_w: float | None = Field(description="measured now")


class DomainList(View):
    items: list[DomainView]


class DecisionView(View):
    id: int
    at: Instant
    cycle: int
    summary: dict[str, Any]


class DecisionPage(View):
    items: list[DecisionView]
    next_cursor: str | None = None


class DecisionFilter(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: PageLimit = 50
    cursor: Annotated[str | None, Field(max_length=200)] = None


@router.get("/v1/power/domains", summary="The tree of power domains", responses=problems())
def list_domains(services: ServicesDep) -> DomainList:
    state = services.read_state()
    limits = services.tree.limits_at(services.clock.now(), services.store.budgets.list(services.clock.now()))
    rows = {} if state is None else {row["name"]: row for row in state["domains"]}
    views = []
    for domain in services.tree.domains.values():
        floor = floor_of(domain.name, services.tree, state, services.config.gpus.idle_margin_w)
        row = rows.get(domain.name)
        views.append(
            DomainView(
                name=domain.name,
                parent=domain.parent,
                gpus=list(domain.gpu_uuids),
                base_load_w=domain.base_load_w,
                configured_limit_w=_finite(domain.limit_w),
                limit_w=_finite(limits[domain.name]),
                idle_w=floor.empty_total_w,
                floor_w=floor.loaded_total_w,
                accounted_w=None if row is None else row["accounted_w"],
                draw_w=None if row is None else row["draw_w"],
            )
        )
    return DomainList(items=views)


@router.get("/v1/power/state", summary="Everything as it is now", responses=problems(503))
def power_state(services: ServicesDep) -> PublishedState:
    return current_state(services)


@router.get("/v1/power/decisions", summary="What was decided and why, newest first", responses=problems())
def list_decisions(services: ServicesDep, query: Annotated[DecisionFilter, Query()]) -> DecisionPage:
    page = services.store.decisions.page(query.limit, query.cursor)
    items = [DecisionView(id=d.id, at=d.at, cycle=d.cycle, summary=dict(d.summary)) for d in page.items]
    return DecisionPage(items=items, next_cursor=page.next_cursor)


def _finite(watts: float) -> float | None:
    return watts if math.isfinite(watts) else None

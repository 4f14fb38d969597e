"""Limits on power domains over time: budgets of operators, targets with an end, emergency overrides."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field

from api.dependencies import CallerDep, PathName, ServicesDep, operation_id, tell
from api.errors import Problem, problems
from api.fields import Body, Instant, Name, Seconds, View, Watts
from api.limits import floor_of, stopped_by
from api.services import Services
from power.budget import Budget
from scheduler.ids import new_id
from scheduler.store import NotFound

router = APIRouter(tags=["power"], generate_unique_id_function=operation_id)

OPERATOR, TARGET, OVERRIDE = "operator", "target", "override"
MAX_TTL_S = 7 * 86400.0


class BudgetIn(Body):
    """A limit on a domain. Without `start` and `end` it replaces the standing one, from now on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"domain": "site", "limit_w": 1800}]})

    domain: Name
    limit_w: Watts
    start: Instant | None = None
    end: Instant | None = None


class TargetIn(Body):
    """A limit with an end, from an operator or the grid. It can only lower what is allowed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "domain": "site",
                    "limit_w": 1200,
                    "start": "2026-01-31T17:00:00Z",
                    "end": "2026-01-31T19:00:00Z",
                    "correlation_id": "event-42",
                }
            ]
        }
    )

    domain: Name
    limit_w: Watts
    start: Instant | None = None
    end: Instant
    correlation_id: Name | None = None


class OverrideIn(Body):
    """An emergency limit, from now on for `ttl_s` real seconds. One per domain: a new one replaces it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"domain": "site", "limit_w": 900, "ttl_s": 600}]}
    )

    domain: Name
    limit_w: Watts
    ttl_s: Annotated[Seconds, Field(le=MAX_TTL_S)]


class BudgetView(View):
    """A limit over `start <= t < end`; `end` null = until it is replaced."""

    id: str
    domain: str
    limit_w: float
    start: Instant
    end: Instant | None
    source: str
    correlation_id: str | None
    holds_now: bool


class NewBudget(BudgetView):
    """`pauses` names the jobs that the limit leaves no room for, even at their lowest caps."""

    pauses: list[str]


class BudgetList(View):
    items: list[BudgetView]


IncludePast = Annotated[bool, Query(description="also those that have ended")]


@router.get("/v1/power/budgets", summary="Limits set by operators", responses=problems())
def list_budgets(services: ServicesDep, include_past: IncludePast = False) -> BudgetList:
    return _list(services, OPERATOR, include_past)


@router.get("/v1/power/targets", summary="Limits with an end", responses=problems())
def list_targets(services: ServicesDep, include_past: IncludePast = False) -> BudgetList:
    return _list(services, TARGET, include_past)


@router.get("/v1/power/override", summary="Emergency limits", responses=problems())
def list_overrides(services: ServicesDep, include_past: IncludePast = False) -> BudgetList:
    return _list(services, OVERRIDE, include_past)


@router.post(
    "/v1/power/budgets",
    status_code=201,
    summary="Limit a domain",
    description="Refused (422) below what the domain draws with no job. Accepted below the floor of today's "
    "jobs: `pauses` names those that it will pause or stop.",
    responses=problems(404, 413, 415),
)
def add_budget(body: BudgetIn, services: ServicesDep, who: CallerDep) -> NewBudget:
    pauses = _check_limit(services, body.domain, body.limit_w)
    now = services.clock.now()
    if body.start is None and body.end is None:
        budget = services.store.budgets.replace_limit(body.domain, body.limit_w, now)
    else:
        budget = _budget(OPERATOR, body.domain, body.limit_w, body.start or now, body.end, now)
        services.store.budgets.add(budget)
    return _added(services, budget, pauses, who.name)


@router.post(
    "/v1/power/targets",
    status_code=201,
    summary="Limit a domain for a while",
    responses=problems(404, 413, 415),
)
def add_target(body: TargetIn, services: ServicesDep, who: CallerDep) -> NewBudget:
    pauses = _check_limit(services, body.domain, body.limit_w)
    now = services.clock.now()
    budget = _budget(
        TARGET,
        body.domain,
        body.limit_w,
        body.start or now,
        body.end,
        now,
        correlation_id=body.correlation_id,
    )
    services.store.budgets.add(budget)
    return _added(services, budget, pauses, who.name)


@router.post(
    "/v1/power/override",
    status_code=201,
    summary="Limit a domain at once, in an emergency",
    responses=problems(404, 413, 415),
)
def add_override(body: OverrideIn, services: ServicesDep, who: CallerDep) -> NewBudget:
    pauses = _check_limit(services, body.domain, body.limit_w)
    now = services.clock.now()
    # An emergency lasts real seconds; limits are kept in grid time.
    end = now + timedelta(seconds=body.ttl_s * services.clock.rate)
    earlier = [b for b in services.store.budgets.list(now) if (b.source, b.domain) == (OVERRIDE, body.domain)]
    budget = services.store.budgets.add(_budget(OVERRIDE, body.domain, body.limit_w, now, end, now))
    for old in earlier:
        _remove(services, old.id)
    return _added(services, budget, pauses, who.name)


def _remover(source: str, summary: str, path: str) -> None:
    def remove(budget_id: PathName, services: ServicesDep, who: CallerDep) -> None:
        budget = services.store.budgets.get(budget_id)
        if budget.source != source:
            raise NotFound(source, budget_id)
        services.store.budgets.remove(budget_id)
        tell(services, "budget.removed", id=budget_id, domain=budget.domain, source=source, by=who.name)

    remove.__name__ = f"remove_{source}"
    endpoint: Callable[..., None] = remove
    router.add_api_route(
        path, endpoint, methods=["DELETE"], status_code=204, summary=summary, responses=problems(404)
    )


_remover(OPERATOR, "Take a limit away", "/v1/power/budgets/{budget_id}")
_remover(TARGET, "Take a target away", "/v1/power/targets/{budget_id}")
_remover(OVERRIDE, "End an emergency limit", "/v1/power/override/{budget_id}")


def _check_limit(services: Services, domain: str, limit_w: float) -> list[str]:
    """The jobs that the limit would pause or stop. Raises Problem 404 or 422."""
    if domain not in services.tree.domains:
        raise Problem(
            404, f"there is no such domain; there are: {', '.join(services.tree.domains)}", field="domain"
        )
    state, gpus = services.read_state(), services.config.gpus
    headroom_w = services.config.control.headroom_w
    floor = floor_of(domain, services.tree, state, gpus.idle_margin_w)
    needed_w = floor.empty_total_w + headroom_w
    if limit_w < needed_w:
        overhead = f", times {floor.pue:g} overhead" if floor.pue > 1 else ""
        kept = f" and {headroom_w:.0f} W headroom" if headroom_w else ""
        raise Problem(
            422,
            f"{limit_w:g} W is less than {domain} draws with no job at all: {needed_w:.0f} W"
            f" ({floor.base_w:.0f} W base load, {floor.idle_w:.0f} W for {floor.gpus} idle GPUs"
            f"{overhead}{kept})",
            field="limit_w",
        )
    return stopped_by(
        limit_w - headroom_w,
        domain,
        tree=services.tree,
        state=state,
        jobs=services.store.jobs.active(),
        value_of=services.config.priorities,
        idle_margin_w=gpus.idle_margin_w,
    )


def _budget(
    source: str,
    domain: str,
    limit_w: float,
    start: datetime,
    end: datetime | None,
    now: datetime,
    *,
    correlation_id: str | None = None,
) -> Budget:
    """Raises Problem 422."""
    if end is not None and end <= start:
        raise Problem(422, "must be after the start", field="end")
    if end is not None and end <= now:
        raise Problem(422, "has passed already", field="end")
    return Budget(
        id=new_id("budget"),
        domain=domain,
        limit_w=limit_w,
        start=start,
        end=end,
        source=source,
        correlation_id=correlation_id,
    )


def _added(services: Services, budget: Budget, pauses: list[str], by: str) -> NewBudget:
    tell(
        services,
        "budget.added",
        id=budget.id,
        domain=budget.domain,
        limit_w=budget.limit_w,
        source=budget.source,
        pauses=pauses,
        by=by,
    )
    view = _view(budget, services.clock.now())
    return NewBudget(**view.model_dump(), pauses=pauses)


def _remove(services: Services, budget_id: str) -> None:
    try:
        services.store.budgets.remove(budget_id)
    except NotFound:
        return  # somebody else was faster


def _list(services: Services, source: str, include_past: bool) -> BudgetList:
    now = services.clock.now()
    budgets = [b for b in services.store.budgets.list() if b.source == source]
    return BudgetList(items=[_view(b, now) for b in budgets if include_past or b.end is None or b.end > now])


def _view(budget: Budget, now: datetime) -> BudgetView:
    return BudgetView(
        id=budget.id,
        domain=budget.domain,
        limit_w=budget.limit_w,
        start=budget.start,
        end=budget.end,
        source=budget.source,
        correlation_id=budget.correlation_id,
        holds_now=budget.holds_at(now),
    )

"""Price rules: what happens to which jobs above which price, and when that would have been so."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import ConfigDict, Field

from api.dependencies import CallerDep, PathName, ServicesDep, operation_id, tell
from api.errors import Problem, problems
from api.fields import Body, Bool, Instant, Name, Number, View
from api.routes.grid import SeriesFilter, window
from api.services import Services
from power.grid.feed import Kind
from power.series import Series
from scheduler.policy.price_rule import PRIORITY, InvalidRule, PriceRule, RuleAction, preview
from scheduler.store import NotFound

router = APIRouter(tags=["policies"], generate_unique_id_function=operation_id)


class RuleFields(Body):
    """In force above one price until it falls below another, for at least `min_dwell_s` of grid time."""

    above_per_mwh: Number
    release_below_per_mwh: Number
    min_dwell_s: Annotated[Number, Field(ge=0, le=1e10)] = 900.0
    action: Literal["cap", "pause"] = "cap"
    throughput_share: Annotated[Number, Field(gt=0, le=1, description="for `cap`: of uncapped speed")] = 0.75
    applies_to: Annotated[
        list[Name],
        Field(max_length=50, description="flex tiers (`mid`) and classes (`priority:low`); none = every job"),
    ] = Field(default_factory=list)
    enabled: Bool = True

    def rule(self, name: str, services: Services) -> PriceRule:
        """Raises Problem 422."""
        values = self.model_dump(exclude={"name"})
        try:
            rule = PriceRule(
                **{
                    **values,
                    "name": name,
                    "action": RuleAction(self.action),
                    "applies_to": tuple(self.applies_to),
                }
            )
        except InvalidRule as error:
            raise Problem(422, error.message, field=error.field) from error
        for word in rule.applies_to:
            known = services.config.priorities
            if word.startswith(PRIORITY) and word.removeprefix(PRIORITY) not in known:
                raise Problem(422, f"priority classes are {', '.join(known)}", field="applies_to")
        return rule


class RuleIn(RuleFields):
    """A price rule with its name."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "evening-peak",
                    "above_per_mwh": 150,
                    "release_below_per_mwh": 120,
                    "action": "cap",
                    "throughput_share": 0.8,
                    "applies_to": ["mid", "high"],
                }
            ]
        }
    )

    name: Name


class RuleView(View):
    name: str
    above_per_mwh: float
    release_below_per_mwh: float
    min_dwell_s: float
    action: str
    throughput_share: float
    applies_to: list[str]
    enabled: bool
    in_force: bool | None = Field(description="now; null = not known yet")


class RuleList(View):
    items: list[RuleView]


class ActivationView(View):
    start: Instant
    end: Instant
    highest_per_mwh: float | None


class PreviewView(View):
    """When the rule would be in force over the stored prices, and which jobs it covers now."""

    activations: list[ActivationView]
    active_s: float
    span_s: float
    active_share: float
    covers: list[str] = Field(description="ids of jobs that have not ended and that the rule is about")


@router.get("/v1/policies", summary="Price rules", responses=problems())
def list_policies(services: ServicesDep) -> RuleList:
    active = _active(services)
    return RuleList(items=[_view(rule, active) for rule in services.store.policies.list()])


@router.post("/v1/policies", status_code=201, summary="Add a price rule", responses=problems(409, 413, 415))
def add_policy(body: RuleIn, services: ServicesDep, who: CallerDep, response: Response) -> RuleView:
    rule = body.rule(body.name, services)
    if _exists(services, rule.name):
        raise Problem(409, "there is a rule of this name; use PUT to replace it", field="name")
    services.store.policies.put(rule)
    tell(services, "policy.added", name=rule.name, by=who.name)
    response.headers["Location"] = f"/v1/policies/{rule.name}"
    return _view(rule, _active(services))


@router.post(
    "/v1/policies:preview",
    summary="When a rule would be in force, without storing it",
    responses=problems(413, 415),
)
def preview_policy(
    body: RuleIn, services: ServicesDep, query: Annotated[SeriesFilter, Query()]
) -> PreviewView:
    rule = body.rule(body.name, services)
    start, end = window(query.start, query.end, services.clock.now())
    answer = services.store.series.load(Kind.PRICE)
    found = preview(rule, Series() if answer is None else answer.series.between(start, end))
    return PreviewView(
        activations=[
            ActivationView(start=a.start, end=a.end, highest_per_mwh=a.highest_per_mwh)
            for a in found.activations
        ],
        active_s=found.active_s,
        span_s=found.span_s,
        active_share=found.active_share,
        covers=[job.id for job in services.store.jobs.active() if rule.covers(job.spec)],
    )


@router.get("/v1/policies/{name}", summary="One price rule", responses=problems(404))
def get_policy(name: PathName, services: ServicesDep) -> RuleView:
    return _view(services.store.policies.get(name), _active(services))


@router.put("/v1/policies/{name}", summary="Replace a price rule", responses=problems(404, 413, 415))
def put_policy(name: PathName, body: RuleFields, services: ServicesDep, who: CallerDep) -> RuleView:
    services.store.policies.get(name)
    rule = body.rule(name, services)
    services.store.policies.put(rule)
    tell(services, "policy.changed", name=name, by=who.name)
    return _view(rule, _active(services))


@router.delete(
    "/v1/policies/{name}", status_code=204, summary="Take a price rule away", responses=problems(404)
)
def delete_policy(name: PathName, services: ServicesDep, who: CallerDep) -> None:
    services.store.policies.delete(name)
    tell(services, "policy.removed", name=name, by=who.name)


def _exists(services: Services, name: str) -> bool:
    try:
        services.store.policies.get(name)
    except NotFound:
        return False
    return True


def _active(services: Services) -> list[str] | None:
    state = services.read_state()
    return None if state is None else state["active_rules"]


def _view(rule: PriceRule, active: list[str] | None) -> RuleView:
    values = {**asdict(rule), "action": rule.action.value, "applies_to": list(rule.applies_to)}
    return RuleView(**values, in_force=None if active is None else rule.name in active)

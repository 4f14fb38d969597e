"""What routes ask for: the services, who calls, and the checks that several of them share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Path, Request
from fastapi.routing import APIRoute

from api.auth import Principal, caller
from api.errors import Problem
from api.services import Services
from api.sse import EventHub
from scheduler.published import PublishedState
from scheduler.store import Event


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _hub(request: Request) -> EventHub:
    hub: EventHub = request.app.state.hub
    return hub


async def _caller(request: Request) -> Principal:
    return caller(request)


ServicesDep = Annotated[Services, Depends(_services)]
HubDep = Annotated[EventHub, Depends(_hub)]
CallerDep = Annotated[Principal, Depends(_caller)]

JobId = Annotated[str, Path(max_length=64, examples=["job_01J9ZC2V6M8Q0T4W7X1Y3A5B6D"])]
PathName = Annotated[str, Path(max_length=200)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="the same key with the same body gives the same job, however often it is sent",
    ),
]
IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=100)]


def operation_id(route: APIRoute) -> str:
    """The operation's name in OpenAPI: the endpoint's own."""
    return route.name


def expected_revision(if_match: str | None) -> int | None:
    """The revision in an If-Match header; None for `*` and for no header.

    Raises Problem 412 for a tag that this API never handed out.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdecimal() and len(text) <= 15):
        raise Problem(412, "If-Match is not an ETag of this job")
    return int(text)


def current_state(services: Services) -> PublishedState:
    """The controller's last published state. Raises Problem 503 before its first cycle."""
    state = services.read_state()
    if state is None:
        raise Problem(
            503, "the controller has not finished its first cycle yet", headers={"Retry-After": "2"}
        )
    return state


def tell(services: Services, kind: str, *, job_id: str | None = None, **data: object) -> None:
    """Log what a person did, and wake the controller."""
    services.store.events.append(Event(kind=kind, at=services.clock.now(), job_id=job_id, data=data))
    services.wake()

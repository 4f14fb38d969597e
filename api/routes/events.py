"""The event log as a stream."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from api.auth import Authenticator
from api.dependencies import HubDep, operation_id
from api.errors import Problem, problems
from api.sse import as_sse

router = APIRouter(tags=["events"], generate_unique_id_function=operation_id)

LARGEST_ID = 2**63 - 1


class StreamFilter(BaseModel):
    """From which event on, and about which job."""

    model_config = ConfigDict(extra="forbid")

    after: Annotated[int | None, Field(ge=0, le=LARGEST_ID, description="0 = from the beginning")] = None
    job_id: Annotated[str | None, Field(max_length=64)] = None


@router.get(
    "/v1/events",
    summary="What happens, as it happens (server-sent events)",
    description="Each event has an id; send the last one seen as `Last-Event-ID` to miss nothing after a "
    "break. Without it, the stream begins now. A comment comes every 15 s when nothing happens.",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "the stream"},
        **problems(503),
    },
)
async def stream_events(
    hub: HubDep,
    request: Request,
    query: Annotated[StreamFilter, Query()],
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=30)] = None,
) -> Response:
    hub.check_room()
    after = query.after if last_event_id is None else _event_id(last_event_id)
    authenticator: Authenticator = request.app.state.authenticator
    secret = request.headers["authorization"].partition(" ")[2].strip()

    async def still_allowed() -> bool:
        return await run_in_threadpool(authenticator.find, secret) is not None

    return StreamingResponse(
        as_sse(hub, after, query.job_id, still_allowed),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


def _event_id(text: str) -> int:
    """Raises Problem 422."""
    if text.isascii() and text.isdecimal() and int(text) <= LARGEST_ID:
        return int(text)
    raise Problem(422, "is not the id of an event", field="Last-Event-ID")

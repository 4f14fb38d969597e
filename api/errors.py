"""Every refusal is a problem document (RFC 9457). Nothing that a caller sent is repeated but field names."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from scheduler.model import InvalidJob
from scheduler.quoting import NothingPublished
from scheduler.store import (
    AlreadyTerminal,
    IdempotencyConflict,
    InvalidCursor,
    NotFound,
    StaleRevision,
    StoreUnavailable,
)

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 50
MAX_NAME_LENGTH = 100


class FieldError(BaseModel):
    """One field that was refused, and why."""

    field: str = Field(examples=["gpus"])
    message: str = Field(examples=["must be at least 1"])


class ProblemDocument(BaseModel):
    """RFC 9457. `errors` names each field that was refused."""

    model_config = ConfigDict(extra="allow")

    type: str = Field("about:blank", examples=["about:blank"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["gpus: asks for 1000000 GPUs; the largest job that fits is 8"])
    errors: list[FieldError] | None = None


class Problem(Exception):
    """A refusal with its status; raised anywhere in a request, answered as a problem document."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None = None,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = f"{field}: {detail}" if field else detail
        self.errors = [(field, detail)] if field else list(errors)
        self.headers = dict(headers or {})


def problem_response(problem: Problem) -> Response:
    """The document; also used by the middleware, outside any route."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title_of(problem.status),
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.errors:
        body["errors"] = [{"field": _printable(f), "message": m} for f, m in problem.errors]
    return JSONResponse(body, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def title_of(status: int) -> str:
    return {413: "Content Too Large", 422: "Unprocessable Content"}.get(status) or HTTPStatus(status).phrase


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route in OpenAPI: these refusals, and those that any route may give."""
    return {
        status: {
            "description": title_of(status),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status in sorted({400, 401, 403, 422, 500, *statuses})
    }


def add_error_handlers(app: FastAPI) -> None:
    """Map everything that may be raised to a problem document."""

    def on_problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return problem_response(error)

    def on_validation(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem_response(_from_validation(error))

    def on_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem_response(
            Problem(error.status_code, _http_detail(error.status_code), headers=error.headers)
        )

    def on_known(_: Request, error: Exception) -> Response:
        return problem_response(from_domain(error))

    def on_bug(_: Request, error: Exception) -> Response:
        logger.error("a request failed", exc_info=error)
        return problem_response(Problem(500, "an internal error; the server's log has the details"))

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    for known in (
        InvalidJob,
        NotFound,
        StaleRevision,
        AlreadyTerminal,
        IdempotencyConflict,
        InvalidCursor,
        StoreUnavailable,
        NothingPublished,
    ):
        app.add_exception_handler(known, on_known)
    app.add_exception_handler(Exception, on_bug)


def from_domain(error: Exception) -> Problem:
    """The refusal that a domain error stands for."""
    match error:
        case InvalidJob():
            return Problem(422, error.message, field=error.field)
        case NotFound():
            return Problem(404, str(error) or "no such thing")
        case StaleRevision():
            return Problem(412, "it has changed since you read it; read it again and repeat the change")
        case AlreadyTerminal():
            return Problem(409, str(error) or "the job has ended")
        case IdempotencyConflict():
            return Problem(422, "this Idempotency-Key was used before with another body")
        case InvalidCursor():
            return Problem(422, "is not a cursor of this list", field="cursor")
        case NothingPublished():
            return Problem(503, str(error), headers=RETRY_SOON)
        case _:
            return Problem(503, "the database does not answer now; repeat the request", headers=RETRY_SOON)


RETRY_SOON = {"Retry-After": "2"}


def _http_detail(status: int) -> str:
    return {
        408: "the body did not arrive in time",
        413: "the body has more bytes than are allowed",
        400: "the body is not JSON that can be read",
        404: "no such resource",
        405: "this resource does not have that method",
    }.get(status, title_of(status))


def _from_validation(error: RequestValidationError) -> Problem:
    """Names and rules only: neither the value, nor its context, which repeats it."""
    errors = [(_field(item["loc"]), _message(item)) for item in error.errors()[:MAX_ERRORS]]
    first_field, first_message = errors[0] if errors else ("body", "is not valid")
    detail = f"{_printable(first_field)}: {first_message}"
    if len(errors) > 1:
        detail += f" (and {len(errors) - 1} more)"
    return Problem(422, detail, errors=errors)


def _message(item: Mapping[str, Any]) -> str:
    messages = {
        "missing": "is required",
        "extra_forbidden": "is not a known field",
        "json_invalid": "is not valid JSON",
        "finite_number": "must be a finite number",
    }
    return messages.get(item["type"]) or str(item["msg"]).removeprefix("Value error, ")


def _field(location: Sequence[int | str]) -> str:
    parts = location[1:] if location and location[0] in ("body", "query", "path", "header") else location
    if not parts or (len(parts) == 1 and isinstance(parts[0], int)):
        return str(location[0]) if location else "body"
    return ".".join(str(part) for part in parts)


def _printable(name: str) -> str:
    """A field's name as it can be shown: a caller chose the names of unknown fields."""
    text = "".join(c if c.isprintable() else "?" for c in name)
    return text[:MAX_NAME_LENGTH].encode("utf-8", "replace").decode()

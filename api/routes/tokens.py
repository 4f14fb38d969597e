"""Who may come in: tokens with a role and an end. A secret is shown once, when it is made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Field

from api.auth import Authenticator
from api.dependencies import CallerDep, PathName, ServicesDep, operation_id, tell
from api.errors import Problem, problems
from api.fields import Body, Instant, Name, Seconds, View
from scheduler.store import Token

router = APIRouter(tags=["tokens"], generate_unique_id_function=operation_id)

DEFAULT_S, LONGEST_S = 90 * 86400.0, 3650 * 86400.0
RoleName = Literal["viewer", "user", "operator", "admin"]


class TokenIn(Body):
    """`name` owns the jobs submitted with the token: tokens of one name share their jobs."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "ada", "role": "user"}]})

    name: Annotated[Name, Field(max_length=100)]
    role: RoleName
    expires_in_s: Annotated[Seconds, Field(le=LONGEST_S, description="real seconds; default 90 days")] = (
        DEFAULT_S
    )


class TokenView(View):
    id: str
    name: str
    role: str
    created_at: Instant
    expires_at: Instant | None
    revoked_at: Instant | None
    valid: bool


class NewToken(TokenView):
    secret: str = Field(description="shown now and never again")


class TokenList(View):
    items: list[TokenView]


@router.get("/v1/tokens", summary="All tokens, without their secrets", responses=problems())
def list_tokens(services: ServicesDep) -> TokenList:
    return TokenList(items=[_view(token) for token in services.store.tokens.list()])


@router.post("/v1/tokens", status_code=201, summary="Make a token", responses=problems(413, 415))
def create_token(body: TokenIn, services: ServicesDep, who: CallerDep, response: Response) -> NewToken:
    expires = datetime.now(UTC) + timedelta(seconds=body.expires_in_s)
    secret = services.store.tokens.create(body.name, body.role, expires=expires)
    token = services.store.tokens.find(secret)
    if token is None:  # it expired within these microseconds
        raise Problem(422, "has passed already", field="expires_in_s")
    tell(services, "token.created", id=token.id, name=body.name, role=body.role, by=who.name)
    response.headers["Location"] = f"/v1/tokens/{token.id}"
    return NewToken(**_view(token).model_dump(), secret=secret)


@router.delete(
    "/v1/tokens/{token_id}", status_code=204, summary="Revoke a token", responses=problems(404, 409)
)
def revoke_token(token_id: PathName, services: ServicesDep, who: CallerDep, request: Request) -> None:
    others = [
        token
        for token in services.store.tokens.list()
        if token.id != token_id and token.role.value == "admin" and token.valid_at(datetime.now(UTC))
    ]
    if not others:
        raise Problem(409, "this is the last admin token; make another one first")
    services.store.tokens.revoke(token_id)
    authenticator: Authenticator = request.app.state.authenticator
    authenticator.forget()
    tell(services, "token.revoked", id=token_id, by=who.name)


def _view(token: Token) -> TokenView:
    return TokenView(
        id=token.id,
        name=token.name,
        role=token.role.value,
        created_at=token.created_at,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
        valid=token.valid_at(datetime.now(UTC)),
    )

"""The door: host, origin, token, role and size are judged before one byte of a body is read.

Pure ASGI, around everything: a route that forgot a check is still behind this one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from fastapi import HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import AccessTable, Authenticator, Principal, Role
from api.errors import Problem, problem_response
from scheduler.store import StoreUnavailable

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
MAX_HEADER_BYTES = 32 * 1024
BODY_DEADLINE_S = 20.0
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class BodyTooLarge(Problem):
    """More bytes came than the limit allows."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"a body may have at most {limit} bytes", headers={"Connection": "close"})


class Door:
    """Lets a request through, with its `Principal` in the scope, or answers it with a problem."""

    def __init__(
        self, app: ASGIApp, *, access: AccessTable, authenticator: Authenticator, max_body_bytes: int
    ) -> None:
        self._app = app
        self._access = access
        self._authenticator = authenticator
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        gate = _ResponseGate(send)
        try:
            await self._admit(scope)
            await self._app(scope, self._bounded(receive), gate)
        except Problem as problem:
            if gate.started:
                raise
            await problem_response(problem)(scope, receive, gate)

    async def _admit(self, scope: Scope) -> None:
        """Raises Problem."""
        headers = Headers(scope=scope)
        _check_header_size(scope["headers"])
        _check_host(headers)
        _check_path(scope["path"])
        role = self._access.least_role(scope["method"], scope["path"])
        _check_origin(headers, navigation_allowed=role is Role.PUBLIC and scope["method"] == "GET")
        principal = None
        if role is not Role.PUBLIC:
            principal = await self._authenticate(headers)
            if principal.role < role:
                raise Problem(403, f"this needs the role {role.name.lower()}")
        scope.setdefault("state", {})["principal"] = principal
        self._check_body_headers(scope["method"], headers)

    async def _authenticate(self, headers: Headers) -> Principal:
        given = headers.getlist("authorization")
        scheme, _, secret = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() == "bearer":
            try:
                principal = await run_in_threadpool(self._authenticator.find, secret.strip())
            except StoreUnavailable as error:
                raise Problem(
                    503, "the database does not answer now", headers={"Retry-After": "2"}
                ) from error
            if principal is not None:
                return principal
        raise Problem(
            401,
            "a valid token is needed: send it as `Authorization: Bearer TOKEN`",
            headers={"WWW-Authenticate": "Bearer", "Connection": "close"},
        )

    def _check_body_headers(self, method: str, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if len(length) > 18 or not length.isdecimal() or int(length) > self._max_body_bytes:
            raise BodyTooLarge(self._max_body_bytes)
        has_body = int(length) > 0 or "transfer-encoding" in headers
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if has_body and method in WITH_BODY and content_type != "application/json":
            raise Problem(415, "a body must be JSON: send `Content-Type: application/json`")

    def _bounded(self, receive: Receive) -> Receive:
        """Counts and times what streams in: a body may lie about its length, or never end."""
        left = self._max_body_bytes
        deadline_s: float | None = time.monotonic() + BODY_DEADLINE_S

        async def bounded() -> Message:
            nonlocal left, deadline_s
            if deadline_s is None:
                return await receive()
            try:
                async with asyncio.timeout(deadline_s - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, headers={"Connection": "close"}) from None
            if message["type"] == "http.request":
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    deadline_s = None
            if left < 0:  # an HTTPException, because the framework turns any other into a 400
                raise HTTPException(413, headers={"Connection": "close"})
            return message

        return bounded


class _ResponseGate:
    """Passes a response on with the security headers, and remembers whether it has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = list(message.get("headers", ()))
            present = {name for name, _ in headers}
            headers += [(n, v) for n, v in SECURITY_HEADERS if n not in present]
            if b"cache-control" not in present:
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await self._send(message)


def _check_header_size(headers: Iterable[tuple[bytes, bytes]]) -> None:
    if sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEADER_BYTES:
        raise Problem(
            431, f"headers may have at most {MAX_HEADER_BYTES} bytes", headers={"Connection": "close"}
        )


def _check_path(path: str) -> None:
    if not path.isprintable():
        raise Problem(400, "the path has characters that no resource here has")


def _check_host(headers: Headers) -> None:
    """Only loopback names: a web page that points its own name at this machine stays outside."""
    given = headers.getlist("host")
    if len(given) != 1 or _host_name(given[0]) not in LOOPBACK_NAMES:
        raise Problem(400, "this host name is not served here; use localhost or 127.0.0.1")


def _host_name(host: str) -> str:
    if host.startswith("["):
        return (host.partition("]")[0] + "]").lower()
    return host.partition(":")[0].lower()


def _check_origin(headers: Headers, *, navigation_allowed: bool) -> None:
    """Refuse what another site's page sends. Following a link to the console is not that."""
    origin = headers.get("origin")
    if origin is not None and origin.lower().partition("://")[2] != headers["host"].lower():
        raise Problem(403, "requests from another site's page are refused")
    site = headers.get("sec-fetch-site", "none")
    is_link = navigation_allowed and headers.get("sec-fetch-mode") == "navigate"
    if site not in ("none", "same-origin") and not is_link:
        raise Problem(403, "requests from another site's page are refused")

"""Who may do what: the four roles, and for every method of every path the least role that may use it.

A path that is not in this table does not exist; a test and `create_app` hold it equal to the routes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256

from starlette.requests import Request
from starlette.routing import compile_path

from api.errors import Problem
from scheduler.model import Job
from scheduler.store import Store

MAX_SECRET_LENGTH = 256
CACHE_S = 0.5  # a revoked token is refused at most this much later
CACHE_MAX = 1024


class Role(IntEnum):
    """Each may do all that the one before it may."""

    PUBLIC = 0
    VIEWER = 1
    USER = 2
    OPERATOR = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who sent a request. `name` owns the jobs it submits."""

    token_id: str
    name: str
    role: Role

    def may_change(self, job: Job) -> bool:
        """Own jobs, and for operators all."""
        return self.role >= Role.OPERATOR or (self.role >= Role.USER and job.owner == self.name)


P, V, U, O, A = Role.PUBLIC, Role.VIEWER, Role.USER, Role.OPERATOR, Role.ADMIN  # noqa: E741

ACCESS: dict[str, dict[str, Role]] = {
    "/v1/jobs": {"GET": V, "POST": U},
    "/v1/jobs:batch": {"POST": U},
    "/v1/jobs:plan": {"POST": V},
    "/v1/jobs/{job_id}": {"GET": V, "PATCH": U, "DELETE": U},
    "/v1/jobs/{job_id}/cancel": {"POST": U},
    "/v1/jobs/{job_id}/hold": {"POST": U},
    "/v1/jobs/{job_id}/release": {"POST": U},
    "/v1/jobs/{job_id}/pause": {"POST": U},
    "/v1/jobs/{job_id}/resume": {"POST": U},
    "/v1/jobs/{job_id}/requeue": {"POST": U},
    "/v1/jobs/{job_id}/checkpoint": {"POST": U},
    "/v1/jobs/{job_id}/runs": {"GET": V},
    "/v1/jobs/{job_id}/events": {"GET": V},
    "/v1/jobs/{job_id}/logs": {"GET": V},
    "/v1/jobs/{job_id}/energy": {"GET": V},
    "/v1/jobs/{job_id}/why": {"GET": V},
    "/v1/nodes": {"GET": V},
    "/v1/nodes/{name}/cordon": {"POST": O},
    "/v1/nodes/{name}/uncordon": {"POST": O},
    "/v1/nodes/{name}/drain": {"POST": O},
    "/v1/gpus": {"GET": V},
    "/v1/gpus/{name}/cordon": {"POST": O},
    "/v1/gpus/{name}/uncordon": {"POST": O},
    "/v1/gpus/{name}/drain": {"POST": O},
    "/v1/power/domains": {"GET": V},
    "/v1/power/budgets": {"GET": V, "POST": O},
    "/v1/power/budgets/{budget_id}": {"DELETE": O},
    "/v1/power/targets": {"GET": V, "POST": O},
    "/v1/power/targets/{budget_id}": {"DELETE": O},
    "/v1/power/override": {"GET": V, "POST": O},
    "/v1/power/override/{budget_id}": {"DELETE": O},
    "/v1/power/state": {"GET": V},
    "/v1/power/decisions": {"GET": V},
    "/v1/prices": {"GET": V, "POST": O},
    "/v1/carbon": {"GET": V},
    "/v1/policies": {"GET": V, "POST": O},
    "/v1/policies:preview": {"POST": V},
    "/v1/policies/{name}": {"GET": V, "PUT": O, "DELETE": O},
    "/v1/plan": {"GET": V},
    "/v1/tokens": {"GET": A, "POST": A},
    "/v1/tokens/{token_id}": {"DELETE": A},
    "/v1/reports/energy": {"GET": V},
    "/v1/reports/cost": {"GET": V},
    "/v1/status": {"GET": V},
    "/v1/events": {"GET": V},
    "/metrics": {"GET": V},
    "/openapi.json": {"GET": V},
    "/livez": {"GET": P},
    "/readyz": {"GET": P},
}


class AccessTable:
    """Finds the least role for a request; what it does not name needs a token and is then not found."""

    def __init__(self, table: dict[str, dict[str, Role]], public_paths: frozenset[str]) -> None:
        self._public = public_paths  # the console's own files
        # The router's own patterns: two ways to read a path would be a way around the table.
        self._rows = [(compile_path(path)[0], methods) for path, methods in table.items()]

    def least_role(self, method: str, path: str) -> Role:
        if path in self._public:
            return Role.PUBLIC
        for pattern, methods in self._rows:
            if pattern.match(path):
                return methods.get("GET" if method == "HEAD" else method, Role.VIEWER)
        return Role.VIEWER


class Authenticator:
    """From a secret to who it is. Secrets are looked up by hash and never kept."""

    def __init__(self, store: Store, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic_s = monotonic_s
        self._seen: dict[bytes, tuple[float, Principal]] = {}

    def find(self, secret: str) -> Principal | None:
        """None when unknown, expired or revoked. Blocks on the database."""
        if not secret or len(secret) > MAX_SECRET_LENGTH or not secret.isascii():
            return None
        key, now_s = sha256(secret.encode()).digest(), self._monotonic_s()
        cached = self._seen.get(key)
        if cached is not None and now_s - cached[0] < CACHE_S:
            return cached[1]
        self._seen.pop(key, None)
        token = self._store.tokens.find(secret)
        if token is None:
            return None
        principal = Principal(token_id=token.id, name=token.name, role=Role[token.role.upper()])
        if len(self._seen) >= CACHE_MAX:
            self._seen.clear()
        self._seen[key] = (now_s, principal)
        return principal

    def forget(self) -> None:
        """After a revocation: ask the database again for everyone."""
        self._seen.clear()


def caller(request: Request) -> Principal:
    """Who sent this request, as the middleware found out."""
    principal: Principal = request.scope["state"]["principal"]
    return principal


def demand_owner(principal: Principal, job: Job) -> None:
    """Raises Problem 403 unless this caller may change the job."""
    if not principal.may_change(job):
        raise Problem(403, "only the job's owner or an operator may do this")

"""The REST API and the console as one ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route

from api.auth import ACCESS, AccessTable, Authenticator, Role
from api.errors import ProblemDocument, add_error_handlers
from api.middleware import Door
from api.routes import (
    budgets,
    events,
    grid,
    job_commands,
    job_story,
    jobs,
    logs,
    nodes,
    policies,
    power,
    reports,
    status,
    tokens,
)
from api.services import Services
from api.sse import EventHub
from api.web_page import page_routes

ROUTERS = (
    jobs,
    job_commands,
    job_story,
    logs,
    nodes,
    power,
    budgets,
    grid,
    policies,
    tokens,
    reports,
    events,
    status,
)

DESCRIPTION = """Submit training jobs, see what they do and cost, and keep the site under its power budget.

Send `Authorization: Bearer TOKEN`. Every refusal is a problem document (RFC 9457). Times are RFC 3339 UTC,
watts end in `_w`, money is in the site's currency. Lists page by cursor."""


class UnguardedRoute(Exception):
    """A route that the access table does not know, or a line of the table without a route."""


def create_app(services: Services) -> FastAPI:
    """The application. Run it with exactly one worker: its event streams share one poller.

    Raises UnguardedRoute.
    """
    pages = page_routes(services.console_dir)
    authenticator = Authenticator(services.store)
    access = AccessTable(ACCESS, frozenset(page.path for page in pages))
    app = FastAPI(
        title="wattmill",
        version=status.installed_version(),
        description=DESCRIPTION,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        middleware=[
            Middleware(
                Door,
                access=access,
                authenticator=authenticator,
                max_body_bytes=services.config.server.max_body_bytes,
            )
        ],
    )
    app.state.services = services
    app.state.authenticator = authenticator
    app.state.hub = EventHub(services.store.events)
    for module in ROUTERS:
        app.router.routes.extend(module.router.routes)
    app.router.routes.extend(pages)
    add_error_handlers(app)
    _check_access(app.router.routes, {page.path for page in pages})
    _describe(app)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    hub: EventHub = app.state.hub
    polling = asyncio.create_task(hub.run(), name="event-hub")
    try:
        yield
    finally:
        hub.close()
        polling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await polling


def _check_access(routes: list[BaseRoute], pages: set[str]) -> None:
    """Routes and access table must name the same things: nothing is open because it was forgotten."""
    found = {
        (route.path, method)
        for route in routes
        if isinstance(route, Route)
        for method in set(route.methods or ()) - {"HEAD"}
    }
    listed = {(path, method) for path, methods in ACCESS.items() for method in methods}
    listed |= {(path, "GET") for path in pages}
    if found != listed or any(not isinstance(route, Route) for route in routes):
        raise UnguardedRoute(f"routes and access table differ: {sorted(found ^ listed)}")


def _describe(app: FastAPI) -> None:
    """Add to the published description what the middleware does: tokens and problem documents."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            parts = schema.setdefault("components", {})
            document = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
            parts.setdefault("schemas", {}).update(document.pop("$defs", {}))
            parts["schemas"]["ProblemDocument"] = document
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path, item in schema["paths"].items():
                for method, operation in item.items():
                    role = ACCESS[path][method.upper()]
                    operation["security"] = [] if role is Role.PUBLIC else [{"token": []}]
                    operation["x-role"] = role.name.lower()
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]

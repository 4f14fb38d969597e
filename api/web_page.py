"""The console's files, each a route of its own: what is not in the folder at start cannot be asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

INDEX = "index.html"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".LICENSE": "text/plain; charset=utf-8",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page_routes(folder: Path | None) -> list[Route]:
    """Routes for the files in the folder; `/` is the index. None or no folder: none."""
    if folder is None or not folder.is_dir():
        return []
    files = [p for p in sorted(folder.rglob("*")) if p.suffix in MEDIA_TYPES and p.is_file()]
    routes = [_route(f"/{path.relative_to(folder).as_posix()}", path) for path in files]
    index = folder / INDEX
    return [_route("/", index), *routes] if index.is_file() else routes


def _route(url: str, path: Path) -> Route:
    return Route(url, _endpoint(path), methods=["GET"], include_in_schema=False)


def _endpoint(path: Path) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        content = await run_in_threadpool(path.read_bytes)
        tag = f'"{sha256(content).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers={**headers, "Content-Type": MEDIA_TYPES[path.suffix]})

    return serve

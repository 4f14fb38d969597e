"""Nobody in who does not belong: tokens, roles, hosts, origins, sizes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.routing import Route, compile_path

from api.app import UnguardedRoute, create_app
from api.auth import ACCESS, Role
from tests.api_builders import ARGV, Site, make_site, submit

OPEN = {"/livez", "/readyz"}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND")
ROLES = ("viewer", "user", "operator", "admin")


def _console(site: Site) -> set[str]:
    return {r.path for r in site.app.routes if isinstance(r, Route)} - set(ACCESS)


def _filled(path: str) -> str:
    return "/".join("x" if part.startswith("{") else part for part in path.split("/"))


def test_every_route_and_method_without_a_token_is_refused(site: Site) -> None:
    client = site.client(None)
    public = OPEN | _console(site)
    for route in site.app.routes:
        assert isinstance(route, Route)
        for method in METHODS:
            status = client.request(method, _filled(route.path)).status_code
            if route.path in public and method in ("GET", "HEAD"):
                assert status in (200, 405, 503), (method, route.path)
            elif route.path in _console(site):
                assert status == 405, (method, route.path)
            else:
                assert status == 401, (method, route.path)


def test_only_the_listed_routes_are_public(site: Site) -> None:
    console = _console(site)
    assert "/" in console
    assert all("/v1" not in path for path in console)
    assert {p for p, methods in ACCESS.items() if Role.PUBLIC in methods.values()} == OPEN


def test_unknown_paths_need_a_token_too(site: Site) -> None:
    for path in ("/v1/nothing", "/docs", "/redoc", "/openapi.json", "/metrics", "/%2e%2e/etc/passwd"):
        assert site.client(None).get(path).status_code == 401, path
    assert site.client("viewer").get("/v1/nothing").status_code == 404


@pytest.mark.parametrize("role", ROLES)
def test_a_role_below_the_table_is_refused_and_one_at_it_is_not(site: Site, role: str) -> None:
    client = site.client(role)
    endless_or_elsewhere = {"/v1/events", "/v1/tokens/{token_id}"}
    for path in ACCESS.keys() - endless_or_elsewhere:
        for method, least in ACCESS[path].items():
            status = client.request(method, _filled(path)).status_code
            if Role[role.upper()] < least:
                assert status == 403, (method, path)
            else:
                assert status not in (401, 403, 500), (method, path, status)


def test_a_path_cannot_be_written_around_its_role(site: Site) -> None:
    viewer = site.client("viewer")
    for path in (
        "/v1/tokens%0A",
        "/v1/tokens%00",
        "/v1//tokens",
        "/v1/tokens/",
        "/V1/tokens",
        "/v1/%74okens",
    ):
        assert viewer.get(path).status_code in (400, 403, 404), path
    assert compile_path("/v1/tokens")[0].match("/v1/tokens\n"), "why control characters are refused"


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "Bearer nonsense",
        "Bearer token_01J9ZC2V6M8Q0T4W7X1Y3A5B6D.nonsense",
        "Bearer " + "x" * 5000,
        "Bearer \xff\xfe",
    ],
)
def test_bad_tokens_are_refused(site: Site, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    answer = site.client(None).get("/v1/jobs", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["status"] == 401


def test_a_token_counts_only_in_its_header(site: Site) -> None:
    secret = site.secret("admin")
    client = site.client(None)
    assert client.get("/v1/jobs", params={"token": secret, "access_token": secret}).status_code == 401
    assert client.get("/v1/jobs", headers={"Cookie": f"token={secret}"}).status_code == 401


def test_two_authorization_headers_are_refused(site: Site) -> None:
    good = ("Authorization", f"Bearer {site.secret('admin')}")
    assert site.client(None).get("/v1/jobs", headers=[good, good]).status_code == 401


def test_a_revoked_token_is_refused_at_once(site: Site) -> None:
    admin, other = site.client(), site.client("operator")
    assert other.get("/v1/jobs").status_code == 200
    token_id = site.secret("operator").partition(".")[0]
    assert admin.delete(f"/v1/tokens/{token_id}").status_code == 204
    assert other.get("/v1/jobs").status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil:8787", "0.0.0.0", ""]
)
def test_foreign_hosts_are_refused(site: Site, host: str) -> None:
    answer = site.client().get("/v1/jobs", headers={"Host": host})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9", "[::1]:8787", "LOCALHOST:1"])
def test_loopback_names_are_served(site: Site, host: str) -> None:
    assert site.client().get("/v1/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_pages_are_refused(site: Site, headers: dict[str, str]) -> None:
    client = site.client()
    for method in ("GET", "POST", "DELETE"):
        assert client.request(method, "/v1/jobs", headers=headers).status_code == 403
    assert client.get("/livez", headers=headers).status_code == 403


def test_the_own_page_and_a_link_to_it_are_let_in(site: Site) -> None:
    own = {"Origin": "http://localhost:8787", "Sec-Fetch-Site": "same-origin"}
    assert site.client().get("/v1/jobs", headers=own).status_code == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert site.client(None).get("/", headers=link).status_code == 200
    assert site.client().get("/v1/jobs", headers=link).status_code == 403


def test_broken_bodies_without_a_token_are_401(site: Site) -> None:
    answer = site.client(None).post("/v1/jobs", content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_bodies_must_say_that_they_are_json(site: Site, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = site.client().post("/v1/jobs", content=b'{"argv": ["x"], "gpus": 1}', headers=headers)
    assert answer.status_code == 415


def test_headers_have_a_limit(site: Site) -> None:
    assert site.client().get("/v1/jobs", headers={"X-Long": "x" * 100_000}).status_code == 431


def test_bodies_have_a_limit(tmp_path: Path) -> None:
    site = make_site(tmp_path, server={"max_body_bytes": 2000})
    client = site.client()
    fits = client.post("/v1/jobs", json={"argv": ["x" * 1500], "gpus": 1})
    assert fits.status_code == 201
    assert client.post("/v1/jobs", json={"argv": ["x" * 2500], "gpus": 1}).status_code == 413

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b'{"argv": ["' + b"x" * 500

    streamed = client.post("/v1/jobs", content=chunks(), headers={"Content-Type": "application/json"})
    assert streamed.status_code == 413
    assert streamed.json()["title"] == "Content Too Large"
    lying = client.post(
        "/v1/jobs", content=b"{}", headers={"Content-Type": "application/json", "Content-Length": "9" * 5000}
    )
    assert lying.status_code == 413


def test_the_table_and_the_routes_must_agree(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    services = site.app.state.services
    monkeypatch.delitem(ACCESS, "/v1/status")
    with pytest.raises(UnguardedRoute, match="/v1/status"):
        create_app(services)
    monkeypatch.setitem(ACCESS, "/v1/status", {"GET": Role.VIEWER})
    create_app(replace(services, console_dir=None))


def test_answers_carry_security_headers(site: Site) -> None:
    for answer in (
        site.client().get("/v1/jobs"),
        site.client(None).get("/v1/jobs"),
        site.client(None).get("/"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
    assert "script-src 'self'" in site.client(None).get("/").headers["content-security-policy"]


class TestTwoUsers:
    """Ada's jobs are visible to Bob, and out of his reach."""

    ORDERS = ("cancel", "hold", "release", "pause", "resume", "requeue", "checkpoint")

    def test_bob_sees_but_cannot_touch(self, site: Site) -> None:
        ada, bob = site.client("ada:user"), site.client("bob:user")
        job = submit(ada, env={"SECRET": "canary"})
        path = f"/v1/jobs/{job['id']}"
        seen = bob.get(path)
        assert seen.json()["owner"] == "ada"
        assert "canary" not in seen.text + bob.get("/v1/jobs").text
        assert ada.get(path).json()["env"] == {"SECRET": "canary"}
        for order in self.ORDERS:
            assert bob.post(f"{path}/{order}").status_code == 403, order
        assert bob.delete(path).status_code == 403
        assert bob.patch(path, json={"name": "mine"}, headers={"If-Match": '"1"'}).status_code == 403
        assert site.store.jobs.get(job["id"]).revision == 1

    def test_an_operator_may(self, site: Site) -> None:
        job = submit(site.client("ada:user"))
        held = site.client("olga:operator").post(f"/v1/jobs/{job['id']}/hold")
        assert held.status_code == 202
        assert held.json()["held_by_operator"] is True
        assert site.client("ada:user").post(f"/v1/jobs/{job['id']}/release").status_code == 403
        assert site.client("ada:user").post(f"/v1/jobs/{job['id']}/cancel").status_code == 202

    def test_owner_me(self, site: Site) -> None:
        submit(site.client("ada:user"))
        assert len(site.client("ada:user").get("/v1/jobs?owner=me").json()["items"]) == 1
        assert site.client("bob:user").get("/v1/jobs?owner=me").json()["items"] == []

    def test_a_viewer_submits_nothing(self, site: Site) -> None:
        assert site.client("viewer").post("/v1/jobs", json={"argv": ARGV, "gpus": 1}).status_code == 403

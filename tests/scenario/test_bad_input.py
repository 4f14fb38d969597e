"""Nonsense through the real HTTP API of a running daemon: a clear 4xx each time, and nothing is lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.scenario.running_daemon import Daemon, daemon, wait_until

GPUS = 4
LIMIT_W = 2400.0
ARGV = [sys.executable, "-c", "print('hello')"]
BURNER = "import time\nwhile True:\n    end = time.monotonic() + 0.05\n    while time.monotonic() < end: pass"
HUNDRED_MB = 100_000_000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("site"), gpus=GPUS) as one:
        wait_until(lambda: one.state()["cycle"] > 2, 20, one.tail)
        yield one


@pytest.fixture
def site(shared: Daemon) -> Iterator[Daemon]:
    """The daemon, which must be exactly as it was when the test ends: same processes, jobs and limits."""
    before = _kept(shared)
    cycle = shared.state()["cycle"]
    yield shared
    assert _kept(shared) == before
    wait_until(lambda: shared.state()["cycle"] >= cycle + 2, 10, shared.tail)


def _kept(site: Daemon) -> Any:
    modules = ("scheduler.daemon", "api.server", "power.capd.server", "power.gpu_sim")
    jobs = [(job["id"], job["revision"]) for job in site.get("/v1/jobs")["items"]]
    rules = site.get("/v1/policies")["items"]
    limits = [site.get(f"/v1/power/{what}", include_past=True) for what in ("budgets", "targets")]
    return jobs, limits, rules, [sorted(site.pids(module)) for module in modules]


def send(site: Daemon, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    """One request; `body` may be ready text, because JSON knows no NaN."""
    text = body if isinstance(body, str | bytes) else None if body is None else json.dumps(body)
    kind = {} if text is None else {"Content-Type": "application/json"}
    with site.client() as client:
        return client.request(method, path, content=text, headers={**kind, **headers})


def refused(answer: httpx.Response, status: int, *words: str) -> None:
    """A short problem document of that status that says these words."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "detail"} <= problem.keys()
    assert problem["status"] == status
    assert len(answer.content) < 2000
    for word in words:
        assert word in problem["detail"], problem


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        ("0", ("gpus", "1")),
        ("-1", ("gpus", "1")),
        ("1000000", ("gpus", "1000000", f"the largest job that fits is {GPUS}")),
        ("1" + "0" * 400, ("gpus",)),
        ("1.5", ("gpus",)),
        ("NaN", ("gpus",)),
        ('"2"', ("gpus",)),
        ("true", ("gpus",)),
    ],
)
def test_impossible_numbers_of_gpus(site: Daemon, gpus: str, words: tuple[str, ...]) -> None:
    refused(send(site, "POST", "/v1/jobs", f'{{"argv": ["true"], "gpus": {gpus}}}'), 422, *words)
    refused(send(site, "POST", "/v1/jobs:plan", f'{{"argv": ["true"], "gpus": {gpus}}}'), 422, *words)
    batch = f'{{"jobs": [{{"argv": ["true"], "gpus": 1}}, {{"argv": ["true"], "gpus": {gpus}}}]}}'
    refused(send(site, "POST", "/v1/jobs:batch", batch), 422, "jobs.1.gpus")


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_programs_that_are_none(site: Daemon) -> None:
    for argv in ("[]", '"python"', "[1, 2]", "[null]", "{}", "7", '["a\\u0000b"]', '["\\ud800"]', '[["x"]]'):
        refused(send(site, "POST", "/v1/jobs", f'{{"argv": {argv}, "gpus": 1}}'), 422, "argv")
    refused(send(site, "POST", "/v1/jobs", {"gpus": 1}), 422, "argv")
    for torn in ('{"argv": ["true"], "gpus": 1', b"\xff\xfe", "[" * 100_000):
        answer = send(site, "POST", "/v1/jobs", torn)
        assert answer.status_code in (400, 422)
        refused(answer, answer.status_code)


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_limits_that_are_none(site: Daemon) -> None:
    for limit in ("NaN", "Infinity", "-Infinity", "1e400", "-5", "0", '"900"', "null", "true"):
        text = f'{{"domain": "site", "limit_w": {limit}}}'
        refused(send(site, "POST", "/v1/power/budgets", text), 422, "limit_w")
    base = next(d for d in site.state()["domains"] if d["name"] == "site")["base_load_w"]
    low = send(site, "POST", "/v1/power/budgets", {"domain": "site", "limit_w": base + 10})
    refused(low, 422, "limit_w", "400 W base load", f"{GPUS} idle GPUs")
    refused(send(site, "POST", "/v1/power/budgets", {"domain": "moon", "limit_w": 900}), 404, "site, node")
    backwards = {"domain": "site", "limit_w": 900, "end": "2020-01-01T00:00:00Z"}
    refused(send(site, "POST", "/v1/power/targets", backwards), 422, "end")


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_policies_that_nobody_knows(site: Daemon) -> None:
    for field, value in (("priority", "divine"), ("flex", "rubber")):
        refused(send(site, "POST", "/v1/jobs", {"argv": ARGV, "gpus": 1, field: value}), 422, field)
    refused(send(site, "POST", "/v1/jobs", {"argv": ARGV, "gpus": 1, "policy": "x"}), 422, "policy")
    for method in ("GET", "DELETE"):
        refused(send(site, method, "/v1/policies/nothing"), 404)
    rule = {"name": "r", "above_per_mwh": 100, "release_below_per_mwh": 80}
    for wrong in (
        {"applies_to": ["rubber"]},
        {"applies_to": ["priority:divine"]},
        {"action": "explode"},
        {"release_below_per_mwh": 120},
        {"min_dwell_s": -1},
        {"throughput_share": 0},
    ):
        refused(send(site, "POST", "/v1/policies", {**rule, **wrong}), 422, next(iter(wrong)))
    refused(send(site, "POST", "/v1/policies", '{"name": "r", "above_per_mwh": NaN}'), 422, "above_per_mwh")


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_strangers_stay_outside(site: Daemon) -> None:
    address = (site.data_dir / "run/address").read_text().strip()
    with site.client() as client:
        del client.headers["Authorization"]
        for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": f"Basic {site.token}"}):
            refused(client.get("/v1/jobs", headers=headers), 401, "token")
            refused(client.post("/v1/jobs", json={"argv": ARGV, "gpus": 1}, headers=headers), 401)
    for token in ("wrong", site.token[:-1], site.token + "x", site.token.swapcase(), "\xff" * 10):
        given = [(b"Authorization", b"Bearer " + token.encode("latin-1"))]
        with httpx.Client(base_url=address, headers=given, trust_env=False) as stranger:
            refused(stranger.get("/v1/jobs"), 401, "token")
    viewer = site.post("/v1/tokens", {"name": "looks", "role": "viewer"})
    with site.client(viewer["secret"]) as client:
        assert client.get("/v1/jobs").status_code == 200
        refused(client.post("/v1/jobs", json={"argv": ARGV, "gpus": 1}), 403, "user")
        refused(client.post("/v1/power/budgets", json={"domain": "site", "limit_w": 900}), 403, "operator")
    refused(send(site, "GET", "/v1/jobs/job_nothing"), 404)
    refused(send(site, "POST", "/v1/jobs/job_nothing/cancel"), 404)


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("told", [True, False], ids=["content-length", "chunked"])
def test_a_hundred_megabytes(site: Daemon, told: bool) -> None:
    """Refused long before they are all there, and the memory of the server does not grow by them."""
    (server,) = site.pids("api.server")
    before = resident_bytes(server)
    piece = b'{"argv": ["' + b"x" * 99_989
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        while sent < HUNDRED_MB:
            sent += len(piece)
            yield piece

    headers = {"Content-Type": "application/json", **({"Content-Length": str(HUNDRED_MB)} if told else {})}
    with site.client() as client:
        try:
            answer = client.post("/v1/jobs", content=pieces(), headers=headers)
        except httpx.WriteError:
            pytest.fail("the connection broke before the answer could be read")
    refused(answer, 413, "bytes")
    assert sent < HUNDRED_MB / 2
    assert resident_bytes(server) - before < 20_000_000


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_one_key_is_one_job(shared: Daemon) -> None:
    body = {"argv": ARGV, "gpus": 1, "name": "once"}
    first = send(shared, "POST", "/v1/jobs", body, **{"Idempotency-Key": "k1"})
    assert first.status_code == 201
    count = len(shared.get("/v1/jobs")["items"])
    other = send(shared, "POST", "/v1/jobs", {**body, "name": "twice"}, **{"Idempotency-Key": "k1"})
    refused(other, 422, "Idempotency-Key")
    again = send(shared, "POST", "/v1/jobs", body, **{"Idempotency-Key": "k1"})
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert len(shared.get("/v1/jobs")["items"]) == count
    for key in ("", "x" * 300, "\x01"):
        answer = send(shared, "POST", "/v1/jobs", body, **{"Idempotency-Key": key})
        assert answer.status_code in (400, 422), (key, answer.text)
    assert len(shared.get("/v1/jobs")["items"]) == count
    wait_until(lambda: shared.job(first.json()["id"])["state"] == "SUCCEEDED", 30, shared.tail)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_budget_below_the_floors_of_what_runs(shared: Daemon) -> None:
    """Accepted; it names whom it pauses, exactly those give way in time, and come back with the watts."""
    argv = [sys.executable, "-c", BURNER]
    job = {"argv": argv, "gpus": 1, "workload": "resnet50", "checkpoint_grace_s": 1}
    kept = shared.post("/v1/jobs", {**job, "name": "kept", "priority": "high"})["id"]
    paused = shared.post("/v1/jobs", {**job, "name": "paused", "pausable": True, "priority": "low"})["id"]
    stopped = shared.post("/v1/jobs", {**job, "name": "stopped"})["id"]
    everyone = (kept, paused, stopped)

    def states() -> dict[str, str]:
        return {job_id: shared.job(job_id)["state"] for job_id in everyone}

    def site_w() -> float:
        return float(next(d["accounted_w"] for d in shared.state()["domains"] if d["name"] == "site"))

    wait_until(lambda: set(states().values()) == {"RUNNING"}, 40, shared.tail)
    floor_w = site_floor_w(shared)
    limit_w = floor_w - 70  # two of the three must go: each frees less than that
    answer = shared.post("/v1/power/budgets", {"domain": "site", "limit_w": limit_w}, expect=201)
    assert set(answer["pauses"]) == {paused, stopped}
    wait_until(lambda: site_w() <= limit_w, 15, lambda: f"{site_w()} W, {states()}\n{shared.tail()}")
    wait_until(
        lambda: {k for k, s in states().items() if s != "RUNNING"} == {paused, stopped},
        5,
        lambda: f"{states()}\n{shared.tail()}",
    )
    for job_id in (paused, stopped):
        row = shared.job(job_id)
        assert row["state"] in ("PAUSED", "PAUSING", "QUEUED", "STOPPING"), row
    wait_until(lambda: shared.job(paused)["wait_reason"] == "waiting_for_power", 10, shared.tail)
    shared.post("/v1/power/budgets", {"domain": "site", "limit_w": LIMIT_W}, expect=201)
    wait_until(lambda: set(states().values()) == {"RUNNING"}, 40, lambda: f"{states()}\n{shared.tail()}")
    for job_id in everyone:
        shared.post(f"/v1/jobs/{job_id}/cancel")
    wait_until(lambda: set(states().values()) == {"CANCELLED"}, 20, shared.tail)


def site_floor_w(site: Daemon) -> float:
    """The least that the site counts at while its jobs stay: boards at their least cap, the rest as it is."""
    state = site.state()
    base_w = next(d["base_load_w"] for d in state["domains"] if d["name"] == "site")
    gpus = [gpu["min_cap_w"] if gpu["job_id"] else gpu["accounted_w"] for gpu in state["gpus"]]
    return float(base_w + sum(gpus))

"""Over a real socket: event streams, followed logs, and bodies that are never read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn

from api.sse import EventHub
from scheduler.lifecycle import move
from scheduler.model import JobState
from scheduler.store import Event, StoredEvent
from tests.api_builders import NOW, Site, submit


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = uvicorn.Config(site.app, log_config=None, access_log=False, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    site.app.state.hub.close()
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def _headers(site: Site) -> dict[str, str]:
    return {"Authorization": f"Bearer {site.secret('admin')}"}


def _add(site: Site, *kinds: str, job_id: str | None = None) -> None:
    site.store.events.append(*(Event(kind=kind, at=NOW, job_id=job_id) for kind in kinds))


def _events(lines: Iterator[str], count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        line = next(lines)
        if line.startswith("data: "):
            found.append(json.loads(line[6:]))
    return found


class TestEventStream:
    def test_new_events_come_as_they_happen(self, site: Site, url: str) -> None:
        _add(site, "old")
        with httpx.stream("GET", f"{url}/v1/events", headers=_headers(site), timeout=10) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            assert next(lines) == "retry: 2000"
            while next(lines) != ": heartbeat":
                pass
            _add(site, "one", "two")
            assert [event["kind"] for event in _events(lines, 2)] == ["one", "two"]
            _add(site, "three", job_id="job_a")
            (event,) = _events(lines, 1)
            assert event == {
                "id": 4,
                "kind": "three",
                "at": "2026-01-15T12:00:00Z",
                "job_id": "job_a",
                "run_id": None,
                "data": {},
            }

    def test_nothing_is_missed_after_a_break(self, site: Site, url: str) -> None:
        _add(site, *(f"e{n}" for n in range(1200)))
        headers = _headers(site) | {"Last-Event-ID": "3"}
        with httpx.stream("GET", f"{url}/v1/events", headers=headers, timeout=10) as answer:
            lines = answer.iter_lines()
            got = _events(lines, 1000)
            _add(site, "new")
            got += _events(lines, 198)
        assert [event["id"] for event in got] == list(range(4, 1202))

    def test_of_one_job(self, site: Site, url: str) -> None:
        _add(site, "mine", job_id="job_a")
        _add(site, "other", job_id="job_b")
        params = {"job_id": "job_a", "after": "0"}
        with httpx.stream(
            "GET", f"{url}/v1/events", params=params, headers=_headers(site), timeout=10
        ) as answer:
            lines = answer.iter_lines()
            assert _events(lines, 1)[0]["kind"] == "mine"
            _add(site, "other", job_id="job_b")
            _add(site, "again", job_id="job_a")
            assert _events(lines, 1)[0]["kind"] == "again"

    @pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 30, ""])
    def test_bad_ids(self, site: Site, last: str) -> None:
        answer = site.client().get("/v1/events", headers={"Last-Event-ID": last})
        assert answer.status_code == 422


@dataclass
class FakeLog:
    """An event log in memory that counts how it is read."""

    events: list[StoredEvent] = field(default_factory=list)
    reads: int = 0

    def add(self, *ids: int) -> None:
        self.events += [StoredEvent(id=i, kind="k", at=NOW) for i in ids]

    def after(self, id: int, limit: int = 100, job_id: str | None = None) -> Sequence[StoredEvent]:
        self.reads += 1
        return [e for e in self.events if e.id > id and job_id in (None, e.job_id)][:limit]

    def last_id(self) -> int:
        return self.events[-1].id if self.events else 0


async def _ids(hub: EventHub, after: int, until: int, pause_s: float = 0.0) -> list[int]:
    found: list[int] = []
    async for event in hub.events(after, None):
        if event is not None:
            found.append(event.id)
            await asyncio.sleep(pause_s)
            if event.id >= until:
                break
    return found


@contextlib.asynccontextmanager
async def _running(hub: EventHub) -> Any:
    polling = asyncio.create_task(hub.run())
    yield
    hub.close()
    polling.cancel()


def test_who_is_slow_reads_the_log_again_and_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.sse.QUEUE_LENGTH", 5)
    log = FakeLog()
    hub = EventHub(log, poll_s=0.001, heartbeat_s=0.05)

    async def scenario() -> list[int]:
        async with _running(hub):
            reading = asyncio.create_task(_ids(hub, 0, 300, pause_s=0.0005))
            for n in range(1, 301):
                log.add(n)
                if n % 20 == 0:
                    await asyncio.sleep(0.004)
            return await asyncio.wait_for(reading, 20)

    assert asyncio.run(scenario()) == list(range(1, 301))


def test_many_listeners_share_one_reader() -> None:
    log = FakeLog()
    hub = EventHub(log, poll_s=0.01, heartbeat_s=5)

    async def scenario() -> list[list[int]]:
        async with _running(hub):
            readers = [asyncio.create_task(_ids(hub, 0, 50)) for _ in range(40)]
            await asyncio.sleep(0.3)
            log.reads = 0
            log.add(*range(1, 51))
            return list(await asyncio.wait_for(asyncio.gather(*readers), 10))

    assert asyncio.run(scenario()) == [list(range(1, 51))] * 40
    assert log.reads < 20, "not one read per listener"


def test_nobody_listening_reads_nothing() -> None:
    log = FakeLog()
    hub = EventHub(log, poll_s=0.001)

    async def scenario() -> None:
        async with _running(hub):
            await asyncio.sleep(0.05)

    asyncio.run(scenario())
    assert log.reads == 0


class TestFollowedLogs:
    def test_until_the_job_ends(self, site: Site, url: str) -> None:
        job_id = submit(site.client())["id"]
        params = {"follow": "true"}
        got: list[bytes] = []

        def read() -> None:
            path = f"{url}/v1/jobs/{job_id}/logs"
            with httpx.stream("GET", path, params=params, headers=_headers(site), timeout=20) as answer:
                got.extend(answer.iter_raw())

        reader = threading.Thread(target=read)
        reader.start()
        run = site.run_job(job_id).run
        assert run is not None
        for line in (b"one\n", b"two\n"):
            site.logs[run.id] += line
            _wait_for(lambda line=line: line in b"".join(got))
        assert httpx.get(f"{url}/livez").status_code == 200, "a followed log holds nobody up"
        site.logs[run.id] += b"last\n"
        site.end_job(job_id)
        reader.join(10)
        assert b"".join(got) == b"one\ntwo\nlast\n"

    def test_of_an_ended_job_comes_whole_and_ends(self, site: Site, url: str) -> None:
        job_id = submit(site.client())["id"]
        run = site.run_job(job_id).run
        assert run is not None
        site.logs[run.id] = bytes(range(256)) * 2000
        site.end_job(job_id)
        answer = httpx.get(
            f"{url}/v1/jobs/{job_id}/logs?follow=true&offset=10", headers=_headers(site), timeout=20
        )
        assert answer.content == site.logs[run.id][10:]

    def test_of_a_job_that_never_ran(self, site: Site, url: str) -> None:
        job_id = submit(site.client())["id"]
        job = site.store.jobs.get(job_id)
        site.store.jobs.save(move(job, JobState.CANCELLED, NOW), JobState.QUEUED)
        answer = httpx.get(f"{url}/v1/jobs/{job_id}/logs?follow=true", headers=_headers(site), timeout=20)
        assert (answer.status_code, answer.content) == (200, b"")


def _wait_for(condition: Any, limit_s: float = 10.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "waited too long"
        time.sleep(0.02)


class TestHugeBodies:
    """100 MB are refused after the headers: the server answers before the body was sent."""

    SIZE = 100 * 1024 * 1024

    def _status_before_the_body(self, url: str, request: bytes) -> int:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(request)
            return int(connection.makefile("rb").readline().split()[1])

    def _request(self, *headers: str) -> bytes:
        lines = ["POST /v1/jobs HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
        return "\r\n".join([*lines, "", ""]).encode()

    def test_with_a_token_413(self, site: Site, url: str) -> None:
        token = f"Authorization: Bearer {site.secret('admin')}"
        request = self._request(token, f"Content-Length: {self.SIZE}")
        assert self._status_before_the_body(url, request) == 413

    def test_without_a_token_401(self, site: Site, url: str) -> None:
        assert self._status_before_the_body(url, self._request(f"Content-Length: {self.SIZE}")) == 401
        assert self._status_before_the_body(url, self._request("Transfer-Encoding: chunked")) == 401

    def test_a_body_that_never_ends_408(self, site: Site, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("api.middleware.BODY_DEADLINE_S", 0.3)
        request = self._request(f"Authorization: Bearer {site.secret('admin')}", "Content-Length: 100")
        assert self._status_before_the_body(url, request + b"{") == 408

    def test_streamed_without_a_length_413_early(self, site: Site, url: str) -> None:
        sent = 0

        def body() -> Iterator[bytes]:
            nonlocal sent
            while sent < self.SIZE:
                sent += 65536
                yield b"x" * 65536

        headers = _headers(site) | {"Content-Type": "application/json"}
        try:
            status = httpx.post(f"{url}/v1/jobs", content=body(), headers=headers, timeout=30).status_code
        except httpx.TransportError:
            status = 413  # the server hung up while the body still came
        assert status == 413
        assert sent < self.SIZE / 4

"""What tests of feeds share: a hostile web server, a feed that follows a script, a store in memory."""

from __future__ import annotations

import random
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from power.clock import FakeClock
from power.grid.feed import Feed, FeedAnswer, FeedError, Kind
from power.series import Series, Slot
from scheduler.config import Config, Signal
from scheduler.feeds import FeedPoller

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


def hourly(values: Sequence[float], start: datetime = NOON) -> Series:
    """One slot per value, an hour each."""
    hour = timedelta(hours=1)
    return Series(tuple(Slot(start + i * hour, start + (i + 1) * hour, v) for i, v in enumerate(values)))


class ScriptedFeed:
    """Gives the next item of its script at each fetch, the last one for ever: a series or an error."""

    def __init__(
        self,
        script: Sequence[Series | Exception],
        *,
        kind: Kind = Kind.PRICE,
        name: str = "scripted",
        now: Callable[[], datetime] = lambda: NOON,
        refused: tuple[str, ...] = (),
    ) -> None:
        self.kind = kind
        self.name = name
        self.fetches = 0
        self.refused = refused
        self._script = list(script)
        self._now = now

    def fetch(self, start: datetime, end: datetime) -> FeedAnswer:
        item = self._script[min(self.fetches, len(self._script) - 1)]
        self.fetches += 1
        if isinstance(item, Exception):
            raise item
        return FeedAnswer(
            kind=self.kind, series=item, source=self.name, fetched_at=self._now(), refused=self.refused
        )


class MemorySeriesStore:
    """Keeps the last answer of each kind; `broken` makes every call fail as a lost database would."""

    def __init__(self) -> None:
        self.answers: dict[Kind, FeedAnswer] = {}
        self.broken = False

    def load(self, kind: Kind) -> FeedAnswer | None:
        self._check()
        return self.answers.get(kind)

    def save(self, answer: FeedAnswer) -> None:
        self._check()
        before = self.answers.get(answer.kind)
        slots = {slot.start: slot for slot in (before.series if before else ())}
        slots.update({slot.start: slot for slot in answer.series})
        self.answers[answer.kind] = replace(answer, series=Series(tuple(slots[k] for k in sorted(slots))))

    def _check(self) -> None:
        if self.broken:
            raise OSError("database is gone")


def no_answer(name: str = "scripted") -> FeedError:
    return FeedError(f"{name}: no answer")


DAY_OF_PRICES = hourly([float(i) for i in range(24)])


def poller_config(**price: Any) -> Config:
    values = {"poll_s": 3600.0, "jitter_s": 0.0, **price}
    return Config(price=Signal(**values), carbon=Signal(poll_s=3600.0, jitter_s=0.0))


class PollerStand:
    """A poller with one scripted feed of prices, a clock and a store."""

    def __init__(self, *script: Series | Exception, rate: float = 1.0, **price: Any) -> None:
        self.clock = FakeClock(NOON, rate=rate)
        self.store = MemorySeriesStore()
        self.feed = ScriptedFeed(script or (DAY_OF_PRICES,), now=self.clock.now)
        self.changes: list[Kind] = []
        self.poller = self.another(poller_config(**price))

    def another(
        self, settings: Config, feeds: Mapping[Kind, Feed] | None = None, *, first_retry_s: float = 60.0
    ) -> FeedPoller:
        return FeedPoller(
            settings,
            self.store,
            self.clock,
            feeds={Kind.PRICE: self.feed} if feeds is None else feeds,
            on_change=self.changes.append,
            rng=random.Random(7),
            first_retry_s=first_retry_s,
        )


GOOD_BODY = b'{"unix_seconds": [1736942400], "price": [42.0], "unit": "EUR/MWh"}'


@cache
def gzip_bomb() -> bytes:
    """64 KB that unpack to 64 MB, made without ever holding them."""
    packer = zlib.compressobj(level=9, wbits=31)
    return b"".join([*(packer.compress(b" " * 1_000_000) for _ in range(64)), packer.flush()])


class HostileServer(ThreadingHTTPServer):
    """One misbehaviour per path, on 127.0.0.1; `hits` lists the paths asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hostile)
        self.hits: list[str] = []
        self.headers_seen: list[dict[str, str]] = []
        self.over = threading.Event()

    def url(self, path: str, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.server_address[1]}{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what these tests are about."""


class _Hostile(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HostileServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.hits.append(path)
        self.server.headers_seen.append({k.lower(): v for k, v in self.headers.items()})
        with suppress(OSError):
            getattr(self, f"answer_{path.strip('/').replace('-', '_')}")()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def answer_good(self) -> None:
        self._send(GOOD_BODY)

    def answer_html(self) -> None:
        self._send(b"<!doctype html><h1>Maintenance</h1>", kind="text/html; charset=utf-8")

    def answer_html_as_json(self) -> None:
        self._send(b"\n  <!doctype html><h1>Maintenance</h1>")

    def answer_untyped(self) -> None:
        self._send(GOOD_BODY, kind=None)

    def answer_redirect(self) -> None:
        self._send(b"", status=302, headers={"Location": "http://169.254.169.254/latest/meta-data/"})

    def answer_unavailable(self) -> None:
        self._send(b"busy", status=503, headers={"Retry-After": "120"})

    def answer_too_many(self) -> None:
        self._send(b"busy", status=429, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})

    def answer_announced(self) -> None:
        self._send(b"{}", headers={"Content-Length": str(10**10)})

    def answer_bomb(self) -> None:
        self._send(gzip_bomb(), headers={"Content-Encoding": "gzip"})

    def answer_endless(self) -> None:
        self._head(chunked=True)
        while not self.server.over.is_set():
            self._chunk(b" " * 65536)

    def answer_drip(self) -> None:
        self._head(chunked=True)
        while not self.server.over.wait(0.05):
            self._chunk(b" ")

    def answer_drip_head(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self.server.over.wait(0.05):
            self.wfile.write(b"X")

    def answer_informational(self) -> None:
        while not self.server.over.wait(0.02):
            self.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")

    def answer_hang(self) -> None:
        self.server.over.wait(30)

    def answer_short(self) -> None:
        self._send(b"{}", headers={"Content-Length": "500"})

    def answer_garbage(self) -> None:
        self.wfile.write(b"\x00\x01 this is no HTTP \xff\r\n\r\n")

    def _send(
        self,
        body: bytes,
        *,
        status: int = 200,
        kind: str | None = "application/json",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        lines = {"Content-Length": str(len(body)), **(headers or {})}
        if kind is not None:
            lines["Content-Type"] = kind
        for name, value in lines.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _head(self, *, chunked: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


@contextmanager
def hostile_server() -> Iterator[HostileServer]:
    with HostileServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts and never says a word: no HTTP, no TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def eventually(condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    """Wait until it holds; False after `timeout_s`."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.01)
    return condition()

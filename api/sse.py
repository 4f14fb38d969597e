"""Events as they happen: one poller for all, a bounded queue for each, the database for who falls behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool

from api.errors import Problem
from scheduler.store import StoredEvent, StoreError

logger = logging.getLogger(__name__)

POLL_S = 0.25
HEARTBEAT_S = 15.0
READ_AT_ONCE = 500
QUEUE_LENGTH = 1000
MAX_STREAMS = 128


class EventLog(Protocol):
    """The part of the store that streams need."""

    def after(self, id: int, limit: int = 100, job_id: str | None = None) -> Sequence[StoredEvent]: ...

    def last_id(self) -> int: ...


@dataclass(eq=False)
class _Listener:
    queue: asyncio.Queue[StoredEvent] = field(default_factory=lambda: asyncio.Queue(QUEUE_LENGTH))
    lagging: bool = False


class EventHub:
    """Streams of events. `run` must be running; `close` ends all streams."""

    def __init__(self, log: EventLog, *, poll_s: float = POLL_S, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._log = log
        self._poll_s = poll_s
        self._heartbeat_s = heartbeat_s
        self._listeners: set[_Listener] = set()
        self._position = 0
        self._streams = 0
        self.closing = asyncio.Event()

    async def run(self) -> None:
        """Read new events while anybody listens. Never ends by itself."""
        while True:
            await asyncio.sleep(self._poll_s)
            if not self._listeners:
                continue
            try:
                batch = await run_in_threadpool(self._log.after, self._position, READ_AT_ONCE)
            except StoreError as error:
                logger.warning("event streams cannot read the log: %s", error)
                continue
            for event in batch:
                self._position = max(self._position, event.id)
                for listener in self._listeners:
                    _offer(listener, event)

    def close(self) -> None:
        """End every stream now, and every later one at once."""
        self.closing.set()

    def check_room(self) -> None:
        """Raises Problem 503 when too many streams are open."""
        if self._streams >= MAX_STREAMS or self.closing.is_set():
            raise Problem(503, "too many streams are open", headers={"Retry-After": "5"})

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Around the life of one stream, event streams and followed logs alike."""
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def events(self, after: int | None, job_id: str | None) -> AsyncIterator[StoredEvent | None]:
        """Every event above `after` (None = from now on), in order, each once. None = nothing for a while."""
        last = after if after is not None else await run_in_threadpool(self._log.last_id)
        yield None  # listening from here on
        while not self.closing.is_set():
            async for event in self._missed(last, job_id):
                last = event.id
                yield event
            listener = await self._listen()
            try:
                async for event in self._missed(last, job_id):
                    last = event.id
                    yield event
                while not (listener.lagging or self.closing.is_set()):
                    event_or_none = await self._next(listener)
                    if event_or_none is None:
                        yield None
                    elif event_or_none.id > last and job_id in (None, event_or_none.job_id):
                        last = event_or_none.id
                        yield event_or_none
            finally:
                self._listeners.discard(listener)

    async def _listen(self) -> _Listener:
        if not self._listeners:
            # Nobody was reading: start from here. What came before is read from the log, by the listener.
            self._position = await run_in_threadpool(self._log.last_id)
        listener = _Listener()
        self._listeners.add(listener)
        return listener

    async def _missed(self, last: int, job_id: str | None) -> AsyncIterator[StoredEvent]:
        while True:
            batch = await run_in_threadpool(self._log.after, last, READ_AT_ONCE, job_id)
            for event in batch:
                last = event.id
                yield event
            if len(batch) < READ_AT_ONCE:
                return

    async def _next(self, listener: _Listener) -> StoredEvent | None:
        getting = asyncio.ensure_future(listener.queue.get())
        closing = asyncio.ensure_future(self.closing.wait())
        try:
            await asyncio.wait(
                {getting, closing}, timeout=self._heartbeat_s, return_when=asyncio.FIRST_COMPLETED
            )
            return getting.result() if getting.done() else None
        finally:
            getting.cancel()
            closing.cancel()


def _offer(listener: _Listener, event: StoredEvent) -> None:
    if listener.lagging:
        return
    try:
        listener.queue.put_nowait(event)
    except asyncio.QueueFull:
        listener.lagging = True  # it goes back to the log for what it missed


async def as_sse(
    hub: EventHub, after: int | None, job_id: str | None, still_allowed: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    """The wire format. A heartbeat comment shows a broken line; a revoked token ends the stream there."""
    with hub.counted():
        yield b"retry: 2000\n\n"
        async for event in hub.events(after, job_id):
            if event is not None:
                yield f"id: {event.id}\nevent: {event.kind}\ndata: {_json(event)}\n\n".encode()
            elif await still_allowed():
                yield b": heartbeat\n\n"
            else:
                return


def event_data(event: StoredEvent) -> dict[str, Any]:
    """An event as every way out shows it."""
    return {
        "id": event.id,
        "kind": event.kind,
        "at": event.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "job_id": event.job_id,
        "run_id": event.run_id,
        "data": dict(event.data),
    }


def _json(event: StoredEvent) -> str:
    return json.dumps(event_data(event), allow_nan=False, separators=(",", ":"))

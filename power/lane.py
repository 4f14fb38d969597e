"""One thread per device: its calls run in order, and one that hangs holds up nobody else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from power.clock import Clock, SystemClock

T = TypeVar("T")


class Lane:
    """A daemon thread that takes calls for one device; started with the first call.

    A thread stuck in a driver call cannot be killed, so it is left alone: `busy_s` shows it, and
    it never keeps the process from exiting.
    """

    def __init__(self, name: str, clock: Clock | None = None) -> None:
        self._name = name
        self._clock = clock or SystemClock()
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._began_s: float | None = None

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queue a call. Cancelling the future drops the call if it has not begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"lane-{self._name}", daemon=True)
            self._thread.start()
        future: Future[T] = Future()
        self._calls.put((future, call))
        return future

    def busy_s(self) -> float:
        """Seconds that the call now running has taken; 0 when none is."""
        began_s = self._began_s
        return 0.0 if began_s is None else max(0.0, self._clock.monotonic_s() - began_s)

    def close(self) -> None:
        """End the thread after the calls queued so far."""
        self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            self._began_s = self._clock.monotonic_s()
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the caller
                self._began_s = None
                future.set_exception(error)
            else:
                self._began_s = None
                future.set_result(result)
            del future, call, item

"""The shim's end of `control.sock`: requests to the job, reports from it. Standard library only.

Newline-delimited JSON. To the job: {"checkpoint": n, "stop": bool}. From the job, null where not known:
{"type": "progress", "step": n, "total": n, "samples": x} and {"type": "saved", "path": s, "request": n}.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import socket
import struct
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any

from scheduler.engines import run_folder

MAX_CONNECTIONS = 8
MAX_LINE_BYTES = 64 * 1024
RATE_WINDOW_S = 5.0
WRITE_EVERY_S = 0.5


class JobControl:
    """Nothing a job sends can block, crash or grow the shim."""

    def __init__(self, folder: int, poller: select.poll) -> None:
        self._folder = folder
        self._poller = poller
        self._connections: dict[int, socket.socket] = {}
        self._unread: dict[int, bytes] = {}
        self._request: dict[str, Any] | None = None
        self._asked: tuple[int, float] | None = None  # the request that waits for its answer, and since when
        self._answer: tuple[int, float | None] = (0, None)  # the newest answered one, and what it took
        self._progress = ProgressRecord()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(f"/proc/self/fd/{folder}/{run_folder.CONTROL}")
        self._listener.listen(MAX_CONNECTIONS)
        poller.register(self._listener, select.POLLIN)

    def handle(self, descriptor: int) -> None:
        """Something is ready on one of our sockets."""
        if descriptor == self._listener.fileno():
            self._accept()
        elif descriptor in self._connections:
            self._receive(descriptor)

    def ask_checkpoint(self, request: int, *, stop: bool) -> None:
        """Ask every connected process, and each that connects later, for a checkpoint."""
        self._request = {"checkpoint": request, "stop": stop}
        self._asked = (request, time.monotonic())
        for descriptor in list(self._connections):
            self._send(descriptor, self._request)

    def forget_rate(self) -> None:
        """The job stood still by our doing; that time says nothing about its pace."""
        self._progress.recent.clear()

    def write_progress(self, *, now: bool = False) -> None:
        """Write the newest report, at most every WRITE_EVERY_S unless `now`. Raises OSError."""
        report = self._progress.due(at_once=now)
        if report is not None:
            run_folder.write_json(self._folder, run_folder.PROGRESS, report)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            of_another_user = struct.unpack("3i", peer)[1] != os.getuid()
            if of_another_user or len(self._connections) >= MAX_CONNECTIONS:
                connection.close()
                return
            self._connections[connection.fileno()] = connection
            self._unread[connection.fileno()] = b""
            self._poller.register(connection, select.POLLIN)
            if self._request is not None:
                self._send(connection.fileno(), self._request)

    def _send(self, descriptor: int, message: dict[str, Any]) -> None:
        try:
            self._connections[descriptor].send(json.dumps(message).encode() + b"\n")
        except OSError:
            self._drop(descriptor)

    def _receive(self, descriptor: int) -> None:
        try:
            data = self._connections[descriptor].recv(MAX_LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._unread[descriptor] = (self._unread[descriptor] + data).split(b"\n")
        for line in lines:
            self._understand(line)
        if not data or len(self._unread[descriptor]) > MAX_LINE_BYTES:
            self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        connection = self._connections.pop(descriptor)
        self._unread.pop(descriptor)
        self._poller.unregister(connection)
        connection.close()

    def _understand(self, line: bytes) -> None:
        with contextlib.suppress(ValueError, RecursionError, OSError):
            message = json.loads(line)
            kind = message.get("type") if isinstance(message, dict) else None
            if kind == "progress":
                self._progress.take(message)
            elif kind == "saved":
                self._saved(message)

    def _saved(self, message: dict[str, Any]) -> None:
        path, request = message.get("path"), message.get("request")
        if not isinstance(path, str) or not path or len(path) > 4096 or "\0" in path:
            return
        if self._asked is not None and request == self._asked[0]:  # a later save names the same request again
            self._answer, self._asked = (request, time.monotonic() - self._asked[1]), None
        answered, answer_s = self._answer
        ack = {
            "path": path,
            "request": request if isinstance(request, int) else None,
            "at": utc_now(),
            "answered": answered,
            "answer_s": answer_s,
        }
        run_folder.write_json(self._folder, run_folder.CHECKPOINT, ack, durable=True)
        if self._request is not None and request == self._request["checkpoint"] and not self._request["stop"]:
            self._request = None  # a process that connects from now on is not asked again


class ProgressRecord:
    """The newest report and the pace of the last few."""

    def __init__(self) -> None:
        self.recent: deque[tuple[float, float]] = deque(maxlen=512)  # monotonic seconds, samples
        self._report: dict[str, Any] | None = None
        self._written_s = -math.inf
        self._samples_before = 0.0  # by earlier processes of this run, when a launcher restarted them
        self._last_samples = 0.0
        self._first_step: int | None = None

    def take(self, message: dict[str, Any]) -> None:
        """Note one report; nonsense is dropped. Without samples, a step counts as one."""
        step, total, samples = message.get("step"), message.get("total"), message.get("samples")
        if not (isinstance(step, int) and _is_count(step)) or not (total is None or _is_count(total)):
            return
        if self._first_step is None:
            self._first_step = step
        if samples is None:
            samples = max(0, step - self._first_step)
        if isinstance(samples, bool) or not isinstance(samples, (int, float)) or not 0 <= samples < 1e18:
            return
        if samples < self._last_samples:
            self._samples_before += self._last_samples
            self.recent.clear()
        self._last_samples = float(samples)
        done = self._samples_before + samples
        self.recent.append((time.monotonic(), done))
        self._report = {"at": utc_now(), "step": step, "total_steps": total, "samples": done}

    def due(self, *, at_once: bool) -> dict[str, Any] | None:
        """The report to write now, once; None when there is nothing new or it is too soon."""
        now_s = time.monotonic()
        if self._report is None or (now_s < self._written_s + WRITE_EVERY_S and not at_once):
            return None
        report, self._report, self._written_s = self._report, None, now_s
        return {**report, "samples_per_s": self._rate()}

    def _rate(self) -> float | None:
        while len(self.recent) > 2 and self.recent[0][0] < self.recent[-1][0] - RATE_WINDOW_S:
            self.recent.popleft()
        if len(self.recent) < 2:
            return None
        (first_s, first), (last_s, last) = self.recent[0], self.recent[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else None


def utc_now() -> str:
    """Real UTC time, RFC 3339."""
    return datetime.now(UTC).isoformat()


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63

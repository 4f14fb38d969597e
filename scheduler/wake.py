"""A tap on the controller's shoulder: one datagram, no content. The truth stays in the database."""

from __future__ import annotations

import contextlib
import select
import socket
from pathlib import Path

from power.unix_path import short_path


class Waker:
    """Wakes a `Sleeper` on the same path. Never blocks, never fails: a missed wake costs one period."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def wake(self) -> None:
        # An OSError means that no controller listens now: it reads everything when it starts.
        with (
            contextlib.suppress(OSError),
            short_path(self._path) as short,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        ):
            sock.setblocking(False)
            sock.sendto(b"w", short)


class Sleeper:
    """Sleeps until woken or timed out; several wakes count as one."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with short_path(path) as short:
            self._socket.bind(short)

    def wait(self, timeout_s: float) -> bool:
        """True when woken before `timeout_s` real seconds."""
        ready, _, _ = select.select([self._socket], [], [], max(0.0, timeout_s))
        if not ready:
            return False
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(64):
                pass
        return True

    def close(self) -> None:
        self._socket.close()

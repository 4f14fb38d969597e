"""The job's end of the control socket: newline-delimited JSON, without a thread and without waiting."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from typing import Any

ACK_TIMEOUT_S = 5.0
_MAX_LINE_BYTES = 64 * 1024


class Channel:
    """Silent from the first error on: a training never fails for want of a listener."""

    def __init__(self, path: str) -> None:
        self._owner = os.getpid()
        self._unread = b""
        self._unsent = b""
        self._socket: socket.socket | None = _connect(path)

    def send(self, message: dict[str, Any], *, wait: bool = False) -> bool:
        """Send a line. Without `wait`, False when it would have to wait; then nothing of it was sent."""
        if self._socket is None or os.getpid() != self._owner:  # a forked data loader is not the job
            return True
        if not self._flush(wait):
            return False
        self._unsent = json.dumps(message).encode() + b"\n"
        self._flush(wait)
        return True

    def receive(self) -> list[dict[str, Any]]:
        """All messages that have come in."""
        if self._socket is None or os.getpid() != self._owner:
            return []
        try:
            data = self._socket.recv(_MAX_LINE_BYTES)
            if not data:
                self.close()
            self._unread += data
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.close()
        *lines, self._unread = self._unread.split(b"\n")
        return [message for message in map(_parsed, lines) if message is not None]

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _flush(self, wait: bool) -> bool:
        """True when nothing is left to send. A line that was begun must be ended before the next."""
        if self._socket is None:
            return True
        self._socket.settimeout(ACK_TIMEOUT_S if wait else 0.0)
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent, socket.MSG_NOSIGNAL) :]
        except (BlockingIOError, socket.timeout):
            pass
        except OSError:
            self.close()
        finally:
            if self._socket is not None:
                self._socket.settimeout(0.0)
        return self._socket is None or not self._unsent


def _connect(path: str) -> socket.socket | None:
    """None when nobody listens. Goes through the open folder: a socket address holds 107 bytes only."""
    with contextlib.suppress(OSError):
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(ACK_TIMEOUT_S)
            try:
                connection.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
            except OSError:
                connection.close()
                raise
            connection.settimeout(0.0)
            return connection
        finally:
            os.close(folder)
    return None


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None

"""One JSON line for every limit that was set: who, epoch, old, asked, read back, latency."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

_TAIL_BYTES = 64 * 1024


class Journal:
    """Append-only, safe across threads; the file before the last rotation is kept as `.1`.

    A full or failing disk does not stop a lowering: `append` then answers False and `healthy` is False.
    """

    def __init__(self, path: Path, *, max_bytes: int = 16 * 1024 * 1024) -> None:
        self.path = path
        self.healthy = True
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    def append(self, entry: Mapping[str, object]) -> bool:
        """Write one line, stamped with wall-clock milliseconds; False when the disk refused it."""
        line = json.dumps({"at_ms": time.time_ns() // 1_000_000, **entry}).encode() + b"\n"
        with self._lock:
            if not self.healthy:
                line = b"\n" + line  # what the disk took of an earlier line must not spoil this one
            try:
                self.healthy = self._write(line)
            except OSError:
                self.healthy = False
            return self.healthy

    def last_epoch(self) -> int:
        """The highest epoch near the end of the journal; 0 when there is none."""
        for path in (self.path, self._older()):
            epochs = [_epoch_of(line) for line in _tail(path).splitlines()]
            if any(epochs):
                return max(epochs)
        return 0

    def _older(self) -> Path:
        return self.path.with_name(self.path.name + ".1")

    def _write(self, line: bytes) -> bool:
        file = os.open(
            self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            whole = os.write(file, line) == len(line)
            full = os.fstat(file).st_size >= self._max_bytes
        finally:
            os.close(file)
        if full:
            os.replace(self.path, self._older())
        return whole


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read()
    except OSError:
        return b""


def _epoch_of(line: bytes) -> int:
    try:
        entry = json.loads(line)
    except ValueError:
        return 0
    epoch = entry.get("epoch") if isinstance(entry, dict) else None
    return epoch if isinstance(epoch, int) else 0

"""A job's output, on its way from a pipe to a file of bounded size. Standard library only."""

from __future__ import annotations

import contextlib
import fcntl
import os

from scheduler.engines import run_folder

PIPE_BYTES = 1024 * 1024
_CHUNK_BYTES = 64 * 1024


class JobLog:
    """Keeps the first `cap_bytes` and counts the rest. Whatever happens to the disk, the job never waits.

    Args:
        folder: descriptor of the run's folder.
        pipe: the end to read from; `pipe` is None once the other end is closed.
        file: where to append.
    """

    def __init__(self, folder: int, pipe: int, file: int, cap_bytes: int) -> None:
        self.pipe: int | None = pipe
        self._folder = folder
        self._file = file
        self._cap_bytes = cap_bytes
        self._total_bytes = 0
        self._kept_bytes = 0
        self._truncated = False
        os.set_blocking(pipe, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def pump(self, limit_bytes: int = 4 * PIPE_BYTES) -> None:
        """Move what is in the pipe, at most `limit_bytes`, so that a flood does not starve the shim."""
        while self.pipe is not None and limit_bytes > 0:
            try:
                data = os.read(self.pipe, _CHUNK_BYTES)
            except BlockingIOError:
                return
            if not data:
                os.close(self.pipe)
                self.pipe = None
                return
            limit_bytes -= len(data)
            self._keep(data)

    def note(self, text: str) -> None:
        """A line of our own, for whoever reads the log."""
        with contextlib.suppress(OSError):
            os.write(self._file, f"[wattmill] {text}\n".encode(errors="replace"))

    def write_size(self) -> None:
        """Record how much there was and how much was kept. Raises OSError."""
        size = {"bytes": self._total_bytes, "kept_bytes": self._kept_bytes, "truncated": self._truncated}
        run_folder.write_json(self._folder, run_folder.LOG_SIZE, size)

    def _keep(self, data: bytes) -> None:
        self._total_bytes += len(data)
        room = data[: max(0, self._cap_bytes - self._kept_bytes)]
        written = 0
        with contextlib.suppress(OSError):  # a full disk costs lines, not the job
            while written < len(room):
                written += os.write(self._file, room[written:])
        self._kept_bytes += written
        if written < len(data) and not self._truncated:
            self._truncated = True
            self.note(f"log truncated after {self._kept_bytes} bytes; later output is counted, not kept")
            with contextlib.suppress(OSError):
                self.write_size()

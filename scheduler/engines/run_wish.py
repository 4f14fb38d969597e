"""What the engine wants of a run, as its shim reads it. Standard library only."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from scheduler.engines import run_folder


class RunWish:
    """The newest `wanted.json`; without one, or with nonsense in it, the wish before stands."""

    def __init__(self, folder: int, grace_s: float) -> None:
        self.wanted = "run"
        self.grace_s = grace_s
        self.checkpoint_seq = 0  # grows with each checkpoint asked for
        self._folder = folder
        self._version: tuple[int, int] | None = None

    def read(self) -> None:
        with contextlib.suppress(OSError):
            found = os.stat(run_folder.WANTED, dir_fd=self._folder, follow_symlinks=False)
            version = (found.st_ino, found.st_mtime_ns)
            if version != self._version:
                self._understand(run_folder.read_json(self._folder, run_folder.WANTED) or {})
                self._version = version

    def _understand(self, wish: dict[str, Any]) -> None:
        if wish.get("wanted") in ("run", "freeze", "stop"):
            self.wanted = wish["wanted"]
        if isinstance(wish.get("grace_s"), (int, float)):
            self.grace_s = float(wish["grace_s"])
        if isinstance(wish.get("checkpoint_seq"), int):
            self.checkpoint_seq = wish["checkpoint_seq"]

"""Where everything lies below the data folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths only; `create` makes the folders, readable by their owner alone."""

    data_dir: Path

    @property
    def runtime_dir(self) -> Path:
        return self.data_dir / "run"

    @property
    def runs_dir(self) -> Path:
        return self.data_dir / "runs"

    @property
    def checkpoints_dir(self) -> Path:
        return self.data_dir / "checkpoints"

    @property
    def gpu_map(self) -> Path:
        return self.data_dir / "gpus.map"

    @property
    def token_file(self) -> Path:
        return self.data_dir / "token"

    @property
    def clock_file(self) -> Path:
        return self.data_dir / "clock.json"

    @property
    def state_file(self) -> Path:
        return self.runtime_dir / "state.json"

    @property
    def plan_file(self) -> Path:
        return self.runtime_dir / "plan.json"

    @property
    def effective_config(self) -> Path:
        return self.runtime_dir / "config.json"

    @property
    def wake_socket(self) -> Path:
        return self.runtime_dir / "wake.sock"

    @property
    def capd_socket(self) -> Path:
        return self.runtime_dir / "capd.sock"

    @property
    def capd_lock(self) -> Path:
        return self.runtime_dir / "capd.lock"

    @property
    def capd_journal(self) -> Path:
        return self.data_dir / "caps.journal"

    @property
    def serve_lock(self) -> Path:
        return self.runtime_dir / "serve.lock"

    @property
    def controller_lock(self) -> Path:
        return self.runtime_dir / "controller.lock"

    @property
    def address_file(self) -> Path:
        return self.runtime_dir / "address"

    def create(self) -> None:
        for folder in (self.data_dir, self.runtime_dir, self.runs_dir, self.checkpoints_dir):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(self.data_dir, 0o700)

"""What must be true before any process starts: database, first token, clock, one config for all."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from power.simulated import create_map
from scheduler.config import ClockConfig, Config
from scheduler.layout import Layout
from scheduler.store import Store, open_store

FIRST_TOKEN_DAYS = 3650


def prepare(config: Config, layout: Layout) -> Config:
    """Upgrade the database, make the first admin token, fix the clock's anchors; write the effective config.

    Returns the config that every child process reads.
    """
    store = open_store(config.storage.url())
    _first_token(store, layout.token_file)
    store.close()
    if config.gpus.backend != "nvml":
        create_map(
            layout.gpu_map,
            count=config.gpus.simulated_count,
            model=config.gpus.simulated_model,
            seed=config.gpus.simulated_seed,
        )
    effective = config.model_copy(update={"clock": _anchored(config.clock, layout.clock_file)})
    _write_private(layout.effective_config, effective.model_dump_json())
    return effective


def _first_token(store: Store, path: Path) -> None:
    if path.exists() and store.tokens.list():
        return  # a token that was revoked, or has expired, is never made anew by itself
    secret = store.tokens.create(
        "first-start", "admin", expires=datetime.now(UTC) + timedelta(days=FIRST_TOKEN_DAYS)
    )
    _write_private(path, secret + "\n")


def _anchored(clock: ClockConfig, path: Path) -> ClockConfig:
    """A scaled clock keeps its anchors across restarts; a real clock needs none."""
    if clock.rate == 1.0 and clock.grid_start is None:
        return clock
    if path.exists():
        return ClockConfig.model_validate(json.loads(path.read_text()))
    now = datetime.now(UTC)
    anchored = ClockConfig(
        rate=clock.rate, grid_start=clock.grid_start or now, real_start=clock.real_start or now
    )
    _write_private(path, anchored.model_dump_json())
    return anchored


def _write_private(path: Path, text: str) -> None:
    """Replace the file in one step; only its owner may read it."""
    partial = path.with_suffix(".partial")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    os.replace(partial, path)

"""What the API is given to work with. Everything it may read, write or wake is named here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from power.budget import PowerTree
from power.clock import Clock
from scheduler.config import Config
from scheduler.model import JobSpec
from scheduler.plan_state import PlanState
from scheduler.published import PublishedState
from scheduler.store import Store

# One job's dry run: a row per flex tier with start, finish, watts, cost and CO2.
Quote = Callable[[JobSpec], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Services:
    """The API's only ways to the rest of the daemon.

    `wake` taps the controller after a write. `read_state` gives the controller's last published state, None
    before its first cycle; `read_plan` its newest plan, None before its first. `read_log(run_id, offset,
    limit)` gives at most `limit` bytes of a run's log from `offset` on, and the offset to go on from;
    EngineError where there is no such log.
    """

    store: Store
    config: Config
    clock: Clock
    wake: Callable[[], None]
    read_state: Callable[[], PublishedState | None]
    read_plan: Callable[[], PlanState | None]
    read_log: Callable[[str, int, int], tuple[bytes, int]]
    tree: PowerTree
    quote: Quote | None = None
    console_dir: Path | None = None  # static files of the web page, served at `/`

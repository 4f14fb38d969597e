"""The controller process: wires the loop and turns it. `python -m scheduler.daemon CONFIG_JSON`."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from power.backend import open_backend
from power.capd.client import CapClient
from power.clock import Clock, ScaledClock, SystemClock
from scheduler.config import ClockConfig, Config
from scheduler.cycle import Cycle
from scheduler.engines.local import LocalEngine
from scheduler.feeds import FeedPoller
from scheduler.layout import Layout
from scheduler.plan_state import PlanState
from scheduler.plant import Plant
from scheduler.published import PublishedState, publish
from scheduler.site import build_tree
from scheduler.solvers import Solvers
from scheduler.store import open_store
from scheduler.wake import Sleeper
from telemetry.logs import configure_logging
from telemetry.sampler import EnergyMark, Sampler

log = logging.getLogger("wattmill.controller")

SOLVING_POLL_S = 0.1


def open_clock(config: ClockConfig) -> Clock:
    """The machine's clock, or a scaled one from its anchors."""
    if config.rate == 1.0 and config.grid_start is None:
        return SystemClock()
    return ScaledClock(
        grid_start=_utc(config.grid_start), real_start=_utc(config.real_start), rate=config.rate
    )


def _utc(when: datetime | None) -> datetime:
    if when is None:
        raise ValueError("a scaled clock needs both anchors, clock.grid_start and clock.real_start")
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


class FilePublisher:
    """Writes state and plan where the API reads them."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def publish(self, state: PublishedState) -> None:
        """A full disk leaves the last state, which ages: it must not end the loop that keeps the budget."""
        self._write(self._layout.state_file, state)

    def publish_plan(self, state: PlanState) -> None:
        """As `publish`; the plan's age is in the state."""
        self._write(self._layout.plan_file, state)

    def _write(self, path: Path, state: PublishedState | PlanState) -> None:
        try:
            publish(path, state)
        except OSError as error:
            log.error("%s not published: %s", path.name, error)


def build_plant(config: Config) -> tuple[Plant, Callable[[], None]]:
    """The real ports, and what closes them."""
    layout = Layout(config.storage.data_dir)
    clock = open_clock(config.clock)
    backend = open_backend(config.gpus.backend, layout.gpu_map)
    store = open_store(config.storage.url(), upgrade=False)
    caps = CapClient(layout.capd_socket)
    feeds = FeedPoller(config, store.series, clock)
    solvers = Solvers(config.control)
    # Joules are counted on from where the last controller wrote them down, whatever the GPUs' counters show.
    marks = {
        uuid: EnergyMark(counter_j=counter.gpu_counter_j, energy_j=counter.counter_j)
        for uuid, counter in store.energy.last_counters().items()
        if counter.gpu_counter_j is not None
    }
    sampler = Sampler(backend, clock, resume=marks)
    plant = Plant(
        config=config,
        clock=clock,
        backend=backend.name,
        tree=build_tree(config.domains, [gpu.info for gpu in backend.gpus()]),
        telemetry=sampler,
        caps=caps,
        engine=LocalEngine(layout.runs_dir),
        signals=feeds,
        placer=solvers,
        publisher=FilePublisher(layout),
        store=store,
    )
    feeds.start()

    def close() -> None:
        feeds.stop()
        solvers.close()
        sampler.close()
        backend.close()
        store.close()

    return plant, close


def run(config: Config) -> int:
    """Turn the loop until SIGTERM. Jobs and caps stay as they are."""
    layout = Layout(config.storage.data_dir)
    _lock_or_wait(layout.controller_lock)
    plant, close = build_plant(config)
    sleeper = Sleeper(layout.wake_socket)
    stop = _StopRequest()
    cycle = Cycle(plant)
    log.info("controller up, pid %d", os.getpid())
    try:
        woken = True
        while not stop.requested:
            began_s = plant.clock.monotonic_s()
            cycle.run_once(woken=woken)
            period_s = SOLVING_POLL_S if cycle.placing else config.control.cap_period_s
            woken = sleeper.wait(began_s + period_s - plant.clock.monotonic_s())
    finally:
        sleeper.close()
        close()
    return 0


class _StopRequest:
    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True


def _lock_or_wait(path: Path) -> None:
    """One controller at a time; a second one waits. The lock lives as long as the process."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("another controller holds %s; waiting for it to end", path)
        fcntl.flock(fd, fcntl.LOCK_EX)


def main(argv: list[str]) -> int:
    configure_logging()
    return run(Config.model_validate_json(Path(argv[1]).read_text()))


if __name__ == "__main__":
    sys.exit(main(sys.argv))

"""GPUs that obey the Protocols and fail on demand, and a capd that serves them inside the test."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from power.capd.enforcer import Enforcer
from power.capd.journal import Journal
from power.capd.server import CapServer, _bind
from power.clock import Clock, SystemClock
from power.device import DeviceError, GpuInfo, GpuLost, GpuReading, NotPermitted


def gpu_info(index: int, *, min_cap_w: float = 100.0, max_cap_w: float = 300.0) -> GpuInfo:
    return GpuInfo(
        uuid=f"GPU-{index}",
        index=index,
        model="A40",
        min_cap_w=min_cap_w,
        max_cap_w=max_cap_w,
        default_cap_w=max_cap_w,
        memory_bytes=48 * 2**30,
    )


def reading(
    *,
    power_w: float | None = 60.0,
    enforced_cap_w: float | None = 300.0,
    energy_j: float | None = 0.0,
    utilization: float | None = 0.0,
    pids: tuple[int, ...] | None = (),
) -> GpuReading:
    return GpuReading(
        power_w=power_w,
        enforced_cap_w=enforced_cap_w,
        energy_j=energy_j,
        utilization=utilization,
        memory_used_bytes=0,
        temperature_c=40.0,
        sm_clock_hz=1.7e9,
        throttle_reasons=(),
        pids=pids,
    )


class FakeGpu:
    """Keeps a limit like a board does: in force at once, refused outside its range."""

    def __init__(self, index: int, *, cap_w: float = 300.0) -> None:
        self.info = gpu_info(index)
        self.cap_w = cap_w
        self.power_w: float | None = 60.0
        self.energy_j: float | None = 0.0
        self.lost = self.unreadable = self.forbidden = self.silent = False
        self.go = threading.Event()  # cleared = every call hangs until it is set
        self.go.set()
        self.writes: list[float] = []
        self.log: list[str] = []

    def read(self) -> GpuReading:
        self._reach("read")
        if self.unreadable:
            raise DeviceError(f"{self.info.uuid}: reading failed")
        return reading(power_w=self.power_w, enforced_cap_w=self.cap_w, energy_j=self.energy_j)

    def set_cap_w(self, cap_w: float) -> float:
        self._reach("set")
        if self.forbidden:
            raise NotPermitted(f"{self.info.uuid}: no right to set")
        if not self.info.min_cap_w <= cap_w <= self.info.max_cap_w:
            raise ValueError(f"{cap_w} W is outside the range of {self.info.uuid}")
        self.writes.append(cap_w)
        if not self.silent:
            self.cap_w = cap_w
        return self.cap_w

    def _reach(self, what: str) -> None:
        self.log.append(what)
        self.go.wait(20.0)
        if self.lost:
            raise GpuLost(f"{self.info.uuid}: the GPU is lost")


class FakeBackend:
    """The GPUs of a machine, as a backend."""

    name = "fake"

    def __init__(self, *gpus: FakeGpu) -> None:
        self._gpus = gpus

    def gpus(self) -> tuple[FakeGpu, ...]:
        return self._gpus

    def close(self) -> None:
        pass


def enforcer_of(
    folder: Path,
    *gpus: FakeGpu,
    clock: Clock | None = None,
    lease_s: float = 10.0,
    fail_safe: dict[str, int] | None = None,
    call_timeout_s: float = 0.3,
) -> Enforcer:
    """An enforcer with a journal in `folder`; every GPU falls to its minimum when nobody leads."""
    lowest = {gpu.info.uuid: round(gpu.info.min_cap_w * 1000) for gpu in gpus}
    return Enforcer(
        gpus,
        clock=clock or SystemClock(),
        lease_s=lease_s,
        fail_safe=lowest if fail_safe is None else fail_safe,
        journal=Journal(folder / "journal.jsonl"),
        call_timeout_s=call_timeout_s,
    )


def journal_lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


@asynccontextmanager
async def serving(
    enforcer: Enforcer, folder: Path, *, peer_uids: frozenset[int] | None = None
) -> AsyncIterator[CapServer]:
    """capd's socket in `folder`, served by this event loop, with the watch running."""
    peers = frozenset({os.geteuid()}) if peer_uids is None else peer_uids
    server = CapServer(enforcer, SystemClock(), peer_uids=peers)
    await enforcer.start()
    listener = await asyncio.start_unix_server(server.connected, sock=_bind(folder / "capd.sock"), limit=4096)
    watch = asyncio.create_task(enforcer.watch(period_s=0.02, repeat_s=0.05))
    try:
        yield server
    finally:
        watch.cancel()
        listener.close()
        await listener.wait_closed()

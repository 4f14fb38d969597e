"""What capd does to GPUs: read a limit, set one that may be set, and lower all when nobody leads.

Device calls run on one lane per GPU, so a GPU that hangs delays only its own answers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from power.capd.journal import Journal
from power.capd.lease import Lease
from power.capd.protocol import Code, Refused
from power.clock import Clock
from power.device import DeviceError, Gpu, GpuLost, NotPermitted, NotSupported, PowerCappable
from power.lane import Lane

T = TypeVar("T")
_CODES = {NotPermitted: Code.NOT_PERMITTED, NotSupported: Code.NOT_SUPPORTED, GpuLost: Code.GPU_LOST}


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOutcome:
    """What one set did; milliwatts, None = the GPU does not say."""

    asked: int
    before: int | None
    read_back: int
    latency_us: int


class _Guarded:
    """One GPU with its lane, its range in whole milliwatts, and the limit last seen."""

    def __init__(self, gpu: Gpu, clock: Clock) -> None:
        self.gpu = gpu
        self.lane = Lane(gpu.info.uuid, clock)
        self.min = math.ceil(gpu.info.min_cap_w * 1000 - 1e-6)
        self.max = math.floor(gpu.info.max_cap_w * 1000 + 1e-6)
        self.known: int | None = None

    def read(self) -> int | None:
        cap_w = self.gpu.read().enforced_cap_w
        if cap_w is None or not math.isfinite(cap_w):
            return None
        self.known = round(cap_w * 1000)
        return self.known

    def write(self, cap: int) -> int:
        """The limit read back, in milliwatts. Raises DeviceError."""
        if not isinstance(self.gpu, PowerCappable):
            raise NotSupported(f"GPU {self.gpu.info.uuid} has no settable limit")
        self.known = None  # a set that fails half-way leaves the limit unknown
        self.known = round(self.gpu.set_cap_w(min(max(cap, self.min), self.max) / 1000) * 1000)
        return self.known


class Enforcer:
    """All limits of the GPUs it was told to guard. One event loop calls it."""

    def __init__(
        self,
        gpus: Sequence[Gpu],
        *,
        clock: Clock,
        lease_s: float,
        fail_safe: Mapping[str, int],
        journal: Journal,
        call_timeout_s: float = 2.0,
    ) -> None:
        self.lease = Lease(lease_s, epoch=journal.last_epoch(), now_s=clock.monotonic_s())
        self.fail_safe_active = False
        self._clock = clock
        self._journal = journal
        self._fail_safe = dict(fail_safe)
        self._timeout_s = call_timeout_s
        self._guarded = {gpu.info.uuid: _Guarded(gpu, clock) for gpu in gpus}

    @property
    def uuids(self) -> tuple[str, ...]:
        return tuple(self._guarded)

    async def start(self) -> None:
        """Look at every limit and write down what was found, before anything may be set."""
        found = await self.read_all()
        self._journal.append({"event": "start", "epoch": self.lease.epoch, "gpus": found})

    def take(self, pid: int) -> int:
        epoch = self.lease.take(self._clock.monotonic_s())
        self.fail_safe_active = False
        self._journal.append({"event": "take", "epoch": epoch, "pid": pid})
        return epoch

    def renew(self, epoch: int) -> None:
        """Raises Refused with STALE_EPOCH."""
        self._check_epoch(epoch)
        self.lease.renew(self._clock.monotonic_s())

    async def read_all(self) -> dict[str, dict[str, object]]:
        """Limits and ranges by UUID; a GPU that fails has `cap` None and says why."""
        rows = await asyncio.gather(*(self._read_one(uuid) for uuid in self._guarded))
        return dict(zip(self._guarded, rows, strict=True))

    async def set(self, epoch: int, uuid: str, cap: int, *, pid: int) -> SetOutcome:
        """Set one limit for the controller of `epoch`. Raises Refused."""
        guarded = self._guarded.get(uuid)
        if guarded is None:
            raise Refused(Code.NOT_ALLOWED, f"GPU {uuid} is not one of those guarded here")

        def admitted(before: int | None) -> bool:
            self._check_epoch(epoch)  # again: it may have gone stale while the call waited
            if before is None or cap > before:
                self._check_journal(epoch)
            return True

        self._check_epoch(epoch)
        outcome = await self._on_lane(guarded, lambda: self._set(guarded, cap, admitted, epoch, f"pid {pid}"))
        assert outcome is not None  # `admitted` raises, it never declines
        return outcome

    async def watch(self, period_s: float = 0.25, repeat_s: float = 1.0) -> None:
        """For ever: when the lease has run out, bring every GPU down to its fail-safe limit, and keep it."""
        while True:
            if self.lease.expired(self._clock.monotonic_s()):
                await self.lower_all()
                await asyncio.sleep(repeat_s)
            await asyncio.sleep(period_s)

    async def lower_all(self) -> None:
        """Apply the fail-safe limits, downward only; a GPU that fails is tried again next time."""
        if not self.fail_safe_active:
            self.fail_safe_active = True
            self._journal.append({"event": "lease_lost", "epoch": self.lease.epoch})
        names = [uuid for uuid in self._fail_safe if uuid in self._guarded]
        await asyncio.gather(*(self._lower(uuid) for uuid in names), return_exceptions=True)

    async def _lower(self, uuid: str) -> None:
        guarded, cap = self._guarded[uuid], self._fail_safe[uuid]

        def above(before: int | None) -> bool:
            if not self.lease.expired(self._clock.monotonic_s()):
                return False  # somebody leads again
            return before is None or before > max(cap, guarded.min)

        await self._on_lane(guarded, lambda: self._set(guarded, cap, above, self.lease.epoch, "fail_safe"))

    def _set(
        self, guarded: _Guarded, cap: int, wanted: Callable[[int | None], bool], epoch: int, who: str
    ) -> SetOutcome | None:
        """On the lane: look, ask `wanted`, set, read back, write down. None when not wanted."""
        before = self._before(guarded)
        if not wanted(before):
            return None
        began_s = self._clock.monotonic_s()
        line: dict[str, object] = {"event": "set", "who": who, "epoch": epoch, "uuid": guarded.gpu.info.uuid}
        line |= {"old": before, "asked": cap}
        try:
            read_back = guarded.write(cap)
        except Exception as error:
            self._journal.append(line | {"read_back": None, "error": str(error)})
            raise
        latency_us = round((self._clock.monotonic_s() - began_s) * 1e6)
        self._journal.append(line | {"read_back": read_back, "latency_us": latency_us})
        return SetOutcome(asked=cap, before=before, read_back=read_back, latency_us=latency_us)

    def _before(self, guarded: _Guarded) -> int | None:
        """The limit in force; what was last seen where it cannot be read. Raises GpuLost."""
        try:
            return guarded.read()
        except GpuLost:
            raise
        except DeviceError:
            return guarded.known

    def _check_epoch(self, epoch: int) -> None:
        if not self.lease.admits(epoch, self._clock.monotonic_s()):
            raise Refused(
                Code.STALE_EPOCH, f"epoch {epoch} is not live, the current one is {self.lease.epoch}"
            )

    def _check_journal(self, epoch: int) -> None:
        if not self._journal.healthy and not self._journal.append({"event": "retry", "epoch": epoch}):
            raise Refused(Code.JOURNAL, "the journal cannot be written, so nothing is raised")

    async def _read_one(self, uuid: str) -> dict[str, object]:
        guarded = self._guarded[uuid]
        row: dict[str, object] = {"cap": None, "min": guarded.min, "max": guarded.max}
        try:
            row["cap"] = await self._on_lane(guarded, guarded.read)
        except Refused as error:
            row["error"] = str(error.code)
        return row

    async def _on_lane(self, guarded: _Guarded, call: Callable[[], T]) -> T:
        """Run on the GPU's lane within the time limit. Raises Refused."""
        if guarded.lane.busy_s() > self._timeout_s:
            raise Refused(Code.BUSY, "an earlier call to this GPU still hangs")
        future = guarded.lane.submit(call)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._timeout_s)
        except TimeoutError:
            raise Refused(Code.TIMEOUT, f"no answer within {self._timeout_s} s") from None
        except Refused:
            raise
        except DeviceError as error:
            raise Refused(_CODES.get(type(error), Code.DEVICE), str(error)) from error
        except Exception as error:  # a broken driver must not take the enforcer down
            raise Refused(Code.DEVICE, f"{type(error).__name__}: {error}") from error

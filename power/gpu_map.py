"""The mapped file in which simulated GPUs live, so that every process sees the same hardware.

The `gpu-sim` process (`gpu_sim.py`) moves the physics; `simulated.py` and the fake NVML library of the
tests show it as GPUs.

Layout of the file: little-endian 8-byte words, aligned, each with ONE writer, so no word is ever torn.

    header, 16 words:  0 magic  1 version  2 GPU count  3 seed | 4 driver generation (setter)
                       5 ticks  6 last tick, CLOCK_MONOTONIC ns (both gpu-sim)
    then one record of 128 words per GPU:
      fixed at creation   0-5 uuid  6-11 model (NUL-padded text)
                          12 least cap W  13 highest cap W  14 default cap W (doubles)  15 memory bytes
      setters             16 limit W (double): in force at once, as with a real driver
                          17 fault bits (`Fault`)
      gpu-sim             24 draw W  25 energy J  26 utilization 0..1 (doubles)  27 memory used bytes
                          28 temperature C  29 SM clock Hz (doubles)  30 throttle bits (NVML's)
                          31 the limit that the silicon has settled to, W  32 demand, share of the
                          highest cap  33 pace: share of time that processes may run (doubles)
                          34 1 while processes are held stopped
                          35 number of processes  36-99 their pids (the first 64)
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import mmap
import os
import struct
import sys
import time
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Final

from power.curve import board_caps_w
from power.device import DeviceError, GpuInfo, LibraryMissing

MAX_PIDS: Final = 64
_MAGIC: Final = int.from_bytes(b"WATTGPUS", "little")
_VERSION: Final = 1
_HEADER_WORDS: Final = 16
_RECORD_WORDS: Final = 128
_TEXT_BYTES: Final = 48
# gpu-sim ticks at 5 to 20 Hz; after this long without a tick its readings are unknown, not old.
STALE_AFTER_S: Final = 5.0
_MEMORY_GIB: Final = {"A40": 48, "V100": 32, "RTX6000": 24, "A100": 80, "H100": 80, "H200": 141, "B200": 180}


class Header(IntEnum):
    MAGIC = 0
    VERSION = 1
    COUNT = 2
    SEED = 3
    GENERATION = 4
    TICKS = 5
    TICKED_AT_NS = 6


class Word(IntEnum):
    """Places in a GPU's record, in 8-byte words."""

    UUID = 0
    MODEL = 6
    MIN_CAP_W = 12
    MAX_CAP_W = 13
    DEFAULT_CAP_W = 14
    MEMORY_BYTES = 15
    LIMIT_W = 16
    FAULTS = 17
    POWER_W = 24
    ENERGY_J = 25
    UTILIZATION = 26
    MEMORY_USED_BYTES = 27
    TEMPERATURE_C = 28
    SM_CLOCK_HZ = 29
    THROTTLE_BITS = 30
    SETTLED_W = 31
    DEMAND = 32
    PACE = 33
    HELD = 34
    PID_COUNT = 35
    PIDS = 36


class Fault(IntFlag):
    """What can be broken on a simulated GPU, live."""

    LOST = 1  # every call fails as if it fell off the bus
    NO_PERMISSION = 2  # limits cannot be set
    SET_IS_NOOP = 4  # a set succeeds and changes nothing
    POWER_NA = 8  # no power reading
    ENERGY_NA = 16  # no energy counter


class GpuMap:
    """The mapped file. Words are read and written whole; which process may write which is in the layout.

    Raises:
        LibraryMissing: there is no such file, or it is not one of ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if sys.byteorder != "little":
            raise LibraryMissing("simulated GPUs need a little-endian machine")
        try:
            with open(path, "r+b") as file:
                self._mmap = mmap.mmap(file.fileno(), 0)
        except (OSError, ValueError) as error:
            raise LibraryMissing(f"no simulated GPUs at {path}: {error}") from error
        if not _is_ours(self._mmap):
            self._mmap.close()
            raise LibraryMissing(f"{path} is not a map of simulated GPUs, or of another version")
        # Native items are copied as one aligned 8-byte move, so a reader never sees half a value.
        self._doubles = memoryview(self._mmap).cast("d")
        self._integers = memoryview(self._mmap).cast("Q")

    @property
    def count(self) -> int:
        return self.header(Header.COUNT)

    def header(self, word: Header) -> int:
        return self._integers[word]

    def set_header(self, word: Header, value: int) -> None:
        self._integers[word] = value

    def number(self, index: int, word: Word) -> float:
        return self._doubles[_place(index, word)]

    def set_number(self, index: int, word: Word, value: float) -> None:
        self._doubles[_place(index, word)] = value

    def integer(self, index: int, word: Word) -> int:
        return self._integers[_place(index, word)]

    def set_integer(self, index: int, word: Word, value: int) -> None:
        self._integers[_place(index, word)] = value

    def text(self, index: int, word: Word) -> str:
        start = _place(index, word) * 8
        return self._mmap[start : start + _TEXT_BYTES].rstrip(b"\0").decode()

    def pids(self, index: int) -> tuple[int, ...]:
        start = _place(index, Word.PIDS)
        count = min(self.integer(index, Word.PID_COUNT), MAX_PIDS)
        return tuple(pid for pid in self._integers[start : start + count].tolist() if pid)

    def set_pids(self, index: int, pids: tuple[int, ...]) -> None:
        start = _place(index, Word.PIDS)
        for offset in range(MAX_PIDS):
            self._integers[start + offset] = pids[offset] if offset < len(pids) else 0
        self.set_integer(index, Word.PID_COUNT, len(pids))

    def info(self, index: int) -> GpuInfo:
        return GpuInfo(
            uuid=self.text(index, Word.UUID),
            index=index,
            model=self.text(index, Word.MODEL),
            min_cap_w=self.number(index, Word.MIN_CAP_W),
            max_cap_w=self.number(index, Word.MAX_CAP_W),
            default_cap_w=self.number(index, Word.DEFAULT_CAP_W),
            memory_bytes=self.integer(index, Word.MEMORY_BYTES),
        )

    def faults(self, index: int) -> Fault:
        return Fault(self.integer(index, Word.FAULTS))

    def moving(self) -> bool:
        """Whether a gpu-sim has moved the physics lately."""
        ticked_at_ns = self.header(Header.TICKED_AT_NS)  # before the clock, lest a tick comes in between
        age_ns = time.monotonic_ns() - ticked_at_ns
        return self.header(Header.TICKS) > 0 and 0 <= age_ns < STALE_AFTER_S * 1e9

    def close(self) -> None:
        self._doubles.release()
        self._integers.release()
        self._mmap.close()


def _is_ours(content: mmap.mmap) -> bool:
    if len(content) < _HEADER_WORDS * 8:
        return False
    magic, version, count = struct.unpack_from("<3Q", content)
    return (magic, version, (_HEADER_WORDS + count * _RECORD_WORDS) * 8) == (_MAGIC, _VERSION, len(content))


def _place(index: int, word: Word) -> int:
    return _HEADER_WORDS + index * _RECORD_WORDS + word


def create_map(path: Path, count: int, model: str, seed: int) -> None:
    """Make the file of `count` GPUs unless it is there; limits and energy of an existing one are kept.

    Asking for another count or model replaces the file, carrying over the GPUs that stay what they were.

    Raises:
        DeviceError: it would have to be replaced while a gpu-sim runs on it.
        ValueError: no GPUs, or more than 4096.
    """
    if not 1 <= count <= 4096:
        raise ValueError(f"there must be 1 to 4096 simulated GPUs, got {count}")
    records = [_new_record(path, index, model, seed) for index in range(count)]
    kept = _records_of(path)
    if [record[:96] for record in kept] == [record[:96] for record in records]:
        return
    if kept and lock_holder_lives(path):
        raise DeviceError(f"{path} is in use with other GPUs: stop its gpu-sim before changing them")
    by_identity = {record[:96]: record for record in kept}
    body = b"".join(by_identity.get(record[:96], record) for record in records)
    header = struct.pack("<4Q", _MAGIC, _VERSION, count, seed & (2**64 - 1)).ljust(_HEADER_WORDS * 8, b"\0")
    scratch = path.with_name(f"{path.name}.{os.getpid()}.new")
    scratch.write_bytes(header + body)
    if kept:
        scratch.replace(path)
        return
    # Never over a file that another process has just made and mapped.
    with contextlib.suppress(FileExistsError):
        os.link(scratch, path)
    scratch.unlink()


def lock_path(map_path: Path) -> Path:
    """The file that the one gpu-sim of a map holds locked."""
    return map_path.with_name(map_path.name + ".lock")


def lock_holder_lives(map_path: Path) -> bool:
    try:
        with open(lock_path(map_path), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def set_fault(map_path: Path, index: int, fault: Fault, on: bool) -> None:
    """Break or mend one GPU while others look at it. For tests and drills."""
    gpu_map = GpuMap(map_path)
    faults = gpu_map.faults(index)
    gpu_map.set_integer(index, Word.FAULTS, int(faults | fault if on else faults & ~fault))
    gpu_map.close()


def reload_driver(map_path: Path) -> None:
    """What a driver reload does: every limit is back at its default, and old handles are void."""
    gpu_map = GpuMap(map_path)
    for index in range(gpu_map.count):
        gpu_map.set_number(index, Word.LIMIT_W, gpu_map.number(index, Word.DEFAULT_CAP_W))
    gpu_map.set_header(Header.GENERATION, gpu_map.header(Header.GENERATION) + 1)
    gpu_map.close()


def _records_of(path: Path) -> list[bytes]:
    try:
        GpuMap(path).close()
    except LibraryMissing:
        return []
    content = path.read_bytes()
    step = _RECORD_WORDS * 8
    return [content[start : start + step] for start in range(_HEADER_WORDS * 8, len(content), step)]


def _new_record(path: Path, index: int, model: str, seed: int) -> bytes:
    least_w, highest_w, idle_w = board_caps_w(model)
    # Of the path, so that two installations on one machine never share a GPU.
    name = hashlib.sha256(f"{path.resolve()}:{seed}:{index}".encode()).hexdigest()
    uuid = f"GPU-51{name[:6]}-{name[6:10]}-{name[10:14]}-{name[14:18]}-{name[18:30]}"
    record = bytearray(_RECORD_WORDS * 8)
    struct.pack_into("<48s48s", record, 0, uuid.encode(), model.encode()[: _TEXT_BYTES - 1])
    memory_bytes = _MEMORY_GIB.get(model.upper(), 48) * 2**30
    struct.pack_into(
        "<3dQd", record, Word.MIN_CAP_W * 8, least_w, highest_w, highest_w, memory_bytes, highest_w
    )
    struct.pack_into("<d", record, Word.POWER_W * 8, idle_w)
    struct.pack_into("<d", record, Word.TEMPERATURE_C * 8, math.nan)
    struct.pack_into("<d", record, Word.SETTLED_W * 8, highest_w)
    return bytes(record)

"""capd: the process that alone changes GPU limits. `python -m power.capd.server --help`.

It looks before it sets, keeps the limits when it ends, and brings them down when nobody leads.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from power.backend import open_backend
from power.capd.client import CapClient, CapdUnavailable
from power.capd.enforcer import Enforcer
from power.capd.journal import Journal
from power.capd.protocol import (
    MAX_LINE_BYTES,
    VERSION,
    Code,
    Refused,
    Request,
    encode,
    parse,
    refusal,
)
from power.clock import Clock, SystemClock
from power.device import LibraryMissing
from power.unix_path import short_path

log = logging.getLogger("wattmill.capd")

MAX_CONNECTIONS = 32
_LINGER_S = 0.2
_FAREWELL_S = 0.05  # for the answer to `quit` to leave
_PIPELINE = 256  # requests of one connection that may wait for their answers


class AlreadyRunning(Exception):
    """Another capd holds the lock."""


class CapServer:
    """Answers controllers on a Unix socket until told to quit."""

    def __init__(self, enforcer: Enforcer, clock: Clock, *, peer_uids: frozenset[int]) -> None:
        self.quitting = asyncio.Event()
        self._enforcer = enforcer
        self._clock = clock
        self._peer_uids = peer_uids
        self._open = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; whatever its peer does ends here."""
        self._open += 1
        try:
            pid = self._admit(writer)
            await self._converse(reader, writer, pid)
        except Refused as error:
            writer.write(encode(refusal(error)))
        except (ConnectionError, asyncio.CancelledError):
            pass  # the peer went away, or capd is ending: what was asked for is done all the same
        finally:
            self._open -= 1
            await _part(reader, writer)

    def _admit(self, writer: asyncio.StreamWriter) -> int:
        """The peer's process. Raises Refused for another user's."""
        sock: socket.socket = writer.get_extra_info("socket")
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _ = struct.unpack("3i", credentials)
        if uid not in self._peer_uids:
            raise Refused(Code.FORBIDDEN, "this user may not set power limits")
        if self._open > MAX_CONNECTIONS:
            raise Refused(Code.CROWDED, f"{MAX_CONNECTIONS} connections are open")
        return int(pid)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pid: int) -> None:
        answers: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(_PIPELINE)
        sender = asyncio.create_task(_send(answers, writer))
        try:
            while not sender.done():
                line = await reader.readuntil(b"\n")
                await answers.put(asyncio.create_task(self._answer(line, pid)))
        except asyncio.LimitOverrunError:
            await answers.put(asyncio.create_task(_refused(Code.MALFORMED, "the line is too long")))
        except asyncio.IncompleteReadError:
            pass
        finally:
            await answers.put(None)
            await sender

    async def _answer(self, line: bytes, pid: int) -> bytes:
        try:
            return encode({"ok": True, **await self._do(parse(line), pid)})
        except Refused as error:
            return encode(refusal(error))
        except Exception as error:
            log.exception("a request failed")
            return encode(refusal(Refused(Code.DEVICE, f"{type(error).__name__}: {error}")))

    async def _do(self, request: Request, pid: int) -> Mapping[str, object]:
        match request.verb:
            case "take":
                return {"epoch": self._enforcer.take(pid)}
            case "renew":
                self._enforcer.renew(request.epoch)
            case "set":
                asked = (request.epoch, request.uuid, request.cap_milliwatt)
                return asdict(await self._enforcer.set(*asked, pid=pid))
            case "read":
                return {"gpus": await self._enforcer.read_all()}
            case "quit":
                log.info("asked to quit by process %d; limits stay", pid)
                asyncio.get_running_loop().call_later(_FAREWELL_S, self.quitting.set)
        return self._status()

    def _status(self) -> dict[str, object]:
        lease = self._enforcer.lease
        return {
            "version": VERSION,
            "pid": os.getpid(),
            "epoch": lease.epoch,
            "lease_ms": round(lease.lease_s * 1000),
            "left_ms": round(lease.remaining_s(self._clock.monotonic_s()) * 1000),
            "fail_safe": int(self._enforcer.fail_safe_active),
            "uuids": self._enforcer.uuids,
        }


async def _part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close so that the last answer arrives: what the peer still sends is read, shortly, and dropped."""
    with suppress(OSError, TimeoutError, asyncio.CancelledError):
        writer.write_eof()
        async with asyncio.timeout(_LINGER_S):
            while await reader.read(MAX_LINE_BYTES):
                pass
    writer.close()
    with suppress(ConnectionError, asyncio.CancelledError):
        await writer.wait_closed()


async def _send(answers: asyncio.Queue[asyncio.Task[bytes] | None], writer: asyncio.StreamWriter) -> None:
    """Answers in the order of the requests, each as soon as all before it are out."""
    gone = False
    while (answer := await answers.get()) is not None:
        line = await answer
        if gone:
            continue  # keep emptying the queue: the requests are carried out all the same
        try:
            writer.write(line)
            await writer.drain()
        except ConnectionError:
            gone = True


async def _refused(code: Code, detail: str) -> bytes:
    return encode(refusal(Refused(code, detail)))


async def serve(enforcer: Enforcer, socket_path: Path, *, clock: Clock, peer_uids: frozenset[int]) -> None:
    """Look at the limits, then answer until SIGTERM, SIGINT or `quit`. The limits stay as they are."""
    server = CapServer(enforcer, clock, peer_uids=peer_uids)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.quitting.set)
    await enforcer.start()
    listener = await asyncio.start_unix_server(
        server.connected, sock=_bind(socket_path), limit=MAX_LINE_BYTES, backlog=MAX_CONNECTIONS
    )
    watch = asyncio.create_task(enforcer.watch())
    quitting = asyncio.create_task(server.quitting.wait())
    log.info("guarding %d GPUs on %s", len(enforcer.uuids), socket_path)
    await asyncio.wait((watch, quitting), return_when=asyncio.FIRST_COMPLETED)
    listener.close()
    with suppress(FileNotFoundError):
        socket_path.unlink()
    if watch.done():
        watch.result()  # the watch never ends by itself: say why it did
    watch.cancel()


def _bind(path: Path) -> socket.socket:
    """A listening-ready socket that was never open to others, in place of any left by a dead capd."""
    with suppress(FileNotFoundError):
        path.unlink()  # nobody serves it: the caller holds the lock
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with short_path(path) as name:
            sock.bind(name)
    finally:
        os.umask(before)
    return sock


def hold_lock(path: Path, wait_s: float = 10.0) -> int:
    """The open lock file, held until this process ends. Raises AlreadyRunning after `wait_s`."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    give_up_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() >= give_up_s:
                os.close(file)
                raise AlreadyRunning(f"another capd holds {path}") from None
            time.sleep(0.05)


def take_over(lock_path: Path, socket_path: Path) -> int:
    """The lock, after asking a capd that an earlier supervisor left behind to quit. Raises AlreadyRunning."""
    try:
        return hold_lock(lock_path, wait_s=0.0)
    except AlreadyRunning:
        log.info("another capd holds the lock: asking it to quit")
    with suppress(CapdUnavailable):
        CapClient(socket_path).quit()
    return hold_lock(lock_path)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="capd", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--lock", type=Path, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--backend", choices=("nvml", "simulated"), required=True)
    parser.add_argument("--map", type=Path, default=Path("gpus.map"), help="file of the simulated GPUs")
    parser.add_argument("--allow", required=True, help="UUIDs to guard, separated by commas")
    parser.add_argument("--lease-s", type=float, default=10.0)
    parser.add_argument("--fail-safe", default="", help="UUID=milliwatts, separated by commas")
    parser.add_argument("--call-timeout-s", type=float, default=2.0, help="longest wait for one GPU")
    parser.add_argument("--peer-uid", type=int, action="append", help="who may ask; default: this user")
    chosen = parser.parse_args(argv)
    chosen.allow = frozenset(filter(None, chosen.allow.split(",")))
    pairs = (item.split("=") for item in chosen.fail_safe.split(",") if item)
    try:
        chosen.fail_safe = {uuid: int(milliwatt) for uuid, milliwatt in pairs}
    except ValueError:
        parser.error("--fail-safe must be UUID=milliwatts,UUID=milliwatts")
    if not set(chosen.fail_safe) <= chosen.allow:
        parser.error("--fail-safe names a GPU that --allow does not")
    if not chosen.lease_s > 0:
        parser.error("--lease-s must be above 0")
    return chosen


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 after a clean stop, 3 when another capd runs, 4 when there are no GPUs to guard."""
    chosen = _arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        lock = take_over(chosen.lock, chosen.socket)
        backend = open_backend(chosen.backend, chosen.map)
        gpus = [gpu for gpu in backend.gpus() if gpu.info.uuid in chosen.allow]
    except (AlreadyRunning, LibraryMissing) as error:
        log.error("%s", error)
        return 3 if isinstance(error, AlreadyRunning) else 4
    for uuid in chosen.allow - {gpu.info.uuid for gpu in gpus}:
        log.warning("GPU %s is not on this machine", uuid)
    clock = SystemClock()
    enforcer = Enforcer(
        gpus,
        clock=clock,
        lease_s=chosen.lease_s,
        fail_safe=chosen.fail_safe,
        journal=Journal(chosen.journal),
        call_timeout_s=chosen.call_timeout_s,
    )
    peers = frozenset(chosen.peer_uid or [os.geteuid()])
    asyncio.run(serve(enforcer, chosen.socket, clock=clock, peer_uids=peers))
    os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main())

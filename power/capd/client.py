"""A controller's side of capd: watts in, watts out; every failure is CapdUnavailable."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from power.capd.protocol import Code, encode
from power.unix_path import short_path


class CapdUnavailable(Exception):
    """No answer from capd: limits are unchanged or unknown, so nothing may be raised."""


class EpochLost(CapdUnavailable):
    """Another controller leads, or the lease ran out: take a new epoch and read the limits first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapdStatus:
    """What capd says of itself. `fail_safe` is whether it brought the limits down by itself."""

    pid: int
    epoch: int
    lease_s: float
    left_s: float
    fail_safe: bool
    uuids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapResult:
    """One set: `read_back_w` is the limit in force after it; None = unknown. `error` is a `Code` or None."""

    uuid: str
    asked_w: float
    read_back_w: float | None
    error: str | None = None

    @property
    def confirmed(self) -> bool:
        """Read back at or under what was asked (to 0.5 W)."""
        return self.error is None and self.read_back_w is not None and self.read_back_w <= self.asked_w + 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class CapState:
    """One limit as capd reads it; None = unreadable, and `error` says why."""

    uuid: str
    cap_w: float | None
    min_cap_w: float
    max_cap_w: float
    error: str | None = None


class CapClient:
    """One connection, opened when needed and again after a failure. Not for several threads."""

    def __init__(self, socket_path: Path, timeout_s: float = 4.0) -> None:
        """`timeout_s` bounds each call as a whole; keep it above capd's own limit for one GPU (2 s)."""
        self._path = socket_path
        self._timeout_s = timeout_s
        self._sock: socket.socket | None = None
        self._unread = b""
        self.epoch: int | None = None

    def hello(self) -> CapdStatus:
        answer = self._ask({"verb": "hello"})
        return CapdStatus(
            pid=answer["pid"],
            epoch=answer["epoch"],
            lease_s=answer["lease_ms"] / 1000,
            left_s=answer["left_ms"] / 1000,
            fail_safe=bool(answer["fail_safe"]),
            uuids=tuple(answer["uuids"]),
        )

    def take_epoch(self) -> int:
        """Lead from now on; whoever led before is refused from here."""
        self.epoch = int(self._ask({"verb": "take"})["epoch"])
        return self.epoch

    def renew(self) -> None:
        """Keep leading; the first call, and the first after an epoch was lost, takes a new one.

        Raises EpochLost once when it was lost: until the next call nothing can be set, so that the caller
        looks at the limits in between.
        """
        if self.epoch is None:
            self.take_epoch()
        else:
            self._ask({"verb": "renew", "epoch": self.epoch})

    def set_caps(self, caps_w: Sequence[tuple[str, float]]) -> list[CapResult]:
        """Set limits (watts per GPU UUID), all at once; results in the same order.

        Raises EpochLost, or CapdUnavailable: then some may be set and all are unconfirmed.
        """
        epoch = self._led()
        answers = self._exchange(
            [
                {"verb": "set", "epoch": epoch, "uuid": uuid, "cap_milliwatt": round(cap_w * 1000)}
                for uuid, cap_w in caps_w
            ]
        )
        if any(answer.get("error") == Code.STALE_EPOCH for answer in answers):
            self.epoch = None
            raise EpochLost(f"epoch {epoch} no longer leads")
        return [
            CapResult(
                uuid=uuid,
                asked_w=cap_w,
                read_back_w=_watts(answer.get("read_back")),
                error=answer.get("error"),
            )
            for (uuid, cap_w), answer in zip(caps_w, answers, strict=True)
        ]

    def read_caps(self) -> dict[str, CapState]:
        """Limits in force by UUID, read now."""
        return {
            uuid: CapState(
                uuid=uuid,
                cap_w=_watts(row["cap"]),
                min_cap_w=row["min"] / 1000,
                max_cap_w=row["max"] / 1000,
                error=row.get("error"),
            )
            for uuid, row in self._ask({"verb": "read"})["gpus"].items()
        }

    def quit(self) -> None:
        """Ask capd to end; the limits stay."""
        self._ask({"verb": "quit"})
        self.close()

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
        self._sock, self._unread = None, b""

    def _led(self) -> int:
        if self.epoch is None:
            raise EpochLost("no epoch taken yet")
        return self.epoch

    def _ask(self, request: dict[str, object]) -> dict[str, Any]:
        answer = self._exchange([request])[0]
        if not answer["ok"]:
            message = f"{answer['error']}: {answer['detail']}"
            if answer["error"] != Code.STALE_EPOCH:
                raise CapdUnavailable(message)
            self.epoch = None
            raise EpochLost(message)
        return answer

    def _exchange(self, requests: Sequence[dict[str, object]]) -> list[dict[str, Any]]:
        """Send all, then read as many answers."""
        deadline_s = time.monotonic() + self._timeout_s
        try:
            sock = self._connected()
            sock.settimeout(self._timeout_s)
            sock.sendall(b"".join(encode(request) for request in requests))
            return [self._answer(sock, deadline_s) for _ in requests]
        except (OSError, ValueError) as error:
            self.close()  # answers still on their way must not be taken for those of the next call
            raise CapdUnavailable(f"capd at {self._path}: {error}") from error

    def _connected(self) -> socket.socket:
        if self._sock is None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(self._timeout_s)
                with short_path(self._path) as name:
                    sock.connect(name)
            except OSError:
                sock.close()
                raise
            self._sock, self._unread = sock, b""
        return self._sock

    def _answer(self, sock: socket.socket, deadline_s: float) -> dict[str, Any]:
        while b"\n" not in self._unread:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"no answer within {self._timeout_s} s")
            sock.settimeout(left_s)
            chunk = sock.recv(65536)
            if not chunk:
                raise ConnectionError("closed by capd")
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        answer = json.loads(line)
        if not isinstance(answer, dict) or "ok" not in answer:
            raise ValueError(f"not an answer: {line[:80]!r}")
        return answer


def _watts(milliwatt: int | None) -> float | None:
    return None if milliwatt is None else milliwatt / 1000

"""Values that the store hands out and that no other layer declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list. `next_cursor` is opaque; None = there is no more."""

    items: list[T]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, for people and for `/v1/events`. `data` is plain JSON; `at` is grid time."""

    kind: str
    at: datetime
    job_id: str | None = None
    run_id: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent(Event):
    """An event with its place in the log; ids grow, gaps are possible."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDecision:
    """What one cycle decided, as data."""

    id: int
    at: datetime
    cycle: int
    summary: Mapping[str, Any]


class Role(StrEnum):
    """What a token may do; each may do what those before it may."""

    VIEWER = "viewer"
    USER = "user"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        return list(Role).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A bearer token without its secret. `expires_at` is real UTC time, None = never."""

    id: str
    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def valid_at(self, when: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or when < self.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A GPU (by UUID) or a node (by name) that takes no new runs; `drain` also empties it."""

    name: str
    drain: bool
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSlot:
    """One slot of a series with where it came from."""

    start: datetime
    end: datetime
    value: float
    source: str
    attribution: str
    fetched_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    """One GPU over `at <= t < at + span_s` (grid time): means, and the highest draw. None = unknown."""

    gpu_uuid: str
    at: datetime
    span_s: float
    job_id: str | None = None
    run_id: str | None = None
    power_w: float | None = None
    power_max_w: float | None = None
    cap_w: float | None = None
    energy_j: float | None = None
    utilization: float | None = None
    memory_used_bytes: float | None = None
    temperature_c: float | None = None
    sm_clock_hz: float | None = None
    samples_per_s: float | None = None

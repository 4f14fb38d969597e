"""What a source of grid data is: one method. Quality is added by the wrappers in `wrap.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from power.series import Series


class Kind(StrEnum):
    """What a series measures. Average and marginal carbon never stand in for each other."""

    PRICE = "price"  # money per MWh
    CARBON = "carbon"  # grams of CO2 equivalent per kWh, average


class FeedError(Exception):
    """The feed gave no usable answer; the message names the feed and what was wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedAnswer:
    """A series as one source gave it, with what must be shown beside it.

    `refused` says, point by point, what was thrown out and why ("2026-01-01T00:00Z: value is not finite").
    """

    kind: Kind
    series: Series
    source: str
    fetched_at: datetime
    attribution: str = ""
    refused: tuple[str, ...] = field(default=())


class Feed(Protocol):
    """A source of one kind of series."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Kind: ...

    def fetch(self, start: datetime, end: datetime) -> FeedAnswer:
        """Values for `start <= t < end`, as far as published. Bounded in time and size.

        Raises FeedError.
        """
        ...


class SeriesStore(Protocol):
    """Where the last good series lives across restarts (implemented by the database)."""

    def load(self, kind: Kind) -> FeedAnswer | None: ...

    def save(self, answer: FeedAnswer) -> None:
        """Merge the answer's slots over the stored ones (the newest fetch wins per slot)."""
        ...

"""From the words of the configuration to a feed. A new source is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from power.clock import Clock
from power.grid.energy_charts import EnergyCharts
from power.grid.feed import Feed, Kind
from power.grid.fixed import FixedFeed
from power.grid.replay import ReplayFeed
from power.grid.validate import Band
from power.grid.wrap import Fallback


class InvalidFeed(ValueError):
    """The configuration asks for a feed that cannot be built; the message says what to change."""


class FeedSettings(Protocol):
    """What the configuration says about one feed."""

    @property
    def type(self) -> str: ...
    @property
    def zone(self) -> str: ...
    @property
    def country(self) -> str: ...
    @property
    def path(self) -> Path | None: ...
    @property
    def value(self) -> float | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedLimits:
    """What every feed of a kind is held to: seconds and bytes of one fetch, plausible values, currency."""

    deadline_s: float = 10.0
    max_bytes: int = 2 * 1024 * 1024
    band: Band
    currency: str = "EUR"


Factory = Callable[[FeedSettings, Kind, FeedLimits, Clock], Feed]


def build_feed(settings: FeedSettings, kind: Kind, limits: FeedLimits, clock: Clock) -> Feed:
    """The feed that `settings.type` names.

    Raises:
        InvalidFeed: unknown type, or settings that this type lacks.
    """
    factory = FACTORIES.get(settings.type)
    if factory is None:
        known = ", ".join(sorted(FACTORIES))
        raise InvalidFeed(f"unknown feed type {settings.type!r}; known: {known}")
    return factory(settings, kind, limits, clock)


def build_chain(
    settings: Sequence[FeedSettings], kind: Kind, limits: FeedLimits, clock: Clock
) -> Fallback | None:
    """All feeds of one signal in order of preference; None where none is configured.

    Raises:
        InvalidFeed: see `build_feed`.
    """
    if not settings:
        return None
    return Fallback([build_feed(one, kind, limits, clock) for one in settings])


def _energy_charts(settings: FeedSettings, kind: Kind, limits: FeedLimits, clock: Clock) -> Feed:
    return EnergyCharts(
        kind,
        area=settings.zone if kind is Kind.PRICE else settings.country,
        clock=clock,
        currency=limits.currency,
        band=limits.band,
        deadline_s=limits.deadline_s,
        max_bytes=limits.max_bytes,
    )


def _csv(settings: FeedSettings, kind: Kind, limits: FeedLimits, clock: Clock) -> Feed:
    if settings.path is None:
        raise InvalidFeed("a csv feed needs `path`")
    return ReplayFeed(settings.path, kind, clock=clock, band=limits.band)


def _fixed(settings: FeedSettings, kind: Kind, limits: FeedLimits, clock: Clock) -> Feed:
    value, band = settings.value, limits.band
    if value is None:
        raise InvalidFeed("a fixed feed needs `value`")
    if not band.low <= value <= band.high:
        raise InvalidFeed(f"the fixed value {value:g} is outside {band.low:g} .. {band.high:g}")
    return FixedFeed(value, kind, clock=clock)


FACTORIES: dict[str, Factory] = {
    "energy_charts": _energy_charts,
    "csv": _csv,
    "fixed": _fixed,
}

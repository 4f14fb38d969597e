"""Recorded prices and carbon for a simulation, read as the daemon's own replay feed reads them."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from power.clock import FakeClock
from power.grid.feed import FeedError, Kind
from power.grid.replay import ReplayFeed
from power.series import Series
from scheduler.simulation.model import BadInput

HISTORY: Final = timedelta(days=35)  # what forecasts look back on: four weeks of misses, each with its week
NAMED_REFUSALS: Final = 3


def read_series(
    path: Path, kind: Kind, *, start: datetime, end: datetime, until: datetime | None = None
) -> Series:
    """`time_utc,value` in money per MWh or g/kWh: whole slots from five weeks before `start` to `until`.

    Every moment of `start <= t < end` must be known; outside it, as far as the file goes.

    Args:
        until: how much longer the simulation may go on; default `end`.

    Raises:
        BadInput: the file cannot be read, has a point that cannot be used, or leaves a gap; names the first.
    """
    feed = ReplayFeed(path, kind, clock=FakeClock(start))
    try:
        answer = feed.fetch(start - HISTORY, max(end, until or end))
    except FeedError as error:
        raise BadInput(f"{path}: {error}") from error
    if answer.refused:
        named = "".join(f"\n  {why}" for why in answer.refused[:NAMED_REFUSALS])
        raise BadInput(f"{path}: {len(answer.refused)} point(s) cannot be used; the first:{named}")
    gap = first_gap(answer.series, start, end)
    if gap is not None:
        raise BadInput(
            f"{path} does not cover {start.isoformat()} .. {end.isoformat()}: no {kind} from"
            f" {gap[0].isoformat()} to {gap[1].isoformat()}; take other days, or a file that knows these"
        )
    return answer.series


def first_gap(series: Series, start: datetime, end: datetime) -> tuple[datetime, datetime] | None:
    """The first stretch of `start <= t < end` that no slot covers; None = all is covered."""
    known_until = start
    for slot in series.between(start, end):
        if slot.start > known_until:
            return known_until, slot.start
        known_until = slot.end
    return (known_until, end) if known_until < end else None

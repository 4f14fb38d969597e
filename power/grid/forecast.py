"""What a price or a carbon figure may be after the published curve ends. Pure.

Half yesterday, half the week: the mean of the last known value at the same time of day and of the last seven
there. It is simple and honest, not clever: how far it misses is measured on the history itself and given
beside it. Days are days in UTC, always 24 hours: a change of the local clock shifts the pattern by an hour
for a week and breaks nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from power.arrays import Floats
from power.series import Series, Slot

QUANTILE = 0.9  # of the misses: `high` is exceeded in one case out of ten
WEEK_DAYS = 7
FEWEST_DAYS = 4  # of the week that must be known
MISSES_DAYS = 28  # misses are counted over this many days
FEWEST_MISSES_DAYS = 7.0
LONGEST_LEAD_DAYS = 7  # from the last known value at that time of day; later is unknown
DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A series as expected, and its unpleasant side: what it exceeds in one case out of ten.

    Where a value is published, both are that value. Same slots in both; gaps mean unknown.
    """

    expected: Series = field(default_factory=Series)
    high: Series = field(default_factory=Series)


def outlook(history: Series, published: Series, start: datetime, end: datetime) -> Outlook:
    """The series in `start <= t < end`: published values, and behind the last of them what may follow.

    Gaps in the published curve stay unknown, and so does what too little history stands behind. Where nothing
    is published, nothing is guessed.

    Args:
        history: older values, in the unit of `published`; five weeks serve well. Where both know a time,
            `published` counts.
    """
    if not published.slots:
        return Outlook()
    known = published.between(start, end).slots
    tail_start = max(start, published.slots[-1].end)
    tail = tuple(_tail(_joined(history, published), tail_start, end)) if tail_start < end else ()
    high = tuple(Slot(slot.start, slot.end, slot.value + margin) for slot, margin in tail)
    return Outlook(
        expected=Series((*known, *(slot for slot, _ in tail))),
        high=Series((*known, *high)),
    )


def _joined(history: Series, published: Series) -> Series:
    first = published.slots[0].start
    return Series((*(slot for slot in history if slot.end <= first), *published.slots))


def _tail(past: Series, start: datetime, end: datetime) -> Iterator[tuple[Slot, float]]:
    """(slot as expected, what its `high` has on top), one after the other."""
    step_s = _step_s(past)
    origin = past.slots[0].start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = math.ceil((end - origin).total_seconds() / DAY_S)
    values = _by_day(past, origin, days, step_s)
    forecast = _from_last_day(values)
    margins = {lead: _margin(values, forecast, lead) for lead in range(1, LONGEST_LEAD_DAYS + 1)}
    per_day = values.shape[1]
    for cell in range(int((start - origin).total_seconds() // step_s), days * per_day):
        slot_start = origin + timedelta(seconds=cell * step_s)
        if slot_start >= end:
            return
        day, time_of_day = divmod(cell, per_day)
        lead = _lead(values[:, time_of_day], day)
        margin = None if lead is None else margins[lead]
        if lead is None or margin is None or np.isnan(forecast[day - lead, time_of_day]):
            continue
        slot_end = min(end, slot_start + timedelta(seconds=step_s))
        yield Slot(max(start, slot_start), slot_end, float(forecast[day - lead, time_of_day])), margin


def _step_s(past: Series) -> int:
    """The usual slot of the last days; an hour where that does not divide the day."""
    newest = past.slots[-1].end
    usual_s = past.between(newest - timedelta(days=2), newest).resolution_s() or 3600.0
    return int(usual_s) if usual_s >= 1 and DAY_S % usual_s == 0 else 3600


def _by_day(past: Series, origin: datetime, days: int, step_s: int) -> Floats:
    """Means per day and time of day (days x slots); NaN where not all of a slot is known."""
    spans = [
        ((slot.start - origin).total_seconds(), (slot.end - origin).total_seconds(), slot.value)
        for slot in past
    ]
    begins, ends, level = np.array(spans, dtype=np.float64).T
    edges = np.column_stack([begins, ends]).ravel()
    lengths = np.column_stack([np.zeros_like(begins), ends - begins]).ravel()
    grid = np.arange(0, days * DAY_S + 1, step_s, dtype=np.float64)
    known_s = np.diff(np.interp(grid, edges, np.cumsum(lengths)))
    total = np.diff(np.interp(grid, edges, np.cumsum(lengths * np.repeat(level, 2))))
    means = np.where(known_s > step_s - 1e-3, total / step_s, np.nan)
    return means.reshape(days, DAY_S // step_s)


def _from_last_day(values: Floats) -> Floats:
    """Per day and time of day: what is expected for the days after it, when nothing later is known."""
    padding = np.full((WEEK_DAYS - 1, values.shape[1]), np.nan)
    weeks = sliding_window_view(np.concatenate([padding, values]), WEEK_DAYS, axis=0)
    known = (~np.isnan(weeks)).sum(axis=-1)
    mean = np.nansum(weeks, axis=-1) / np.maximum(known, 1)
    blend: Floats = np.where(known >= FEWEST_DAYS, (values + mean) / 2, np.nan)
    return blend


def _margin(values: Floats, forecast: Floats, lead: int) -> float | None:
    """How much more than expected it was in one case out of ten, `lead` days ahead; None = not known."""
    misses = values[lead:] - forecast[:-lead]
    known_days = np.nonzero(~np.isnan(misses).all(axis=1))[0]
    recent = misses[known_days[-MISSES_DAYS:]]
    known = recent[~np.isnan(recent)]
    if known.size < FEWEST_MISSES_DAYS * values.shape[1]:
        return None
    return max(0.0, float(np.quantile(known, QUANTILE)))


def _lead(at_this_time: Floats, day: int) -> int | None:
    """Days back to the last known value at this time of day."""
    known = np.nonzero(~np.isnan(at_this_time[max(0, day - LONGEST_LEAD_DAYS) : day]))[0]
    return None if known.size == 0 else min(day, LONGEST_LEAD_DAYS) - int(known[-1])

"""From raw points to a series: bad points are refused one by one and listed, the rest is kept. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise

from power.series import Series, Slot

LONE_SLOT = timedelta(hours=1)
"""How long a single point lasts: nothing beside it says otherwise."""

MARKET_GRAIN = timedelta(minutes=15)
"""The coarsest grid that slots start on: an hourly series may turn into quarters, not into 7 minutes."""

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
REPEATS_OF_A_RESOLUTION = 8  # fewer equal steps in a row may just be points missing at regular intervals
FEWEST_STEPS_OF_A_GRID = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Plausible values, in the unit of the kind; both ends belong to it."""

    low: float
    high: float


PRICE_BAND = Band(low=-1000.0, high=10000.0)
CARBON_BAND = Band(low=0.0, high=2000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was left of an answer, and one sentence for each point that was refused, in order."""

    series: Series
    refused: tuple[str, ...]


def check_points(points: Iterable[tuple[object, object]], band: Band) -> Checked:
    """Build a series from (start, value) pairs of any type and order.

    A start is an aware datetime. Of two points with one start the later in the input wins. A slot lasts
    until the next start; a wider step that does not repeat is a gap, and gaps stay unknown. A refused
    value leaves a gap of its own slot, never a longer neighbour.
    """
    refused: list[str] = []
    by_start: dict[datetime, object] = {}
    for raw_start, value in points:
        start, why = _instant(raw_start)
        if start is None:
            refused.append(f"{_shown(raw_start)}: {why}")
            continue
        if start in by_start:
            refused.append(f"{_stamp(start)}: given twice, the later point is kept")
        by_start[start] = value
    starts = sorted(by_start)
    for start in _off_grid(starts):
        refused.append(f"{_stamp(start)}: overlaps its neighbours, it is off the grid of the others")
        del by_start[start]
    starts = sorted(by_start)
    slots = []
    for start, length in zip(starts, slot_lengths(starts), strict=True):
        number, why = plausible(by_start[start], band)
        if number is None:
            refused.append(f"{_stamp(start)}: {why}")
        else:
            slots.append(Slot(start, start + length, number))
    return Checked(series=Series(tuple(slots)), refused=tuple(refused))


def plausible(value: object, band: Band) -> tuple[float | None, str]:
    """The value as a float, or None and why not. Text, booleans and null are not numbers."""
    if value is None:
        return None, "no value (null)"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None, f"not a number but {type(value).__name__}"
    if isinstance(value, int) and abs(value) > 10**15:
        return None, "outside any plausible range"
    number = float(value)
    if not math.isfinite(number):
        return None, "not finite"
    if not band.low <= number <= band.high:
        return None, f"{number:g} is outside {band.low:g} .. {band.high:g}"
    return number, ""


def slot_lengths(starts: Sequence[datetime]) -> list[timedelta]:
    """How long each slot lasts, read from the steps between sorted, distinct starts.

    The resolution may change inside a series. A step counts as a resolution when it is the most common
    one or repeats; any other is a gap, before which the slot keeps the resolution next to it.
    The last slot is as long as the one before it.
    """
    if not starts:
        return []
    steps = [after - before for before, after in pairwise(starts)]
    if not steps:
        return [LONE_SLOT]
    usual = _most_common(steps)
    lengths: list[timedelta] = []
    for step, run in groupby(steps):
        count = len(list(run))
        regular = step == usual or count >= REPEATS_OF_A_RESOLUTION
        kept = step if regular else min(step, lengths[-1] if lengths else usual)
        lengths += [kept] * count
    lengths.append(lengths[-1])
    return lengths


def whole_slots(series: Series, start: datetime, end: datetime) -> Series:
    """The slots that touch `start <= t < end`, uncut, so that a slot always has one start and one end."""
    return Series(tuple(slot for slot in series if slot.end > start and slot.start < end))


def compact_unit(text: object) -> str:
    """A unit string without spaces and in lower case; empty when it is no text."""
    return "".join(text.split()).lower() if isinstance(text, str) else ""


def _off_grid(starts: Sequence[datetime]) -> list[datetime]:
    """Starts that fall between the ticks on which nearly all others lie; they would overlap a slot."""
    steps = [after - before for before, after in pairwise(starts)]
    if len(steps) < FEWEST_STEPS_OF_A_GRID:
        return []
    grain = min(_most_common(steps), MARKET_GRAIN)
    offsets = [(start - EARLIEST) % grain for start in starts]
    usual, count = Counter(offsets).most_common(1)[0]
    if count * 2 <= len(starts):
        return []
    return [start for start, offset in zip(starts, offsets, strict=True) if offset != usual]


def _most_common(steps: Sequence[timedelta]) -> timedelta:
    """The step seen most often; the shorter one of two equals."""
    counts = Counter(steps)
    return min(counts, key=lambda step: (-counts[step], step))


def _instant(value: object) -> tuple[datetime | None, str]:
    if not isinstance(value, datetime):
        return None, "not a time"
    if value.tzinfo is None or value.utcoffset() is None:
        return None, "a time without a zone"
    try:
        instant = value.astimezone(UTC)
    except OverflowError:
        return None, "a time out of range"
    if not EARLIEST <= instant < LATEST:
        return None, "a time out of range"
    return instant, ""


def _stamp(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _shown(value: object) -> str:
    """What was given, short and on one line: it came from outside."""
    return ascii(value if not isinstance(value, datetime) else value.isoformat())[:40]

"""Half-open UTC slots and series of values over them: the only time-series types of the project."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Slot:
    """`start <= t < end` carries `value`.

    Raises:
        ValueError: naive times, an empty or reversed interval, or a value that is not finite.
    """

    start: datetime
    end: datetime
    value: float

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError(f"slot times must carry a time zone: {self.start} .. {self.end}")
        if self.end <= self.start:
            raise ValueError(f"slot must end after it starts: {self.start} .. {self.end}")
        if not math.isfinite(self.value):
            raise ValueError(f"slot value at {self.start} is not finite: {self.value}")

    @property
    def duration_s(self) -> float:
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True, slots=True)
class Series:
    """Slots in order of time, never overlapping; gaps are allowed and mean "unknown", not zero."""

    slots: tuple[Slot, ...] = ()

    def __post_init__(self) -> None:
        for before, after in pairwise(self.slots):
            if after.start < before.end:
                raise ValueError(f"slots overlap or are out of order at {after.start}")

    @classmethod
    def from_starts(cls, points: Iterable[tuple[datetime, float]], *, end: datetime | None = None) -> Series:
        """Points (start, value) in order; each lasts until the next, the last as long as the one before it.

        A step longer than both its neighbours is a gap: the slot before it keeps the longer one's length.
        So hours followed by quarter hours are no gap.
        """
        rows = [(start.astimezone(UTC), value) for start, value in points]
        if not rows:
            return cls()
        steps = [after[0] - before[0] for before, after in pairwise(rows)]
        lengths = [min(step, _longest_neighbour(steps, i)) for i, step in enumerate(steps)]
        usual = lengths[-1] if lengths else timedelta(hours=1)
        last = end.astimezone(UTC) - rows[-1][0] if end else usual
        return cls(
            tuple(
                Slot(start, start + length, value)
                for (start, value), length in zip(rows, [*lengths, last], strict=True)
            )
        )

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.slots)

    def __len__(self) -> int:
        return len(self.slots)

    def slot_at(self, when: datetime) -> Slot | None:
        """The slot that covers `when`, or None in a gap or outside."""
        index = bisect_right(self.slots, when, key=lambda slot: slot.start) - 1
        if index < 0 or when >= self.slots[index].end:
            return None
        return self.slots[index]

    def at(self, when: datetime) -> float | None:
        slot = self.slot_at(when)
        return None if slot is None else slot.value

    def between(self, start: datetime, end: datetime) -> Series:
        """The part inside `start <= t < end`; slots at the edges are cut."""
        return Series(
            tuple(
                Slot(max(slot.start, start), min(slot.end, end), slot.value)
                for slot in self.slots
                if slot.end > start and slot.start < end
            )
        )

    def resolution_s(self) -> float | None:
        """The most common slot length, read from the slots themselves; None when empty."""
        if not self.slots:
            return None
        lengths = [slot.duration_s for slot in self.slots]
        return max(set(lengths), key=lengths.count)


def _longest_neighbour(steps: list[timedelta], index: int) -> timedelta:
    neighbours = steps[max(0, index - 1) : index] + steps[index + 1 : index + 2]
    return max(neighbours, default=steps[index])

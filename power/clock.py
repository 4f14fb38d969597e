"""Time, injected. The only module that reads the machine's clocks for the core."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Two clocks: grid time for prices, contracts and bills; monotonic seconds for control.

    `rate` is grid seconds per real second: 1 in production; a demo replays a day faster.
    """

    @property
    def rate(self) -> float: ...

    def now(self) -> datetime:
        """Aware UTC grid time."""
        ...

    def monotonic_s(self) -> float:
        """Real seconds from an arbitrary origin; never goes back."""
        ...


class SystemClock:
    """The machine's own clocks."""

    rate = 1.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()


class ScaledClock:
    """Grid time that started at `grid_start` when real time was `real_start` and runs `rate` times faster.

    Both anchors are wall-clock instants, so that a restarted process and its neighbours agree.
    """

    def __init__(self, *, grid_start: datetime, real_start: datetime, rate: float) -> None:
        if rate <= 0:
            raise ValueError(f"clock rate must be above 0, got {rate}")
        self.rate = rate
        self._grid_start = grid_start
        self._real_start = real_start

    def now(self) -> datetime:
        return self._grid_start + timedelta(
            seconds=(datetime.now(UTC) - self._real_start).total_seconds() * self.rate
        )

    def monotonic_s(self) -> float:
        return time.monotonic()


class FakeClock:
    """A clock that moves only when told to."""

    def __init__(self, now: datetime, *, rate: float = 1.0) -> None:
        self.rate = rate
        self._now = now
        self._monotonic_s = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, real_s: float) -> None:
        """Move `real_s` real seconds on; grid time moves `real_s * rate`."""
        self._monotonic_s += real_s
        self._now += timedelta(seconds=real_s * self.rate)

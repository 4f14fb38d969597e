"""The slowdown ledger: the throughput taken from a job, against what its contract allows. Pure.

Slowdown is counted over RUNNING time: 1 - work done / work the same seconds would have done uncapped. It
stays within the flex tier over the job's life, and within twice the tier in any hour. Times are grid time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from scheduler.bill import EnergyRow
from scheduler.model import Flex

HOUR = timedelta(hours=1)
HOUR_FACTOR = 2.0  # the tier may be exceeded this many times within an hour


@dataclass(frozen=True, slots=True)
class Minute:
    """What one minute of grid time held; `running_s` and `work_s` are per GPU."""

    start: datetime
    running_s: float
    work_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """One job's account, over all its runs. `work_s` is in seconds at full, uncapped speed."""

    running_s: float = 0.0
    work_s: float = 0.0
    minutes: tuple[Minute, ...] = ()  # the last hour, oldest first
    estimated: bool = True  # work comes from the curve and not from the job's own reports

    @property
    def used_share(self) -> float:
        """Slowdown over the job's life, 0..1; negative when it ran faster than its curve said."""
        return _slowdown(self.running_s, self.work_s)

    def used_share_last_hour(self, now: datetime) -> float:
        """Slowdown over the RUNNING time of the hour before `now`."""
        recent = [m for m in self.minutes if m.start > now - HOUR]
        return _slowdown(sum(m.running_s for m in recent), sum(m.work_s for m in recent))

    def add(self, start: datetime, seconds: float, throughput_share: float) -> Ledger:
        """Count `seconds` of RUNNING time from `start` on, at this share (0..1) of uncapped throughput."""
        work_s = seconds * throughput_share
        minute = start.astimezone(UTC).replace(second=0, microsecond=0)
        kept = [m for m in self.minutes if m.start > start - HOUR]
        if kept and kept[-1].start == minute:
            last = kept.pop()
            entry = Minute(minute, last.running_s + seconds, last.work_s + work_s)
        else:
            entry = Minute(minute, seconds, work_s)
        return replace(
            self,
            running_s=self.running_s + seconds,
            work_s=self.work_s + work_s,
            minutes=(*kept, entry),
        )

    @classmethod
    def from_rows(cls, rows: list[EnergyRow], now: datetime) -> Ledger:
        """The account as the energy rows of a job have it, after a restart.

        A gang's rows are averaged, so that seconds stay seconds of one GPU. The last hour is rebuilt from the
        slots that began in it, each as one entry at its start.
        """
        per_slot: dict[tuple[str | None, datetime], list[EnergyRow]] = {}
        for row in rows:
            if row.kind == "gpu":
                per_slot.setdefault((row.run_id, row.slot_start), []).append(row)
        entries = sorted(
            (
                Minute(
                    slot_start,
                    max(row.running_s for row in slot),
                    max(row.running_s for row in slot) * _share(slot),
                )
                for (_, slot_start), slot in per_slot.items()
            ),
            key=lambda minute: minute.start,
        )
        return cls(
            running_s=sum(m.running_s for m in entries),
            work_s=sum(m.work_s for m in entries),
            minutes=tuple(m for m in entries if m.start > now - HOUR),
        )


def allowed_floor_share(flex: Flex, used: Ledger, guard: float, now: datetime | None = None) -> float:
    """The least throughput share (0..1 of uncapped) that the contract allows now.

    The safe simple form: never below 1 - tier + guard at any instant. Slowdown that a job did not suffer
    earlier is not saved up and spent later, so neither the mean over its life nor that of any hour can pass
    the tier while its curve is right. Where the curve was wrong and the ledger shows more than the tier less
    the guard, the floor rises in proportion, up to full speed at the tier itself; in the last hour, at twice
    the tier (the hour is looked at when `now` is given). `guard` is the share held back for errors.
    """
    tier = flex.share
    guard = min(max(guard, 0.0), tier)
    if tier <= 0.0:
        return 1.0
    strain = _strain(used.used_share, tier, guard)
    if now is not None:
        strain = max(strain, _strain(used.used_share_last_hour(now), HOUR_FACTOR * tier, guard))
    lowest = 1.0 - tier + guard
    return min(1.0, lowest + strain * (1.0 - lowest))


def _strain(used: float, limit: float, guard: float) -> float:
    """0 while `used` is below limit - guard, 1 from the limit on, linear between. Rounding is forgiven."""
    if used >= limit - 1e-9:
        return 1.0 if used > limit + 1e-9 or guard > 0 else 0.0
    return max(0.0, (used - (limit - guard)) / guard) if guard > 0 else 0.0


def _slowdown(running_s: float, work_s: float) -> float:
    return 1.0 - work_s / running_s if running_s > 0 else 0.0


def _share(rows: list[EnergyRow]) -> float:
    running_s = sum(row.running_s for row in rows)
    return sum(row.work_s for row in rows) / running_s if running_s > 0 else 1.0

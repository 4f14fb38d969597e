"""What runs cost: joules gathered per price slot, and the bill made of them. Pure: no clock, no database.

One row holds one GPU's energy for one run in one slot. Rows of three kinds add up to the site's meter:
`gpu` (under a run), `idle` (a GPU without one) and `host` (base loads). All times are grid time; energy is
drawn energy, positive; prices may be negative.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from power.series import Series
from scheduler.slotting import split

Kind = Literal["gpu", "host", "idle"]
RowKey = tuple[str, str, str, datetime]

J_PER_KWH = 3.6e6
EMPTY = Series()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyRow:
    """Energy of one GPU (or of the hosts) in `slot_start <= t < slot_end`, and what was done with it."""

    kind: Kind
    slot_start: datetime
    slot_end: datetime
    job_id: str | None = None
    run_id: str | None = None
    gpu_uuid: str | None = None  # for kind host: the power domain, or None for all of them
    energy_j: float = 0.0  # from the counter
    integral_j: float = 0.0  # trapezoids of power, to check the counter by
    price_per_mwh: float | None = None
    carbon_g_per_kwh: float | None = None
    running_s: float = 0.0  # grid seconds RUNNING
    work_s: float = 0.0  # uncapped-equivalent grid seconds: integral of the throughput share
    cap_w_s: float = 0.0  # integral of the cap while RUNNING
    samples: float = 0.0
    # The last word of the counter, to go on from after a restart: joules of grid time as they were accounted,
    # when, and what the GPU's own counter showed then (real joules since its driver was loaded).
    counter_j: float | None = None
    counter_at: datetime | None = None
    gpu_counter_j: float | None = None

    @property
    def key(self) -> RowKey:
        return (self.run_id or "", self.gpu_uuid or "", self.kind, self.slot_start)

    @property
    def energy_kwh(self) -> float:
        return self.energy_j / J_PER_KWH

    @property
    def cost(self) -> float | None:
        """Money; None when the slot has no price."""
        return None if self.price_per_mwh is None else self.energy_kwh / 1e3 * self.price_per_mwh

    @property
    def co2_g(self) -> float | None:
        return None if self.carbon_g_per_kwh is None else self.energy_kwh * self.carbon_g_per_kwh


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One GPU between two samples, `start <= t < end` of grid time.

    The powers are the readings at both ends, None where there is nothing to integrate (a reading is missing,
    or the daemon was away): then the counter's figure stands unchecked. `samples` is this GPU's part of the
    samples that its run reported in the interval.
    """

    gpu_uuid: str
    start: datetime
    end: datetime
    counter_before_j: float
    counter_after_j: float
    gpu_counter_j: float | None = None  # the GPU's own counter at the end
    power_before_w: float | None = None
    power_after_w: float | None = None
    job_id: str | None = None
    run_id: str | None = None  # None: the GPU had no run, its energy is idle energy
    running: bool = False
    throughput_share: float = 1.0
    cap_w: float = 0.0
    samples: float = 0.0

    @property
    def length_s(self) -> float:
        """0 when the clock stood still or was set back."""
        return max(0.0, (self.end - self.start).total_seconds())

    @property
    def integral_j(self) -> float | None:
        if self.power_before_w is None or self.power_after_w is None:
            return None
        return (self.power_before_w + self.power_after_w) / 2 * self.length_s

    @property
    def energy_j(self) -> float:
        """The counter's step. A counter that fell was reset at an unknown moment: then the integral, else
        what it counted since."""
        step = self.counter_after_j - self.counter_before_j
        if step >= 0:
            return step
        return self.counter_after_j if self.integral_j is None else self.integral_j


def accrue(
    rows: Mapping[RowKey, EnergyRow],
    interval: Interval,
    prices: Series = EMPTY,
    carbon: Series = EMPTY,
) -> dict[RowKey, EnergyRow]:
    """Add one interval of one GPU to its rows.

    A long interval (the controller was dead) is the same: its counter step is spread evenly over the slots.

    Returns:
        The rows that changed, with their new totals; `rows` is left alone. The caller merges them and stores
        them. The counter's last reading is kept in the row of the last slot.
    """
    kind: Kind = "gpu" if interval.run_id is not None else "idle"
    changed: dict[RowKey, EnergyRow] = {}
    for piece in split(interval.start, interval.end, prices, carbon):
        blank = EnergyRow(
            kind=kind,
            slot_start=piece.slot_start,
            slot_end=piece.slot_end,
            job_id=interval.job_id if kind == "gpu" else None,
            run_id=interval.run_id,
            gpu_uuid=interval.gpu_uuid,
        )
        row = _plus(rows.get(blank.key, blank), interval, piece.share)
        changed[row.key] = priced(row, prices, carbon)
    last = changed[row.key]
    changed[row.key] = replace(
        last,
        counter_j=interval.counter_after_j,
        counter_at=interval.end,
        gpu_counter_j=interval.gpu_counter_j,
    )
    return changed


def _plus(row: EnergyRow, interval: Interval, share: float) -> EnergyRow:
    energy_j = interval.energy_j * share
    integral_j = interval.integral_j
    running_s = interval.length_s * share if interval.running else 0.0
    return replace(
        row,
        energy_j=row.energy_j + energy_j,
        integral_j=row.integral_j + (energy_j if integral_j is None else integral_j * share),
        running_s=row.running_s + running_s,
        work_s=row.work_s + running_s * interval.throughput_share,
        cap_w_s=row.cap_w_s + running_s * interval.cap_w,
        samples=row.samples + interval.samples * share,
    )


def accrue_host(
    rows: Mapping[RowKey, EnergyRow],
    start: datetime,
    end: datetime,
    base_load_w: float,
    prices: Series = EMPTY,
    carbon: Series = EMPTY,
    domain: str | None = None,
) -> dict[RowKey, EnergyRow]:
    """Add the hosts' base load, allocated as watts times time. Returns the rows that changed."""
    changed: dict[RowKey, EnergyRow] = {}
    total_j = base_load_w * max(0.0, (end - start).total_seconds())
    for piece in split(start, end, prices, carbon):
        blank = EnergyRow(kind="host", slot_start=piece.slot_start, slot_end=piece.slot_end, gpu_uuid=domain)
        row = rows.get(blank.key, blank)
        row = replace(
            row,
            energy_j=row.energy_j + total_j * piece.share,
            integral_j=row.integral_j + total_j * piece.share,
        )
        changed[row.key] = priced(row, prices, carbon)
    return changed


def priced(row: EnergyRow, prices: Series, carbon: Series = EMPTY) -> EnergyRow:
    """The row at the newest price and carbon figure of its slot; it keeps what it had where none is known."""
    price, grams = prices.at(row.slot_start), carbon.at(row.slot_start)
    return replace(
        row,
        price_per_mwh=row.price_per_mwh if price is None else price,
        carbon_g_per_kwh=row.carbon_g_per_kwh if grams is None else grams,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a run, a job or a period used and cost. None = not known, which is never zero.

    `cost` and `co2_g` cover the energy whose price and carbon are known; `unpriced_kwh` and
    `unknown_carbon_kwh` say how much is missing from them. `counter_vs_integral` is the relative difference
    (counter - integral) / integral. `gpu_hours` and `average_cap_w` count the time RUNNING.
    """

    energy_kwh: float = 0.0
    cost: float | None = None
    co2_g: float | None = None
    unpriced_kwh: float = 0.0
    unknown_carbon_kwh: float = 0.0
    gpu_hours: float = 0.0
    average_cap_w: float | None = None
    slowdown_used: float | None = None  # 0..1 of the work that the same seconds would have done uncapped
    slowdown_promised: float | None = None  # the flex tier's share
    samples: float = 0.0
    samples_per_kwh: float | None = None
    integral_kwh: float = 0.0
    counter_vs_integral: float | None = None
    start: datetime | None = None
    end: datetime | None = None


def make_bill(rows: Iterable[EnergyRow], *, promised: float | None = None) -> Bill:
    """Sum up rows, of whatever run, job or period. `promised` is the slowdown that the contract allows."""
    parts = list(rows)
    energy_j, integral_j = sum(r.energy_j for r in parts), sum(r.integral_j for r in parts)
    running_s, work_s = sum(r.running_s for r in parts), sum(r.work_s for r in parts)
    samples = sum(r.samples for r in parts)
    energy_kwh = energy_j / J_PER_KWH
    return Bill(
        energy_kwh=energy_kwh,
        cost=_sum_known(r.cost for r in parts),
        co2_g=_sum_known(r.co2_g for r in parts),
        unpriced_kwh=sum(r.energy_kwh for r in parts if r.price_per_mwh is None),
        unknown_carbon_kwh=sum(r.energy_kwh for r in parts if r.carbon_g_per_kwh is None),
        gpu_hours=running_s / 3600,
        average_cap_w=sum(r.cap_w_s for r in parts) / running_s if running_s > 0 else None,
        slowdown_used=1 - work_s / running_s if running_s > 0 else None,
        slowdown_promised=promised,
        samples=samples,
        samples_per_kwh=samples / energy_kwh if energy_kwh > 0 and samples > 0 else None,
        integral_kwh=integral_j / J_PER_KWH,
        counter_vs_integral=(energy_j - integral_j) / integral_j if integral_j > 0 else None,
        start=min((r.slot_start for r in parts), default=None),
        end=max((r.slot_end for r in parts), default=None),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unthrottled:
    """An estimate, never a measurement: the same work, had nobody slowed it down."""

    energy_kwh: float
    gpu_hours: float
    mean_price_per_mwh: float | None
    cost: float | None  # at the mean price
    label: str = "estimate"


def estimate_unthrottled(
    rows: Iterable[EnergyRow], *, uncapped_w: float, mean_price_per_mwh: float | None = None
) -> Unthrottled:
    """The same work at uncapped power: its energy, and its cost at the mean price.

    `uncapped_w` is the mean draw of one GPU without a cap (`CapCurve.power_w` at the highest cap).
    `mean_price_per_mwh` is best the mean from submission to end; by default it is the mean over the time
    RUNNING, in which the hours that the job paused through are missing.
    """
    parts = [row for row in rows if row.kind == "gpu"]
    work_s = sum(r.work_s for r in parts)
    if mean_price_per_mwh is None:
        seen = [(r.price_per_mwh, r.running_s) for r in parts if r.price_per_mwh is not None]
        seen_s = sum(s for _, s in seen)
        mean_price_per_mwh = sum(p * s for p, s in seen) / seen_s if seen_s > 0 else None
    energy_kwh = work_s * uncapped_w / J_PER_KWH
    return Unthrottled(
        energy_kwh=energy_kwh,
        gpu_hours=work_s / 3600,
        mean_price_per_mwh=mean_price_per_mwh,
        cost=None if mean_price_per_mwh is None else energy_kwh / 1e3 * mean_price_per_mwh,
    )


def _sum_known(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if known else None

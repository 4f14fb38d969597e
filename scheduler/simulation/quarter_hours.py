"""The site's watts, prices and queues as means per quarter hour, for tables and plots. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from power.arrays import Floats
from scheduler.simulation.model import Outcome
from scheduler.slotting import QUARTER


@dataclass(frozen=True, kw_only=True)
class QuarterHours:
    """Row i is `starts[i] <= t < starts[i] + 15 min`, by the clock; its means are over the simulated part.

    Watts of GPUs are at their boards, all others at the site's meter. NaN where nothing is known, or no limit
    holds; a mean is over the seconds that have a figure.
    """

    starts: tuple[datetime, ...]
    gpu_draw_w: Floats
    busy_draw_w: Floats
    meter_w: Floats
    caps_w: Floats
    limit_w: Floats
    price_per_mwh: Floats
    carbon_g_per_kwh: Floats
    busy_gpus: Floats
    waiting_jobs: Floats


def quarter_hours(outcome: Outcome) -> QuarterHours:
    """Exact means over time of the rows of the trace."""
    trace, start = outcome.power, outcome.scenario.start.astimezone(UTC)
    times_s = np.append(trace.at_s, trace.until_s)
    quarter_s = QUARTER.total_seconds()
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    since_midnight_s = (start - midnight).total_seconds()
    first = int((since_midnight_s + times_s[0]) // quarter_s)
    last = int(-(-(since_midnight_s + times_s[-1]) // quarter_s))
    edges_s = np.arange(first, last + 1, dtype=np.float64) * quarter_s - since_midnight_s
    return QuarterHours(
        starts=tuple(midnight + index * QUARTER for index in range(first, last)),
        gpu_draw_w=_means(trace.gpu_draw_w, times_s, edges_s),
        busy_draw_w=_means(trace.busy_draw_w, times_s, edges_s),
        meter_w=_means(trace.meter_w, times_s, edges_s),
        caps_w=_means(trace.caps_w, times_s, edges_s),
        limit_w=_means(trace.limit_w, times_s, edges_s),
        price_per_mwh=_means(trace.price_per_mwh, times_s, edges_s),
        carbon_g_per_kwh=_means(trace.carbon_g_per_kwh, times_s, edges_s),
        busy_gpus=_means(trace.busy_gpus.astype(np.float64), times_s, edges_s),
        waiting_jobs=_means(trace.waiting_jobs.astype(np.float64), times_s, edges_s),
    )


def _means(values: Floats, times_s: Floats, edges_s: Floats) -> Floats:
    """Between consecutive edges, of steps that hold from one time to the next (one time more than values)."""
    known = np.isfinite(values)
    spans_s = np.diff(times_s)
    amount = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0) * spans_s)])
    seconds = np.concatenate([[0.0], np.cumsum(known * spans_s)])
    # The integral of steps is linear between their borders, so that interpolating it is exact.
    amounts = np.diff(np.interp(edges_s, times_s, amount))
    known_s = np.diff(np.interp(edges_s, times_s, seconds))
    told = known_s > 1e-6  # rounding alone never makes a figure of a gap
    means: Floats = np.divide(amounts, known_s, out=np.full(len(amounts), np.nan), where=told)
    return means

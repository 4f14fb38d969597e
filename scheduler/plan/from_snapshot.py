"""A snapshot as a planning problem: slots with prices, and the work that can wait with its offers.

This file and `site_room.py` are the only ones of the package that look at snapshots.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.series import Series
from scheduler.horizon import AHEAD, Outlook
from scheduler.placing.levels import Boards, Ladder, Terms, boards_of, ladder
from scheduler.plan.problem import Offers, PlanProblem, Slots, Work
from scheduler.plan.site_room import Zones, site_of, zones_of
from scheduler.plan.spans import SAME_TIME_H
from scheduler.snapshot import JobView, Snapshot

SLOT = timedelta(minutes=15)
SLIVER_H = 1.0 / 3600.0  # shorter slots are not cut
TAIL_GUARD = 0.3
"""Share of the way from the expected price to its high side that decisions reckon with. A forecast hour must
look cheaper than a published one by part of its own uncertainty before work is moved there: most of the
saving is kept, and little is lost where the forecast was wrong."""

DELAY_SHARE = 0.1  # of an hour's worth, lost by each hour that a job without a deadline waits
DELAY_SHARE_WITH_DEADLINE = 0.0005  # a deadline says that until then waiting costs nearly nothing
DEADLINE_MARGIN = 0.1  # of the running time, kept free before a deadline


def deferrable(snapshot: Snapshot) -> list[JobView]:
    """Waiting jobs that declare they can wait: pausable, of known length, with a deadline or a ceiling."""
    return [snapshot.jobs[row] for row in deferrable_rows(snapshot).tolist()]


def deferrable_rows(snapshot: Snapshot) -> Ints:
    """The same as rows of the job table, oldest first."""
    jobs = snapshot.jobs
    term = np.isfinite(jobs.floats("deadline_s")) | np.isfinite(jobs.floats("ceiling_per_mwh"))
    able = jobs.waiting & jobs.bools("eligible") & jobs.bools("pausable") & (jobs.floats("remaining_s") > 0)
    rows = np.nonzero(able & term)[0]
    return np.asarray(rows[np.argsort(jobs.floats("submitted_s")[rows], kind="stable")])


def problem_of(snapshot: Snapshot) -> PlanProblem | None:
    """None where nothing can be deferred, or no price is known."""
    rows = deferrable_rows(snapshot)
    slots = slots_of(snapshot)
    if not len(rows) or slots is None:
        return None
    jobs = snapshot.jobs
    wanted = jobs.ints("gpus")[rows]
    zones = zones_of(snapshot, slots, jobs=len(rows), largest=int(wanted.max()))
    value, full_h = jobs.floats("value_per_gpu_h")[rows], jobs.floats("remaining_s")[rows] / 3600.0
    per_h = wanted * value
    due = np.isfinite(jobs.floats("deadline_s")[rows])
    ceiling = jobs.floats("ceiling_per_mwh")[rows]
    work = Work(
        ids=tuple(jobs.ids[row] for row in rows.tolist()),
        gpus=wanted.astype(np.float64),
        gang=wanted.astype(np.float64),
        worth=per_h * full_h,
        full_h=full_h,
        delay_per_h=per_h * np.where(due, DELAY_SHARE_WITH_DEADLINE, DELAY_SHARE),
        ceiling_per_mwh=np.where(np.isfinite(ceiling), ceiling, np.inf),
    )
    offers = _offers(snapshot, rows, work, zones)
    return PlanProblem(
        slots=slots, site=site_of(snapshot, slots, zones), work=work, offers=offers, notes=zones.notes
    )


def slots_of(snapshot: Snapshot) -> Slots | None:
    """Quarter hours by the clock from now on, cut where budgets begin or end, up to the last known price."""
    edges_h = _edges_h(snapshot)
    outlook = snapshot.horizon.prices
    expected = _first_known(snapshot, edges_h, (snapshot.prices, outlook.expected))
    known = np.isfinite(expected)
    if not known.any():
        return None
    count = int(np.nonzero(known)[0][-1]) + 1
    edges_h, expected = edges_h[: count + 1], expected[:count]
    high = _first_known(snapshot, edges_h, (snapshot.prices, outlook.high))
    market = _guarded(expected, high)
    carbon, carbon_guarded = _carbon_per_mwh(snapshot, edges_h)
    return Slots(
        edges_h=edges_h,
        price_per_mwh=np.nan_to_num(market + carbon_guarded),
        expected_per_mwh=np.nan_to_num(expected + carbon, nan=float(np.nanmean(expected + carbon))),
        market_per_mwh=np.where(np.isfinite(market), market, np.inf),
    )


def _edges_h(snapshot: Snapshot) -> Floats:
    now, end = snapshot.now, snapshot.now + AHEAD
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    quarters = int(AHEAD / SLOT) + int(timedelta(days=1) / SLOT)
    times = [now, end, *(midnight + i * SLOT for i in range(1, quarters))]
    for budget in snapshot.horizon.budgets:
        times += [budget.start, *([] if budget.end is None else [budget.end])]
    hours = np.unique([_hours(now, at) for at in times if now <= at <= end])
    apart = np.concatenate([[True], np.diff(hours) > SLIVER_H])
    return np.asarray(hours[apart], dtype=np.float64)


def _hours(now: datetime, at: datetime) -> float:
    return (at - now).total_seconds() / 3600.0


def _first_known(snapshot: Snapshot, edges_h: Floats, series: Sequence[Series]) -> Floats:
    """Per slot: the mean of the first series that covers it; NaN where none does."""
    found = np.full(len(edges_h) - 1, np.nan)
    for one in series:
        mean = _slot_means(snapshot.now, edges_h, one)
        found = np.where(np.isnan(found), mean, found)
    return found


def _slot_means(now: datetime, edges_h: Floats, series: Series) -> Floats:
    """Time-weighted means over the slots; NaN where the series does not cover one wholly."""
    near = [s for s in series if s.end > now and _hours(now, s.start) < edges_h[-1]]
    if not near:
        return np.full(len(edges_h) - 1, np.nan)
    knots = np.array([_hours(now, t) for s in near for t in (s.start, s.end)])
    lengths = np.diff(knots, prepend=knots[0])
    covered = np.where(np.arange(len(knots)) % 2 == 1, lengths, 0.0)
    amounts = covered * np.repeat([s.value for s in near], 2)
    hours = np.diff(np.interp(edges_h, knots, np.cumsum(covered)))
    total = np.diff(np.interp(edges_h, knots, np.cumsum(amounts)))
    whole = hours > np.diff(edges_h) - SLIVER_H
    return np.where(whole, total / np.where(whole, hours, 1.0), np.nan)


def _guarded(expected: Floats, high: Floats) -> Floats:
    risk = np.where(np.isfinite(high), np.maximum(high - expected, 0.0), 0.0)
    return np.asarray(expected + TAIL_GUARD * risk)


def _carbon_per_mwh(snapshot: Snapshot, edges_h: Floats) -> tuple[Floats, Floats]:
    """(as expected, guarded): money for the grams behind each MWh; what holds now where nothing is known."""
    outlook: Outlook = snapshot.horizon.carbon
    expected = _first_known(snapshot, edges_h, (outlook.expected,))
    now = snapshot.carbon_g_per_kwh or 0.0
    expected = np.where(np.isnan(expected), now, expected)
    guarded = _guarded(expected, _first_known(snapshot, edges_h, (outlook.high,)))
    per_gram = snapshot.carbon_cost_per_tonne / 1e3
    return expected * per_gram, guarded * per_gram


def _offers(snapshot: Snapshot, rows: Ints, work: Work, zones: Zones) -> Offers:
    """Every job in every zone that suits it, at every cap that its boards can have."""
    jobs = snapshot.jobs
    boards = boards_of(jobs.curves, snapshot.gpus.kinds)
    job, zone = np.nonzero(_suits(snapshot, rows, work, zones))
    row, board = rows[job], boards.row(jobs.curve[rows[job]], zones.kind[zone])
    terms = Terms(
        board=board,
        floor_share=jobs.floats("floor_share")[row],
        rule_share=np.full(len(row), np.nan),
        value=jobs.floats("value_per_gpu_h")[row],
    )
    rungs = ladder(boards, terms, snapshot.energy_price_per_mwh())
    top = np.arange(rungs.cap_w.shape[1]) == rungs.there.cumsum(axis=1).argmax(axis=1)[:, None]
    there = (rungs.there & (zones.settable[zone][:, None] | top)) & (rungs.share > 0)
    there &= ~_outdone(boards, board, rungs, zones.empty_w[zone], there)
    pair, rung = np.nonzero(there)
    cap_w = np.where(zones.settable[zone[pair]], rungs.cap_w[pair, rung], zones.max_cap_w[zone[pair]])
    return _priced_offers(snapshot, boards, work, zones, rows, job[pair], zone[pair], board[pair], cap_w)


def _priced_offers(
    snapshot: Snapshot,
    boards: Boards,
    work: Work,
    zones: Zones,
    rows: Ints,
    job: Ints,
    zone: Ints,
    board: Ints,
    cap_w: Floats,
) -> Offers:
    jobs, gpus = snapshot.jobs, work.gpus[job]
    draw_w = boards.table.power_w(board, cap_w)
    hours = work.full_h[job] / boards.table.throughput(board, cap_w)
    deadline_h = (jobs.floats("deadline_s")[rows[job]] - snapshot.now.timestamp()) / 3600.0
    margin_h = jobs.floats("restart_cost_s")[rows[job]] / 3600.0 + hours * DEADLINE_MARGIN
    return Offers(
        job=job,
        zone=zone,
        cap_w=cap_w,
        hours=hours,
        watts=gpus * np.maximum(cap_w - zones.empty_w[zone], 0.0),
        extra_w=gpus * (draw_w - boards.table.idle_w[board]),
        draw_w=gpus * draw_w,
        latest_end_h=np.where(np.isfinite(deadline_h), deadline_h - margin_h + SAME_TIME_H, np.inf),
    )


def _outdone(boards: Boards, board: Ints, rungs: Ladder, empty_w: Floats, there: Bools) -> Bools:
    """Rungs that take no less of GPU-hours, energy and watt-hours than another: below the knees."""
    hours = 1.0 / np.maximum(rungs.share, 1e-9)
    rows = np.broadcast_to(board[:, None], rungs.cap_w.shape)
    energy = boards.table.power_w(rows, rungs.cap_w) - boards.table.idle_w[rows]
    outdone = np.zeros(rungs.cap_w.shape, dtype=bool)
    takes = (hours, energy * hours, (rungs.cap_w - empty_w[:, None]) * hours)
    for other in range(rungs.cap_w.shape[1]):
        no_less = [take >= take[:, other, None] for take in takes]
        more = np.any([take > take[:, other, None] for take in takes], axis=0)
        outdone |= np.all(no_less, axis=0) & more & there[:, other, None]
    return outdone


def _suits(snapshot: Snapshot, rows: Ints, work: Work, zones: Zones) -> Bools:
    """J x Z: right model, large enough."""
    jobs = snapshot.jobs
    models = [snapshot.gpus.kinds[kind].model.lower() for kind in zones.kind.tolist()]
    fits = np.array(
        [[wanted is None or wanted.lower() in model for model in models] for wanted in jobs.gpu_types],
        dtype=bool,
    ).reshape(len(jobs.gpu_types), len(models))
    return np.asarray(fits[jobs.gpu_type[rows]] & (work.gpus[:, None] <= zones.size[None, :]))

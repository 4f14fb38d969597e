"""What a snapshot's site has free for deferred work in each slot: GPUs by zone, watts by limited domain.

Running jobs hold their GPUs for the time that remains to them (throughout where nobody knows it), at the
caps of their contracts' floors: what they can be held to. All other GPUs count as the account counts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.tree_index import OUTSIDE
from scheduler.model import JobState
from scheduler.placing.levels import Terms, boards_of, floor_w
from scheduler.plan.problem import Site, Slots
from scheduler.snapshot import Snapshot

MAX_ZONES = 8  # more would make the plan as large as the placement
MAX_PAIRS = 50_000  # of jobs and zones


@dataclass(frozen=True, kw_only=True)
class Zones:
    """Sets of usable GPUs of one kind under the same limited domains; `row` is each GPU's, -1 = in none.

    `domains` are columns of the tree's index, parents first: those whose limit may bind and that are told
    apart. `nearest` is each GPU's place in `domains`, -1 = under none.
    """

    row: Ints
    nearest: Ints
    names: tuple[str, ...]
    kind: Ints
    settable: Bools
    max_cap_w: Floats
    empty_w: Floats  # the least that an empty GPU counts at
    size: Ints
    domains: Ints
    under: Bools  # Z x D
    notes: tuple[str, ...]


def zones_of(snapshot: Snapshot, slots: Slots, *, jobs: int, largest: int) -> Zones:
    """As deep in the tree as so many jobs allow, each kind with a zone that holds their `largest` gang."""
    most = min(MAX_ZONES, MAX_PAIRS // jobs)
    index, gpus = snapshot.tree.index, snapshot.gpus
    binding = _binding(snapshot, _Limits.of(snapshot, slots).available_w)
    usable = np.nonzero(gpus.usable)[0]
    for depth in range(int(index.depth.max()), -1, -1):
        domains = np.nonzero((binding & (index.depth <= depth)) | (index.depth == 0))[0]
        nearest = _nearest(snapshot, domains)
        keys, shape = (gpus.kind, gpus.settable.astype(np.int64), nearest + 1), (len(gpus.kinds), 2)
        key = np.ravel_multi_index([part[usable] for part in keys], (*shape, len(domains) + 1))
        found, at, size = np.unique(key, return_inverse=True, return_counts=True)
        zones = np.stack(np.unravel_index(found, (*shape, len(domains) + 1)), axis=1)
        zones[:, 2] -= 1
        if depth == 0 or (len(zones) <= most and _holds(zones[:, 0], size, largest)):
            break
    row = np.full(len(gpus), -1, dtype=np.int64)
    row[usable] = at.reshape(-1)
    empty_w = np.full(len(zones), np.inf)
    np.minimum.at(empty_w, row[usable], gpus.idle_w[usable])
    merged = int(binding.sum()) - int(binding[domains].sum())
    return Zones(
        row=row,
        nearest=nearest,
        names=tuple(_name(snapshot, domains, *zone) for zone in zones.tolist()),
        kind=zones[:, 0],
        settable=zones[:, 1].astype(bool),
        max_cap_w=np.array([kind.max_cap_w for kind in gpus.kinds])[zones[:, 0]],
        empty_w=empty_w,
        size=size,
        domains=domains,
        under=_above(snapshot, domains)[zones[:, 2]],
        notes=(f"{merged} limited domains count only in the sums over them",) if merged else (),
    )


def site_of(snapshot: Snapshot, slots: Slots, zones: Zones) -> Site:
    """Free GPUs and watts per slot, and the site's draw. All in watts of GPUs: the overhead is taken out."""
    index, horizon, gpus = snapshot.tree.index, snapshot.horizon, snapshot.gpus
    release = _release_slot(snapshot, slots)
    idle_w = np.where(gpus.usable | (release > 0), gpus.idle_w, gpus.accounted_w)
    counted_w = _over_time(snapshot, zones, slots, release, _held_w(snapshot), idle_w)
    limits = _Limits.of(snapshot, slots)
    available_w = _sums_tightened(snapshot, limits.available_w)[zones.domains][:, limits.epoch]
    draw_w = np.where(np.isnan(gpus.draw_w), gpus.accounted_w, gpus.draw_w)
    site_w = _over_time(snapshot, zones, slots, release, draw_w, gpus.idle_w)[0] + index.base_under_w[0]
    overhead = float(index.pue[0])
    return Site(
        zones=zones.names,
        domains=tuple(index.names[column] for column in zones.domains.tolist()),
        under=zones.under,
        gpus=_free_gpus(slots, zones, release),
        watts=np.maximum(available_w - counted_w, 0.0),
        draw_w=site_w,
        ramp_w_per_min=horizon.ramp_w_per_min / overhead,
        demand_charge_per_kw=horizon.demand_charge_per_kw * overhead,
        month_peak_w=horizon.month_peak_w / overhead,
    )


@dataclass(frozen=True)
class _Limits:
    """Watts that limits leave for GPUs, domains x epochs: as often as budgets begin or end. `epoch` per slot.

    A limit of now that no budget explains holds on.
    """

    available_w: Floats
    epoch: Ints

    @classmethod
    def of(cls, snapshot: Snapshot, slots: Slots) -> _Limits:
        tree, index, budgets = snapshot.tree, snapshot.tree.index, snapshot.horizon.budgets
        starts = [snapshot.now + timedelta(hours=hour) for hour in slots.edges_h[:-1].tolist()]
        soon = timedelta(seconds=1)  # a slot begins with its budget, whatever its hours were rounded to
        holds = np.array([[b.holds_at(start + soon) for b in budgets] for start in starts], dtype=bool)
        _, first, epoch = np.unique(
            holds.reshape(len(starts), -1), axis=0, return_index=True, return_inverse=True
        )
        columns = []
        for row in first.tolist():
            limits = tree.limits_at(starts[row] + soon, budgets)
            columns.append([limits[name] for name in index.names])
        limits_w = np.array(columns, dtype=np.float64).T
        known = tree.limits_at(snapshot.now, budgets)
        lower = snapshot.domain_limit_w < np.array([known[name] for name in index.names]) - 1e-6
        limits_w[lower] = np.minimum(limits_w[lower], snapshot.domain_limit_w[lower, None])
        available_w = limits_w / index.pue[:, None] - index.base_under_w[:, None]
        return cls(available_w, epoch.reshape(-1))


def _most_w(snapshot: Snapshot) -> Floats:
    """Per GPU: more than it can ever count."""
    return np.maximum(snapshot.gpus.max_cap_w, snapshot.gpus.accounted_w)


def _binding(snapshot: Snapshot, available_w: Floats) -> Bools:
    """Domains that could not carry all their GPUs at their maximum in some slot."""
    most_w = snapshot.tree.index.under(snapshot.gpus.leaf, _most_w(snapshot))
    rows: Bools = available_w.min(axis=1) < most_w
    return rows


def _sums_tightened(snapshot: Snapshot, available_w: Floats) -> Floats:
    """A domain has no more than its children have together, with what hangs on it directly."""
    index, gpus = snapshot.tree.index, snapshot.gpus
    inside = gpus.leaf != OUTSIDE
    own_w = np.bincount(gpus.leaf[inside], _most_w(snapshot)[inside], len(index.names)).astype(np.float64)
    total: Floats = np.repeat(own_w[:, None], available_w.shape[1], axis=1)
    for columns in reversed(index.by_depth):
        total[columns] = np.minimum(total[columns], available_w[columns])
        below = columns[index.parent[columns] != OUTSIDE]
        np.add.at(total, index.parent[below], total[below])
    return total


def _nearest(snapshot: Snapshot, domains: Ints) -> Ints:
    """Per GPU: the place in `domains` of the nearest one over it, -1 = none."""
    index, leaf = snapshot.tree.index, snapshot.gpus.leaf
    place = np.full(len(index.names) + 1, -1, dtype=np.int64)
    place[domains] = np.arange(len(domains))
    over = place[index.ancestors]  # OUTSIDE is the last, which has no place
    first = over[np.arange(len(over)), (over >= 0).argmax(axis=1)]
    return np.asarray(np.where(leaf >= 0, first[np.maximum(leaf, 0)], -1))


def _above(snapshot: Snapshot, domains: Ints) -> Bools:
    """D x D: which domains (second axis) each lies under, itself included."""
    over = snapshot.tree.index.ancestors[domains]
    rows: Bools = (over[:, :, None] == domains).any(axis=1)
    return rows


def _holds(kind: Ints, size: Ints, largest: int) -> bool:
    """Whether of each kind some zone holds `largest` GPUs, or as many as there are."""
    whole, most = np.bincount(kind, size), np.zeros(int(kind.max(initial=0)) + 1)
    np.maximum.at(most, kind, size)
    return bool(np.all(most >= np.minimum(whole, largest)))


def _release_slot(snapshot: Snapshot, slots: Slots) -> Ints:
    """Per GPU: the first slot in which its run no longer holds it; 0 = held by none, S = throughout."""
    gpus, jobs = snapshot.gpus, snapshot.jobs
    left_h = jobs.floats("remaining_s") / 3600.0
    left_h = np.where(np.isnan(left_h), np.inf, left_h)
    left_h = np.where(jobs.in_state(JobState.STOPPING), 0.0, left_h)
    slot = np.searchsorted(slots.edges_h[:-1], left_h - 1e-9)
    of_holder = np.append(slot, len(slots))[gpus.holder]
    return np.where(gpus.held, of_holder, 0)


def _held_w(snapshot: Snapshot) -> Floats:
    """Per GPU: the cap of its contract's floor, which counts while its run holds it; else as accounted."""
    gpus, jobs = snapshot.gpus, snapshot.jobs
    held = np.nonzero(gpus.holder >= 0)[0]
    boards = boards_of(jobs.curves, gpus.kinds)
    job = gpus.holder[held]
    terms = Terms(
        board=boards.row(jobs.curve[job], gpus.kind[held]),
        floor_share=jobs.floats("floor_share")[job],
        rule_share=np.full(len(job), np.nan),
        value=np.zeros(len(job)),
    )
    watts = gpus.accounted_w.copy()
    watts[held] = np.where(gpus.settable[held], floor_w(boards, terms), gpus.max_cap_w[held])
    return watts


def _over_time(
    snapshot: Snapshot, zones: Zones, slots: Slots, release: Ints, before_w: Floats, after_w: Floats
) -> Floats:
    """D x S: sums of `before_w` until each GPU's release, and of `after_w` from then on."""
    inside, width = np.nonzero(zones.nearest >= 0)[0], len(slots) + 1
    cells, at = len(zones.domains) * width, zones.nearest[inside] * width
    start = np.bincount(at, before_w[inside], cells)
    change = np.bincount(at + release[inside], (after_w - before_w)[inside], cells)
    own_w = np.cumsum((start + change).reshape(-1, width), axis=1)[:, :-1]
    return np.asarray(_above(snapshot, zones.domains).T.astype(np.float64) @ own_w)


def _free_gpus(slots: Slots, zones: Zones, release: Ints) -> Floats:
    """Z x S."""
    usable, width = np.nonzero(zones.row >= 0)[0], len(slots) + 1
    freed = np.bincount(zones.row[usable] * width + release[usable], minlength=len(zones.names) * width)
    return np.cumsum(freed.reshape(-1, width), axis=1)[:, :-1].astype(np.float64)


def _name(snapshot: Snapshot, domains: Ints, kind: int, settable: int, nearest: int) -> str:
    fixed = "" if settable else ", fixed limits"
    return f"{snapshot.tree.index.names[domains[nearest]]}: {snapshot.gpus.kinds[kind].model}{fixed}"

"""Who must leave the GPUs because a domain cannot carry what runs, even at the boards' least caps. Pure.

Looks at where the watts will be, not where they are: what is being stopped counts as gone, and a GPU that was
left a moment ago as idle. Otherwise every stop would, until its watts have settled, call for the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from power.arrays import Bools, Floats
from power.cap_scarce import Holdings, Parts, Scarce
from power.cap_yielding import give_way
from scheduler.cap_demands import Steered
from scheduler.model import JobState, WaitReason
from scheduler.snapshot import Snapshot

_FITS_W = 1e-6


@dataclass(frozen=True, slots=True)
class Shortage:
    """`missing_w` by domain at its meter, with everybody still there; `leaving` are rows of the job table
    with the domain that each leaves for, least important first."""

    missing_w: Mapping[str, float] = field(default_factory=dict)
    leaving: Mapping[int, str] = field(default_factory=dict)


def shortage(jobs: Steered) -> Shortage:
    """Least important first; among equals the youngest."""
    snapshot = jobs.snapshot
    index, gpus = snapshot.tree.index, snapshot.gpus
    leaving = _leaving(snapshot)
    stays = np.zeros(len(snapshot.jobs) + 1, dtype=bool)  # the last: NOBODY's
    stays[jobs.row] = True
    stays[:-1] &= ~leaving
    held = stays[gpus.holder]
    excess_w = index.under(gpus.leaf, _counted_w(snapshot, held, leaving)) - snapshot.domain_gpu_w
    short = excess_w > _FITS_W
    if not short.any():
        return Shortage()
    scarce = Scarce.of(index, short, snapshot.domain_gpu_w)
    row_of = np.zeros(len(snapshot.jobs), dtype=np.int64)
    row_of[jobs.row] = np.arange(len(jobs.row))
    frees = np.nonzero(held & gpus.healthy & (gpus.leaf >= 0))[0]
    freed_w = np.maximum(_least_w(snapshot) - gpus.idle_w, 0.0)[frees]
    parts = Parts.of(Holdings(row_of[gpus.holder[frees]], gpus.leaf[frees], freed_w), scarce, len(jobs.row))
    turn = jobs.demands.turn()
    given = give_way(parts, scarce, excess_w[scarce.column], np.ones(len(turn)), turn, whole=True)
    gone = np.nonzero(given.domain >= 0)[0]
    gone = gone[np.argsort(turn[gone])]
    column, names = scarce.column, index.names
    return Shortage(
        missing_w={names[c]: float(excess_w[c] * index.pue[c]) for c in column.tolist()},
        leaving={int(jobs.row[job]): names[column[given.domain[job]]] for job in gone.tolist()},
    )


def _leaving(snapshot: Snapshot) -> Bools:
    """Per job: already on its way off its GPUs."""
    jobs = snapshot.jobs
    leaving = jobs.in_state(JobState.STOPPING)
    for row in np.nonzero(jobs.in_state(JobState.PAUSING, JobState.PAUSED))[0].tolist():
        leaving[row] = jobs.jobs[row].wait_reason is WaitReason.POWER
    return leaving


def _least_w(snapshot: Snapshot) -> Floats:
    gpus = snapshot.gpus
    least_w: Floats = np.where(gpus.healthy & gpus.settable, gpus.min_cap_w, gpus.accounted_w)
    return least_w


def _counted_w(snapshot: Snapshot, held: Bools, leaving: Bools) -> Floats:
    """Watts per GPU once everything has settled, with the held ones at their least caps."""
    gpus = snapshot.gpus
    left = np.append(leaving, False)[gpus.holder]
    empty = gpus.healthy & ~gpus.foreign & (gpus.draw_w <= gpus.idle_w)
    at_rest_w = np.where(~gpus.held & empty, np.minimum(gpus.idle_w, gpus.accounted_w), gpus.accounted_w)
    settled_w = np.where(gpus.healthy & (gpus.settling | left), gpus.idle_w, at_rest_w)
    counted_w: Floats = np.where(held, _least_w(snapshot), settled_w)
    return counted_w

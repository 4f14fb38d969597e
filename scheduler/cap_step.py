"""Every second: split the watts that are there now over what runs. Pure, and without a solver.

The split itself is `power.capping.split_watts`; `cap_demands` says who asks for what, and what stays reserved
for everything that cannot be steered; `cap_causes` tells each job why its cap is not higher.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import compress

import numpy as np

from power.arrays import Floats
from power.capping import CapSplit, split_watts
from power.tree_index import OUTSIDE
from scheduler.cap_causes import Causes, conditions
from scheduler.cap_demands import Steered, steered
from scheduler.decision import Certificate, Decision, Pause, Preempt
from scheduler.decision_tables import CapTable
from scheduler.model import JobState, WaitReason
from scheduler.shortage import Shortage, shortage
from scheduler.snapshot import Snapshot

NOTES_AT_MOST = 20  # of a kind; the rest is counted


def cap_step(snapshot: Snapshot) -> Decision:
    """One cap for every job on GPUs, within every domain, contracts kept where that is possible.

    Everything else counts as it is accounted. Where a limit cannot be met, contracts break in reverse order
    of priority (EMERGENCY); where not even the boards' least caps fit, jobs pause or stop.
    """
    began_s = time.perf_counter()
    jobs = steered(snapshot)
    split = split_watts(jobs.demands, snapshot.tree.index, jobs.available_w)
    short = shortage(jobs) if split.floors.missing_w.any() else Shortage()
    pauses, preempts = _stops(short, snapshot)
    caps = _caps(jobs, split)
    certificate = Certificate(
        step="cap",
        value=split.value,
        bound=split.bound,
        solve_s=time.perf_counter() - began_s,
    )
    return Decision(
        caps=caps,
        pauses=pauses,
        preempts=preempts,
        certificates=(certificate,),
        notes=(*_broken(jobs, split), *_lacking(short, snapshot)),
    )


def _caps(jobs: Steered, split: CapSplit) -> CapTable:
    cap_w = _whole_milliwatts(split.cap_w)
    condition = conditions(jobs, split, cap_w)
    return CapTable(
        ids=jobs.snapshot.jobs.ids,
        job=jobs.row,
        cap_w=cap_w,
        condition=condition,
        cause=Causes(jobs, split, cap_w, condition),
        entry=np.arange(len(cap_w)),
    )


def _whole_milliwatts(cap_w: Floats) -> Floats:
    """Rounded down (but for float dust), so that what is sent never adds up to more."""
    rounded: Floats = np.floor(cap_w * 1000 + 1e-6) / 1000
    return rounded


def _stops(short: Shortage, snapshot: Snapshot) -> tuple[tuple[Pause, ...], tuple[Preempt, ...]]:
    """Who must give way: frozen at once where its contract allows; stopped elsewhere, or where freezing
    freed too little (a frozen job still holds its GPUs at their least cap)."""
    jobs = snapshot.jobs
    rows = np.array(list(short.leaving), dtype=np.int64)
    running = jobs.in_state(JobState.RUNNING)[rows]
    pauses = running & jobs.bools("pausable")[rows] & ~jobs.bools("frozen")[rows]
    stops = ~pauses & (running | jobs.in_state(JobState.STARTING, JobState.PAUSED)[rows])
    leaving = [
        (jobs.ids[row], f"{domain} cannot carry what runs even at the boards' least caps")
        for row, domain in short.leaving.items()
    ]
    return (
        tuple(Pause(job_id=i, cause=why, reason=WaitReason.POWER) for i, why in compress(leaving, pauses)),
        tuple(Preempt(job_id=i, cause=why) for i, why in compress(leaving, stops)),
    )


def _broken(jobs: Steered, split: CapSplit) -> tuple[str, ...]:
    """Contracts that a domain could not keep, in the order in which they gave way."""
    floors = split.floors
    broken = np.nonzero(floors.broken_for != OUTSIDE)[0]
    if not len(broken):
        return ()
    broken = broken[np.argsort(jobs.demands.turn()[broken])]
    names, ids = jobs.snapshot.tree.index.names, jobs.snapshot.jobs.ids
    told = [
        f"{names[floors.broken_for[job]]}: contract of {ids[int(jobs.row[job])]} broken,"
        f" {floors.cap_w[job]:.0f} W instead of {jobs.demands.floor_w[job]:.0f} W per GPU"
        for job in broken[:NOTES_AT_MOST].tolist()
    ]
    return _with_the_rest(told, len(broken), "contracts broken")


def _lacking(short: Shortage, snapshot: Snapshot) -> tuple[str, ...]:
    """Domains that cannot carry what runs, the outermost first."""
    leaving = [snapshot.jobs.ids[row] for row in list(short.leaving)[:NOTES_AT_MOST]]
    if len(short.leaving) > NOTES_AT_MOST:
        leaving.append(f"and {len(short.leaving) - NOTES_AT_MOST} more")
    told = [
        f"{domain} lacks {watts:.0f} W even at the boards' least caps;"
        f" must pause or stop: {', '.join(leaving) or 'nothing that could free them'}"
        for domain, watts in list(short.missing_w.items())[:NOTES_AT_MOST]
    ]
    return _with_the_rest(told, len(short.missing_w), "domains short")


def _with_the_rest(told: Sequence[str], count: int, what: str) -> tuple[str, ...]:
    rest = count - len(told)
    return (*told, f"and {rest} more {what}") if rest > 0 else tuple(told)

"""The second opinion on caps: one for each of twenty thousand jobs, checked in columns. Pure.

A lowering needs no watts, and gives none before a later snapshot shows it confirmed. A raise takes its watts
at once. Where the raises in a domain do not all fit, the most important and oldest are kept, as far as they
go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.decision import JobCap
from scheduler.decision_tables import CONDITION_CODE, CapTable
from scheduler.gpu_table import NOBODY
from scheduler.job_table import STATE_CODE, STATES
from scheduler.model import Condition, JobState
from scheduler.snapshot import Snapshot
from scheduler.verify_room import FITS_W, Room, too_few

CAP_TOLERANCE_W = 0.5
SHARE_TOLERANCE = 0.02  # a contract floor may have moved a little since the decision was made
FULL_SHARE = 0.999  # of its speed, to a job that gives nothing away


class Flaw(IntEnum):
    """Why a cap is dropped, in the order of the checks."""

    NONE = 0
    NO_JOB = 1
    NO_GPU = 2
    NOT_ITS_OWN = 3
    FIXED = 4
    NO_NUMBER = 5
    OUTSIDE = 6
    CONTRACT = 7
    TWICE = 8
    NO_WATTS = 9


@dataclass(frozen=True, kw_only=True)
class Boards:
    """Per job: what the GPUs of its run allow, those whose limit can be set.

    `least_w .. most_w` are the caps that all (healthy) ones take; `top_w` is the highest limit among them: at
    one cap, that board is held down most.
    """

    held: Ints  # on a power domain, settable or not
    settable: Ints
    least_w: Floats
    most_w: Floats
    top_w: Floats

    @classmethod
    def of(cls, snapshot: Snapshot) -> Boards:
        gpus, count = snapshot.gpus, len(snapshot.jobs)
        held = (gpus.holder != NOBODY) & (gpus.leaf >= 0)
        settable = np.nonzero(held & gpus.settable)[0]
        holder = gpus.holder[settable]
        healthy = gpus.healthy[settable]
        sound = healthy | (np.bincount(holder[healthy], minlength=count) == 0)[holder]
        least_w, most_w, top_w = np.full(count, -np.inf), np.full(count, np.inf), np.full(count, -np.inf)
        np.maximum.at(least_w, holder[sound], gpus.min_cap_w[settable[sound]])
        np.minimum.at(most_w, holder[sound], gpus.max_cap_w[settable[sound]])
        np.maximum.at(top_w, holder, gpus.max_cap_w[settable])
        return cls(
            held=np.bincount(gpus.holder[held], minlength=count),
            settable=np.bincount(holder, minlength=count),
            least_w=least_w,
            most_w=most_w,
            top_w=top_w,
        )


class CapCheck:
    """All caps of a decision against one snapshot; `flaw` says of each whether it is kept."""

    def __init__(self, caps: Sequence[JobCap], snapshot: Snapshot, room: Room) -> None:
        self.caps, self._snapshot = caps, snapshot
        self._job, self._cap_w, self._emergency = _columns(caps, snapshot)
        # Of those without watts: the domain that lacks them, what it has left, what the raise would take.
        self._short = np.zeros(len(caps), dtype=[("domain", "i8"), ("left_w", "f8"), ("more_w", "f8")])
        self.flaw = np.zeros(len(caps), dtype=np.int64)
        if len(caps):
            self._boards = Boards.of(snapshot)
            self._check_alone()
            self._check_twice()
            self._take_watts(room)

    def kept(self) -> Sequence[JobCap]:
        """In the order of the decision."""
        if isinstance(self.caps, CapTable):
            return self.caps if not self.flaw.any() else self.caps.only(self.flaw == Flaw.NONE)
        return tuple(cap for cap, flaw in zip(self.caps, self.flaw, strict=True) if flaw == Flaw.NONE)

    # --- each cap by itself ---------------------------------------------------------------------------------

    def _check_alone(self) -> None:
        jobs, boards, cap_w = self._snapshot.jobs, self._boards, self._cap_w
        if not len(jobs):
            self.flaw[:] = Flaw.NO_JOB
            return
        known = self._job >= 0
        job = np.where(known, self._job, 0)
        run_gpus = jobs.ints("run_gpus")[job]
        inside = (cap_w >= boards.least_w[job] - FITS_W) & (cap_w <= boards.most_w[job] + FITS_W)
        at_work = ~self._emergency & (jobs.ints("state")[job] == STATE_CODE[JobState.RUNNING])
        rules = (
            (Flaw.NO_JOB, ~known),
            (Flaw.NO_GPU, run_gpus == 0),
            (Flaw.NOT_ITS_OWN, self._not_its_own(job, known & (run_gpus != boards.held[job]))),
            (Flaw.FIXED, boards.settable[job] == 0),
            (Flaw.NO_NUMBER, ~np.isfinite(cap_w)),
            (Flaw.OUTSIDE, ~inside),
        )
        for flaw, applies in rules:
            self.flaw[applies & (self.flaw == Flaw.NONE)] = flaw
        bound = np.nonzero(at_work & (self.flaw == Flaw.NONE))[0]
        kept = self._shares(bound) >= self._floors(bound) - SHARE_TOLERANCE
        self.flaw[bound[~kept]] = Flaw.CONTRACT

    def _not_its_own(self, job: Ints, suspect: Bools) -> Bools:
        """A gang that lost a GPU is still held down on the others; one whose GPU another run holds is not."""
        bad = np.zeros(len(job), dtype=bool)
        for entry in np.nonzero(suspect)[0].tolist():
            bad[entry] = self._foreign_gpu(int(job[entry])) is not None
        return bad

    def _foreign_gpu(self, job: int) -> str | None:
        """A GPU of the job's run that the run does not hold, if any."""
        gpus, run = self._snapshot.gpus, self._snapshot.jobs.jobs[job].run
        for uuid in run.gpu_uuids if run is not None else ():
            row = gpus.row_of.get(uuid)
            if row is not None and gpus.leaf[row] >= 0 and gpus.holder[row] != job:
                return uuid
        return None

    def _shares(self, entries: Ints) -> Floats:
        """Share of its speed that each job has at its cap, by the pace of its slowest board."""
        jobs, job = self._snapshot.jobs, self._job[entries]
        curve = jobs.curve[job]
        share_of_top = self._cap_w[entries] / self._boards.top_w[job]
        return jobs.curves.throughput(curve, share_of_top * jobs.curves.tdp_w[curve])

    def _floors(self, entries: Ints) -> Floats:
        jobs, job = self._snapshot.jobs, self._job[entries]
        most = np.where(jobs.bools("gives_nothing")[job], FULL_SHARE, 1.0)
        return np.minimum(jobs.floats("floor_share")[job], most)

    def _check_twice(self) -> None:
        """Of several caps for one job the first that is allowed counts."""
        sound = np.nonzero(self.flaw == Flaw.NONE)[0]
        if not (np.bincount(self._job[sound]) > 1).any():
            return
        first = np.unique(self._job[sound], return_index=True)[1]
        again = np.ones(len(sound), dtype=bool)
        again[first] = False
        self.flaw[sound[again]] = Flaw.TWICE

    # --- all of them together -------------------------------------------------------------------------------

    def _take_watts(self, room: Room) -> None:
        """Raises at the worst case, in every domain over them."""
        gpus, entry_of = self._snapshot.gpus, np.full(len(self._snapshot.jobs) + 1, -1)  # the last: nobody's
        sound = np.nonzero(self.flaw == Flaw.NONE)[0]
        entry_of[self._job[sound]] = sound
        entry = entry_of[gpus.holder]
        row = np.nonzero((entry >= 0) & gpus.settable & (gpus.leaf >= 0))[0]
        confirmed_w, cap_w = gpus.confirmed_cap_w[row], self._cap_w[entry[row]]
        # An unknown cap may be anything, so that every set could be a raise.
        row = row[~(cap_w <= confirmed_w + CAP_TOLERANCE_W)]
        if not len(row):
            return
        entry = entry[row]
        cap_w = self._cap_w[entry]
        more_w = np.maximum(0.0, cap_w - room.worst_w[row])
        fits = self._fitting(entry, gpus.leaf[row], more_w, room)
        self.flaw[entry[~fits]] = Flaw.NO_WATTS
        room.left_w -= self._snapshot.tree.index.under(gpus.leaf[row[fits]], more_w[fits])
        room.worst_w[row[fits]] = np.maximum(room.worst_w[row[fits]], cap_w[fits])

    def _fitting(self, entry: Ints, leaf: Ints, more_w: Floats, room: Room) -> Bools:
        """Of raised GPUs those whose job's raise fits under every limit: the deepest domains decide first."""
        index = self._snapshot.tree.index
        kept = np.ones(len(entry), dtype=bool)
        over = self._overfull(leaf, more_w, room)
        if not over.any():
            return kept
        place = self._places(entry)
        for depth in range(len(index.by_depth) - 1, -1, -1):
            if not over[index.by_depth[depth]].any():
                continue
            steps_up = index.depth[leaf] - depth
            domain = index.ancestors[leaf, np.maximum(steps_up, 0)]
            here = np.nonzero(kept & (steps_up >= 0) & over[domain])[0]
            dropped = np.zeros(len(self.caps), dtype=bool)
            dropped[self._cut(entry[here], domain[here], more_w[here], place[here], room)] = True
            kept &= ~dropped[entry]
            over = self._overfull(leaf[kept], more_w[kept], room)
        return kept

    def _overfull(self, leaf: Ints, more_w: Floats, room: Room) -> Bools:
        """Domains in which raises are asked for and do not all fit."""
        index = self._snapshot.tree.index
        asked = index.under(leaf, np.ones(len(leaf))) > 0
        over: Bools = asked & ~(index.under(leaf, more_w) <= room.left_w + room.slack_w)
        return over

    def _places(self, entry: Ints) -> Ints:
        """Per raised GPU: the place of its job in the order of importance, then of age."""
        jobs, entries = self._snapshot.jobs, np.nonzero(np.bincount(entry))[0]
        job = self._job[entries]
        order = np.lexsort((jobs.floats("submitted_s")[job], -jobs.ints("rank")[job]))
        place = np.zeros(len(self.caps), dtype=np.int64)
        place[entries[order]] = np.arange(len(entries))
        return place[entry]

    def _cut(self, entry: Ints, domain: Ints, more_w: Floats, place: Ints, room: Room) -> Ints:
        """Entries that do not fit any more, in order, into the domains given."""
        order = np.lexsort((place, domain))
        entry, domain, more_w = entry[order], domain[order], more_w[order]
        begins = np.concatenate([[True], (entry[1:] != entry[:-1]) | (domain[1:] != domain[:-1])])
        start = np.nonzero(begins)[0]  # of each job's GPUs in each domain
        entry, domain, need_w = entry[start], domain[start], np.add.reduceat(more_w, start)
        first = np.concatenate([[True], domain[1:] != domain[:-1]])
        segment = np.cumsum(first) - 1
        left_w, slack_w = room.left_w[domain], room.slack_w[domain]
        taken_w = _running(need_w, first, segment)
        drops = ~((taken_w <= left_w + slack_w) | ((need_w == 0.0) & (left_w >= -slack_w)))
        kept_w = np.bincount(segment, np.where(drops, 0.0, need_w))[segment]
        for name, column in (("domain", domain), ("left_w", left_w - kept_w), ("more_w", need_w)):
            self._short[name][entry[drops]] = column[drops]
        dropped: Ints = entry[drops]
        return dropped

    # --- words ----------------------------------------------------------------------------------------------

    def reason(self, entry: int) -> str:
        """Why a cap was dropped."""
        flaw, job, cap_w = Flaw(self.flaw[entry]), int(self._job[entry]), float(self._cap_w[entry])
        if flaw is Flaw.NO_WATTS:
            domain, left_w, more_w = self._short[entry].tolist()
            return too_few(self._snapshot.tree.index.names[domain], left_w, more_w)
        if flaw is Flaw.OUTSIDE:
            return self._outside(job, cap_w)
        if flaw is Flaw.CONTRACT:
            share, floor = float(self._shares(np.array([entry]))[0]), self._floors(np.array([entry]))[0]
            return f"{cap_w:.0f} W leave it {share:.0%} of its speed, its contract {floor:.0%}"
        if flaw is Flaw.NO_GPU:
            return f"it is {STATES[self._snapshot.jobs.ints('state')[job]]} and holds no GPU"
        if flaw is Flaw.NOT_ITS_OWN:
            return f"GPU {self._foreign_gpu(job)} is not held by its run"
        return {
            Flaw.NO_JOB: "there is no such job any more",
            Flaw.FIXED: "the limit of its GPUs cannot be set",
            Flaw.NO_NUMBER: f"a cap of {cap_w} W is no cap",
            Flaw.TWICE: "the decision asks twice for a cap of this job",
        }[flaw]

    def _outside(self, job: int, cap_w: float) -> str:
        gpus = self._snapshot.gpus
        held = (gpus.holder == job) & (gpus.leaf >= 0) & gpus.settable
        sound = held & gpus.healthy if (held & gpus.healthy).any() else held
        beyond = (cap_w < gpus.min_cap_w - FITS_W) | (cap_w > gpus.max_cap_w + FITS_W)
        row = int(np.nonzero(sound & beyond)[0][0])
        allowed = f"{gpus.min_cap_w[row]:.0f}..{gpus.max_cap_w[row]:.0f} W"
        return f"{cap_w:.0f} W is outside {allowed} of GPU {gpus.uuids[row]}"


def _columns(caps: Sequence[JobCap], snapshot: Snapshot) -> tuple[Ints, Floats, Bools]:
    """(row of the job or NOBODY, cap, whether it breaks the contract knowingly) of each."""
    if not isinstance(caps, CapTable):
        known = CapTable.of([cap.job_id for cap in caps], caps)
        return _columns(known, snapshot)
    job, row_of = caps.job, snapshot.jobs.row_of
    if caps.ids is not snapshot.jobs.ids:
        job = np.array([row_of.get(caps.ids[row], NOBODY) for row in job.tolist()], dtype=np.int64)
    return job, caps.cap_w, caps.condition == CONDITION_CODE[Condition.EMERGENCY]


def _running(amount: Floats, first: Bools, segment: Ints) -> Floats:
    """Running sums that begin anew with each segment."""
    total = np.cumsum(amount)
    before = (total - amount)[first]
    return total - before[segment]

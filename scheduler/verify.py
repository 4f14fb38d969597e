"""The second opinion: every part of a decision against the newest snapshot. Shares no code with `place`.

What does not fit is dropped with a reason. Watts count at the worst case: a new load at its cap, a raise at
once, a lowering only when a later snapshot shows it confirmed. So nothing that passes can exceed a domain.
Caps, which every running job has, are in `verify_caps.py`; everything that moves a job is here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from scheduler.decision import Decision, Pause, Preempt, Refusal, Resume, Start, Wait
from scheduler.gpu_table import NOBODY, GpuKind
from scheduler.joined import Joined
from scheduler.made import Made
from scheduler.model import Flex, Job, JobState, WaitReason
from scheduler.snapshot import Snapshot
from scheduler.verify_caps import FULL_SHARE, SHARE_TOLERANCE, CapCheck
from scheduler.verify_refusals import Refusals
from scheduler.verify_room import FITS_W, Room
from scheduler.verify_starts import many_starts

__all__ = ["Refusals", "verify"]

Part = TypeVar("Part", Start, Pause, Resume, Preempt)


def verify(decision: Decision, snapshot: Snapshot) -> tuple[Decision, Refusals]:
    """(what may be done, what was dropped and why).

    Lowerings, pauses and stops come first and need no watts; then starts and resumes, then raises, each in
    order of priority. A start that was dropped leaves a Wait behind.
    """
    check = _Check(snapshot)
    pauses = check.keep("pause", decision.pauses, check.pause)
    preempts = check.keep("preempt", decision.preempts, check.preempt)
    starts, odd = check.pass_many(decision)
    resumes: list[Resume] = []
    ups: list[Start | Resume] = [*odd, *decision.resumes]
    for part in sorted(ups, key=check.order):
        if isinstance(part, Start):
            starts += check.keep("start", [part], check.start)
        else:
            resumes += check.keep("resume", [part], check.resume)
    caps = CapCheck(decision.caps, snapshot, check.room)
    kept = replace(
        decision,
        starts=tuple(starts),
        pauses=tuple(pauses),
        resumes=tuple(resumes),
        preempts=tuple(preempts),
        caps=caps.kept(),
        waits=Joined.of(decision.waits, *check.many_waits, check.waits),
    )
    return kept, Refusals(check.many_refusals, check.refusals, caps)


class _Refused(Exception):
    """Why a part is dropped, and what a job that would have started waits for."""

    def __init__(self, reason: str, waits_for: WaitReason = WaitReason.GPUS) -> None:
        super().__init__(reason)
        self.waits_for = waits_for


class _Check:
    """The snapshot's GPUs and watts, as they fill up with what was already passed. Jobs and GPUs by row."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot, self._jobs, self._gpus = snapshot, snapshot.jobs, snapshot.gpus
        self.room = Room(snapshot)
        self._rank, self._eligible = self._jobs.ints("rank"), self._jobs.bools("eligible")
        self._frozen, self._floor_share = self._jobs.bools("frozen"), self._jobs.floats("floor_share")
        self._usable = self._gpus.usable & ~self._gpus.held
        self._taken: set[int] = set()
        self._done: set[tuple[str, str]] = set()
        self.refusals: list[Refusal] = []
        self.waits: list[Wait] = []
        self.many_refusals: list[Sequence[Refusal]] = []
        self.many_waits: list[Sequence[Wait]] = []

    def order(self, part: Start | Resume) -> tuple[float, float]:
        """Sort key: most important first, then oldest; unknown jobs last."""
        row = self._jobs.row_of.get(part.job_id)
        if row is None:
            return math.inf, 0.0
        return -float(self._rank[row]), self._jobs.jobs[row].submitted_at.timestamp()

    def pass_many(self, decision: Decision) -> tuple[list[Start], list[Start]]:
        """(starts that pass, those to look at one by one). What passes has its GPUs and watts."""
        starts = decision.starts
        many = many_starts(starts, decision.resumes, self._snapshot, self.room)
        passed = [starts[index] for index in many.passed.tolist()]
        self._taken.update(many.taken.tolist())
        self._done.update(("start", start.job_id) for start in passed)
        self._drop([starts[index] for index in many.short.tolist()], many.why_short, WaitReason.POWER)
        missing = many.missing.tolist()
        coming = [starts[index] for index in many.coming.tolist()]
        self._drop(coming, lambda at: self._not_free(missing[at]), WaitReason.GPUS)
        return passed, [starts[index] for index in many.odd.tolist()]

    def _drop(self, starts: list[Start], why: Callable[[int], str], waits_for: WaitReason) -> None:
        """Starts of jobs without GPUs, each for the reason that `why` gives of its place."""

        def refusal(at: int) -> Refusal:
            part = starts[at]
            return Refusal(action="start", job_id=part.job_id, reason=why(at), part=part, waits_for=waits_for)

        def wait(at: int) -> Wait:
            return Wait(job_id=starts[at].job_id, reason=waits_for, detail=why(at))

        self.many_refusals.append(Made(len(starts), refusal))
        self.many_waits.append(Made(len(starts), wait))

    def keep(self, action: str, parts: Iterable[Part], rule: Callable[[Part, int, Job], None]) -> list[Part]:
        """The parts that pass `rule`; the others become refusals."""
        kept: list[Part] = []
        for part in parts:
            row = self._jobs.row_of.get(part.job_id)
            try:
                if (action, part.job_id) in self._done:
                    raise _Refused(f"the decision asks twice for a {action} of this job")
                if row is None:
                    raise _Refused("there is no such job any more")
                rule(part, row, self._jobs.jobs[row])
            except _Refused as refused:
                self._refuse(action, part, refused, row)
            else:
                self._done.add((action, part.job_id))
                kept.append(part)
        return kept

    def _refuse(self, action: str, part: Part, refused: _Refused, row: int | None) -> None:
        reason, waits_for = str(refused), refused.waits_for
        refusal = Refusal(action=action, job_id=part.job_id, reason=reason, part=part, waits_for=waits_for)
        self.refusals.append(refusal)
        if isinstance(part, Start) and row is not None and _without_gpus(self._jobs.jobs[row]):
            self.waits.append(Wait(job_id=part.job_id, reason=waits_for, detail=reason))

    # --- one rule per action ------------------------------------------------------------------------------

    def pause(self, part: Pause, row: int, job: Job) -> None:
        _need(job.state is JobState.RUNNING, f"it is {job.state}, not running")
        _need(job.spec.contract.pausable, "its contract does not allow pauses")

    def preempt(self, part: Preempt, row: int, job: Job) -> None:
        states = (JobState.STARTING, JobState.RUNNING, JobState.PAUSING, JobState.PAUSED)
        _need(job.run is not None and job.state in states, f"it is {job.state}, on no GPU")

    def start(self, part: Start, row: int, job: Job) -> None:
        _need(_without_gpus(job), f"it is {job.state} and cannot start")
        gpus = [self._known(uuid) for uuid in part.gpu_uuids]
        # One that has its GPUs kept for it is no candidate for others, and may still take these.
        kept = bool(gpus) and set(self._gpus.reserved[gpus].tolist()) == {row}
        _need(bool(self._eligible[row]) or kept, "it is held back")
        self._price_allows(job)
        kinds = self._kinds_of(gpus)
        self._gang(part, row, job, gpus, kinds)
        self._cap_within(part.cap_w, gpus, kinds)
        self._floor(part.cap_w, row, kinds)
        self._take_watts(part.cap_w, gpus, kinds)
        self._taken.update(gpus)

    def resume(self, part: Resume, row: int, job: Job) -> None:
        frozen = job.state is JobState.PAUSED and bool(self._frozen[row])
        _need(frozen, f"it is {job.state}, not frozen")
        _need(bool(self._eligible[row]), "it is held back")
        gpus = self._own_gpus(row, job)
        _need(all(self._gpus.healthy[gpu] for gpu in gpus), "one of its GPUs is unhealthy")
        kinds = self._kinds_of(gpus)
        self._cap_within(part.cap_w, gpus, kinds)
        self._take_watts(part.cap_w, gpus, kinds)

    # --- conditions ---------------------------------------------------------------------------------------

    def _known(self, uuid: str) -> int:
        gpu = self._gpus.row_of.get(uuid)
        if gpu is None or self._gpus.leaf[gpu] < 0:
            raise _Refused(f"GPU {uuid} is not known")
        return gpu

    def _kinds_of(self, gpus: list[int]) -> list[GpuKind]:
        kinds = self._gpus.kinds
        return [kinds[code] for code in self._gpus.kind[gpus].tolist()]

    def _own_gpus(self, row: int, job: Job) -> list[int]:
        if job.run is None:
            raise _Refused(f"it is {job.state} and holds no GPU")
        gpus = [self._known(uuid) for uuid in job.run.gpu_uuids]
        for gpu in gpus:
            if self._gpus.holder[gpu] != row:
                raise _Refused(f"GPU {self._gpus.uuids[gpu]} is not held by its run")
        return gpus

    def _price_allows(self, job: Job) -> None:
        ceiling, price = job.spec.contract.price_ceiling_per_mwh, self._snapshot.price_per_mwh
        if job.attempts == 0 and ceiling is not None and price is not None and price > ceiling:
            raise _Refused(f"the price is now {price:.2f}/MWh, above {ceiling:.2f}/MWh", WaitReason.PRICE)

    def _gang(self, part: Start, row: int, job: Job, gpus: list[int], kinds: list[GpuKind]) -> None:
        """All its GPUs, each once, free, kept for no other, of the right type, on as many nodes as asked."""
        spec, table = job.spec, self._gpus
        _need(len(gpus) == spec.gpus, f"it needs {spec.gpus} GPUs, got {len(gpus)}")
        _need(len(set(gpus)) == len(gpus), "the same GPU twice")
        wanted = (spec.gpu_type or "").lower()
        usable, reserved = self._usable[gpus].tolist(), table.reserved[gpus].tolist()
        for gpu, kind, free, heir in zip(gpus, kinds, usable, reserved, strict=True):
            if not free:
                raise _Refused(self._not_free(gpu))
            if heir not in (NOBODY, row):
                raise _Refused(f"GPU {table.uuids[gpu]} is kept for job {self._jobs.ids[heir]}")
            if gpu in self._taken:
                raise _Refused(f"GPU {table.uuids[gpu]} went to a more important job")
            if wanted not in kind.model.lower():
                raise _Refused(f"GPU {table.uuids[gpu]} is {kind.model}, not {spec.gpu_type}")
        if spec.nodes > 1:
            on_node = Counter(int(table.leaf[gpu]) for gpu in gpus)
            even = set(on_node.values()) == {spec.gpus // spec.nodes} and len(on_node) == spec.nodes
            _need(even, f"its GPUs are not spread over {spec.nodes} nodes")

    def _not_free(self, gpu: int) -> str:
        uuid, holder = self._gpus.uuids[gpu], int(self._gpus.holder[gpu])
        if holder != NOBODY:
            job = self._jobs.jobs[holder]
            if job.state is JobState.STOPPING or ("preempt", job.id) in self._done:
                return f"GPU {uuid} comes free when job {job.id} has stopped"
        return f"GPU {uuid} is not free any more"

    def _cap_within(self, cap_w: float, gpus: list[int], kinds: list[GpuKind]) -> None:
        _need(math.isfinite(cap_w), f"a cap of {cap_w} W is no cap")
        for gpu, kind in zip(gpus, kinds, strict=True):
            if not kind.min_cap_w - FITS_W <= cap_w <= kind.max_cap_w + FITS_W:
                allowed = f"{kind.min_cap_w:.0f}..{kind.max_cap_w:.0f} W"
                raise _Refused(f"{cap_w:.0f} W is outside {allowed} of GPU {self._gpus.uuids[gpu]}")

    def _floor(self, cap_w: float, row: int, kinds: list[GpuKind]) -> None:
        """The contract, at the pace of the slowest board; the curve goes by the share of the highest cap."""
        curve = self._jobs.curves.curves[self._jobs.curve[row]]
        share = curve.throughput(cap_w / max(kind.max_cap_w for kind in kinds) * curve.tdp_w)
        most = FULL_SHARE if self._jobs.jobs[row].spec.contract.flex is Flex.NONE else 1.0
        floor = min(float(self._floor_share[row]), most)
        if not share >= floor - SHARE_TOLERANCE:
            raise _Refused(f"{cap_w:.0f} W leave it {share:.0%} of its speed, its contract {floor:.0%}")

    def _take_watts(self, cap_w: float, gpus: list[int], kinds: list[GpuKind]) -> None:
        """A GPU whose limit cannot be set may draw all that its board allows."""
        settable = self._gpus.settable[gpus].tolist()
        loads_w = [cap_w if sets else kind.max_cap_w for sets, kind in zip(settable, kinds, strict=True)]
        short = self.room.take(gpus, loads_w)
        if short is not None:
            raise _Refused(short, WaitReason.POWER)


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Refused(otherwise)


def _without_gpus(job: Job) -> bool:
    return job.run is None and job.state in (JobState.QUEUED, JobState.PAUSED)

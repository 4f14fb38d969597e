"""The second opinion: every part of a decision against the newest snapshot. Shares no code with `place`.

What does not fit is dropped with a reason. Watts count at the worst case: a new load at its cap, a raise at
once, a lowering only when a later snapshot shows it confirmed. So nothing that passes can exceed a domain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from scheduler.decision import Decision, JobCap, Pause, Preempt, Refusal, Resume, Start, Wait
from scheduler.model import Condition, Flex, JobState, WaitReason
from scheduler.snapshot import GpuView, JobView, Snapshot

FITS_W = 1e-6
CAP_TOLERANCE_W = 0.5
SHARE_TOLERANCE = 0.02  # a contract floor may have moved a little since the decision was made

Part = TypeVar("Part", Start, Pause, Resume, Preempt, JobCap)


def verify(decision: Decision, snapshot: Snapshot) -> tuple[Decision, tuple[Refusal, ...]]:
    """(what may be done, what was dropped and why).

    Lowerings, pauses and stops come first and need no watts; then starts and resumes, then raises, each in
    order of priority. A start that was dropped leaves a Wait behind.
    """
    check = _Check(snapshot)
    pauses = check.keep("pause", decision.pauses, check.pause)
    preempts = check.keep("preempt", decision.preempts, check.preempt)
    ups: list[Start | Resume] = sorted([*decision.starts, *decision.resumes], key=check.order)
    starts: list[Start] = []
    resumes: list[Resume] = []
    for part in ups:
        if isinstance(part, Start):
            starts += check.keep("start", [part], check.start)
        else:
            resumes += check.keep("resume", [part], check.resume)
    caps = check.keep("cap", sorted(decision.caps, key=check.order), check.cap)
    kept = replace(
        decision,
        starts=tuple(starts),
        pauses=tuple(pauses),
        resumes=tuple(resumes),
        preempts=tuple(preempts),
        caps=tuple(caps),
        waits=decision.waits + tuple(check.waits),
    )
    return kept, tuple(check.refusals)


class _Refused(Exception):
    """Why a part is dropped, and what a job that would have started waits for."""

    def __init__(self, reason: str, waits_for: WaitReason = WaitReason.GPUS) -> None:
        super().__init__(reason)
        self.waits_for = waits_for


class _Check:
    """The snapshot's GPUs and watts, as they fill up with what was already passed."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._jobs = {view.job.id: view for view in snapshot.jobs}
        self._gpus = {gpu.uuid: gpu for gpu in snapshot.gpus}
        self._in_tree = set(snapshot.tree.gpu_uuids())
        self._worst_w = {gpu.uuid: gpu.accounted_w for gpu in snapshot.gpus}
        self._taken: set[str] = set()
        self._done: set[tuple[str, str]] = set()
        self._left_w = self._first_left_w()
        self.refusals: list[Refusal] = []
        self.waits: list[Wait] = []

    def _first_left_w(self) -> dict[str, float]:
        """Watts left under every limit; a GPU that the snapshot does not show could draw anything."""
        snapshot = self._snapshot
        left: dict[str, float] = {}
        for name in snapshot.tree.domains:
            limit_w = snapshot.limits_w.get(name, math.inf)
            left[name] = -math.inf if math.isnan(limit_w) else limit_w - snapshot.tree.base_load_under_w(name)
        for uuid in self._in_tree:
            for name in snapshot.tree.path(uuid):
                left[name] -= self._worst_w.get(uuid, math.inf)
        return {name: -math.inf if math.isnan(watts) else watts for name, watts in left.items()}

    def order(self, part: Start | Resume | JobCap) -> tuple[float, float]:
        """Sort key: most important first, then oldest; unknown jobs last."""
        view = self._jobs.get(part.job_id)
        return (math.inf, 0.0) if view is None else (-view.priority_rank, view.job.submitted_at.timestamp())

    def keep(self, action: str, parts: Iterable[Part], rule: Callable[[Part, JobView], None]) -> list[Part]:
        """The parts that pass `rule`; the others become refusals."""
        kept: list[Part] = []
        for part in parts:
            try:
                if (action, part.job_id) in self._done:
                    raise _Refused(f"the decision asks twice for a {action} of this job")
                rule(part, self._job(part.job_id))
            except _Refused as refused:
                self._refuse(action, part, refused)
            else:
                self._done.add((action, part.job_id))
                kept.append(part)
        return kept

    def _refuse(self, action: str, part: Part, refused: _Refused) -> None:
        self.refusals.append(
            Refusal(
                action=action,
                job_id=part.job_id,
                reason=str(refused),
                part=part,
                waits_for=refused.waits_for,
            )
        )
        view = self._jobs.get(part.job_id)
        if isinstance(part, Start) and view is not None and _without_gpus(view):
            self.waits.append(Wait(job_id=part.job_id, reason=refused.waits_for, detail=str(refused)))

    # --- one rule per action ------------------------------------------------------------------------------

    def pause(self, part: Pause, view: JobView) -> None:
        _need(view.job.state is JobState.RUNNING, f"it is {view.job.state}, not running")
        _need(view.job.spec.contract.pausable, "its contract does not allow pauses")

    def preempt(self, part: Preempt, view: JobView) -> None:
        states = (JobState.STARTING, JobState.RUNNING, JobState.PAUSING, JobState.PAUSED)
        _need(view.job.run is not None and view.job.state in states, f"it is {view.job.state}, on no GPU")

    def start(self, part: Start, view: JobView) -> None:
        _need(_without_gpus(view), f"it is {view.job.state} and cannot start")
        _need(view.eligible, "it is held back")
        self._price_allows(view)
        gpus = [self._known(uuid) for uuid in part.gpu_uuids]
        self._gang(part, view, gpus)
        self._cap_within(part.cap_w, gpus)
        self._floor(part.cap_w, view, gpus)
        self._take_watts({gpu.uuid: part.cap_w if gpu.settable else gpu.max_cap_w for gpu in gpus})
        self._taken |= set(part.gpu_uuids)

    def resume(self, part: Resume, view: JobView) -> None:
        _need(view.job.state is JobState.PAUSED and view.frozen, f"it is {view.job.state}, not frozen")
        _need(view.eligible, "it is held back")
        gpus = self._own_gpus(view)
        _need(all(gpu.healthy for gpu in gpus), "one of its GPUs is unhealthy")
        self._cap_within(part.cap_w, gpus)
        self._take_watts({gpu.uuid: part.cap_w if gpu.settable else gpu.max_cap_w for gpu in gpus})

    def cap(self, part: JobCap, view: JobView) -> None:
        gpus = [gpu for gpu in self._own_gpus(view, gone_too=True) if gpu.settable]
        _need(bool(gpus), "the limit of its GPUs cannot be set")
        self._cap_within(part.cap_w, [gpu for gpu in gpus if gpu.healthy] or gpus)
        if part.condition is not Condition.EMERGENCY and view.job.state is JobState.RUNNING:
            self._floor(part.cap_w, view, gpus)
        raised = {gpu.uuid: part.cap_w for gpu in gpus if _is_raise(gpu, part.cap_w)}
        if raised:
            self._take_watts(raised)

    # --- conditions ---------------------------------------------------------------------------------------

    def _job(self, job_id: str) -> JobView:
        if job_id not in self._jobs:
            raise _Refused("there is no such job any more")
        return self._jobs[job_id]

    def _known(self, uuid: str) -> GpuView:
        _need(uuid in self._gpus and uuid in self._in_tree, f"GPU {uuid} is not known")
        return self._gpus[uuid]

    def _own_gpus(self, view: JobView, *, gone_too: bool = False) -> list[GpuView]:
        """`gone_too`: a gang that lost a GPU is still held down on the others."""
        run = view.job.run
        if run is None:
            raise _Refused(f"it is {view.job.state} and holds no GPU")
        there = self._gpus.keys() & self._in_tree
        gpus = [self._known(uuid) for uuid in run.gpu_uuids if uuid in there or not gone_too]
        for gpu in gpus:
            _need(gpu.run_id == run.id, f"GPU {gpu.uuid} is not held by its run")
        return gpus

    def _price_allows(self, view: JobView) -> None:
        ceiling, price = view.job.spec.contract.price_ceiling_per_mwh, self._snapshot.price_per_mwh
        if view.job.attempts == 0 and ceiling is not None and price is not None and price > ceiling:
            raise _Refused(f"the price is now {price:.2f}/MWh, above {ceiling:.2f}/MWh", WaitReason.PRICE)

    def _gang(self, part: Start, view: JobView, gpus: list[GpuView]) -> None:
        """All its GPUs, each once, free, of the right type, on as many nodes as it asks for."""
        spec = view.job.spec
        _need(len(gpus) == spec.gpus, f"it needs {spec.gpus} GPUs, got {len(gpus)}")
        _need(len(set(part.gpu_uuids)) == len(gpus), "the same GPU twice")
        for gpu in gpus:
            _need(gpu.free, f"GPU {gpu.uuid} is not free any more")
            _need(gpu.uuid not in self._taken, f"GPU {gpu.uuid} went to a more important job")
            wanted = (spec.gpu_type or "").lower()
            _need(wanted in gpu.model.lower(), f"GPU {gpu.uuid} is {gpu.model}, not {spec.gpu_type}")
        if spec.nodes > 1:
            homes = [self._snapshot.tree.path(gpu.uuid)[0] for gpu in gpus]
            even = {homes.count(home) for home in homes} == {spec.gpus // spec.nodes}
            _need(even and len(set(homes)) == spec.nodes, f"its GPUs are not spread over {spec.nodes} nodes")

    def _cap_within(self, cap_w: float, gpus: list[GpuView]) -> None:
        _need(math.isfinite(cap_w), f"a cap of {cap_w} W is no cap")
        for gpu in gpus:
            within = gpu.min_cap_w - FITS_W <= cap_w <= gpu.max_cap_w + FITS_W
            allowed = f"{gpu.min_cap_w:.0f}..{gpu.max_cap_w:.0f} W"
            _need(within, f"{cap_w:.0f} W is outside {allowed} of GPU {gpu.uuid}")

    def _floor(self, cap_w: float, view: JobView, gpus: list[GpuView]) -> None:
        """The contract, at the pace of the slowest board; the curve goes by the share of the highest cap."""
        full = view.job.spec.contract.flex is Flex.NONE
        share = min(view.curve.throughput(cap_w / gpu.max_cap_w * view.curve.tdp_w) for gpu in gpus)
        floor = min(view.floor_share, 0.999 if full else 1.0)
        _need(
            share >= floor - SHARE_TOLERANCE,
            f"{cap_w:.0f} W leave it {share:.0%} of its speed, its contract {floor:.0%}",
        )

    def _take_watts(self, loads_w: dict[str, float]) -> None:
        """Count these GPUs at the worse of what they count now and the new cap; all of it or nothing."""
        more: dict[str, float] = {}
        for uuid, cap_w in loads_w.items():
            extra_w = max(0.0, cap_w - self._worst_w[uuid])
            for name in self._snapshot.tree.path(uuid):
                more[name] = more.get(name, 0.0) + extra_w
        for name, extra_w in more.items():
            left_w = self._left_w[name]
            if extra_w > left_w + FITS_W:
                free = f"{name} has {max(left_w, 0.0):.0f} W confirmed free"
                raise _Refused(f"{free}, {extra_w - left_w:.0f} W too few for it", WaitReason.POWER)
        for name, extra_w in more.items():
            self._left_w[name] -= extra_w
        for uuid, cap_w in loads_w.items():
            self._worst_w[uuid] = max(self._worst_w[uuid], cap_w)


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Refused(otherwise)


def _without_gpus(view: JobView) -> bool:
    return view.job.run is None and view.job.state in (JobState.QUEUED, JobState.PAUSED)


def _is_raise(gpu: GpuView, cap_w: float) -> bool:
    """Above the cap read back; an unknown one may be anything, so that every set could be a raise."""
    return gpu.confirmed_cap_w is None or cap_w > gpu.confirmed_cap_w + CAP_TOLERANCE_W

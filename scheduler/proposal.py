"""From a choice to a decision: which GPUs by name, in which words, and a reason for everyone who waits."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from scheduler.decision import Certificate, Decision, JobCap, Pause, Preempt, Resume, Start
from scheduler.instance import Candidate, Choice, Instance
from scheduler.model import Condition, JobState, WaitReason
from scheduler.residents import Act, Resident, Site
from scheduler.waits import waits_for


def propose(instance: Instance, choice: Choice) -> Decision:
    """The choice as a proposal. Who needs GPUs that have yet to come free waits, and is told for whom."""
    starts, late = _starts(instance, choice)
    resumes = _resumes(instance, choice)
    certificate = Certificate(
        step="place",
        value=choice.value,
        bound=choice.bound,
        solve_s=choice.solve_s,
        fallback=choice.fallback,
    )
    return Decision(
        starts=starts,
        pauses=_pauses(instance, choice),
        resumes=resumes,
        preempts=_preempts(instance, choice, late),
        caps=_caps(instance, choice, starts, resumes),
        waits=waits_for(instance, choice, starts, late),
        certificates=(certificate,),
        notes=_notes(instance),
    )


def _starts(instance: Instance, choice: Choice) -> tuple[tuple[Start, ...], dict[str, tuple[str, ...]]]:
    """(starts, jobs whose GPUs are not free yet -> the jobs that are leaving them)."""
    free = [list(pool.free) for pool in instance.pools]
    leaving = _leaving(instance, choice)
    starts: list[Start] = []
    late: dict[str, tuple[str, ...]] = {}
    for candidate in sorted(instance.candidates, key=_order):
        job_id = candidate.view.job.id
        placement = choice.placements.get(job_id)
        if placement is None:
            continue
        if any(len(free[index]) < count for index, count in placement.parts):
            late[job_id] = leaving
            continue
        uuids: list[str] = []
        for index, count in placement.parts:
            uuids += free[index][:count]
            del free[index][:count]
        starts.append(Start(job_id=job_id, gpu_uuids=tuple(uuids), cap_w=placement.cap_w))
    return tuple(starts), late


def _order(candidate: Candidate) -> tuple[object, ...]:
    view = candidate.view
    return (-view.priority_rank, -view.value_per_gpu_h, view.job.submitted_at, view.job.id)


def _leaving(instance: Instance, choice: Choice) -> tuple[str, ...]:
    stopping = [v.job.id for v in instance.snapshot.jobs if v.job.state is JobState.STOPPING]
    stopped = [job_id for job_id, option in choice.options.items() if option.act is Act.PREEMPT]
    return tuple(sorted({*stopping, *stopped}))


def _resumes(instance: Instance, choice: Choice) -> tuple[Resume, ...]:
    return tuple(
        Resume(job_id=r.view.job.id, cap_w=option.cap_w)
        for r in instance.residents
        if r.view.frozen and (option := choice.options[r.view.job.id]).act is Act.RUN
    )


def _pauses(instance: Instance, choice: Choice) -> tuple[Pause, ...]:
    return tuple(
        _pause(instance, r)
        for r in instance.residents
        if not r.view.frozen and choice.options[r.view.job.id].act is Act.PAUSE
    )


def _pause(instance: Instance, resident: Resident) -> Pause:
    reason = WaitReason.POWER
    short = [d for d in instance.short if d in resident.most.watts]
    if resident.forced is not None:
        reason, cause = WaitReason.PRICE, resident.forced
    elif short:
        cause = _shortage(instance, short[0])
    elif max(option.worth_per_h for option in resident.options) <= 0:
        price = instance.snapshot.energy_price_per_mwh()
        reason, cause = WaitReason.PRICE, f"at {price:.2f}/MWh its power costs more than its work is worth"
    else:
        cause = "paused so that a job of higher priority has its watts"
    return Pause(job_id=resident.view.job.id, cause=cause, reason=reason)


def _preempts(instance: Instance, choice: Choice, late: Mapping[str, object]) -> tuple[Preempt, ...]:
    heirs = ", ".join(sorted(late)) or "watts"
    return tuple(
        Preempt(job_id=r.view.job.id, cause=f"stopped for jobs of higher priority: {heirs}")
        for r in instance.residents
        if choice.options[r.view.job.id].act is Act.PREEMPT
    )


def _caps(
    instance: Instance, choice: Choice, starts: tuple[Start, ...], resumes: tuple[Resume, ...]
) -> tuple[JobCap, ...]:
    """Lowerings without which the starts and resumes would not fit. Never a raise."""
    if not starts and not resumes:
        return ()
    site = Site.of(instance.snapshot)
    tight = _tight_domains(site, starts, resumes) - instance.short
    caps = []
    for resident in instance.residents:
        option, gpus = choice.options[resident.view.job.id], site.gpus_of(resident.view)
        now_w = max(gpu.confirmed_cap_w or gpu.max_cap_w for gpu in gpus)
        steerable = not resident.view.frozen and all(gpu.settable for gpu in gpus)
        if option.act is not Act.RUN or not steerable or option.cap_w >= now_w:
            continue
        if not tight.isdisjoint(option.watts):
            cause = f"lowered from {now_w:.0f} to {option.cap_w:.0f} W so that more can run under the budget"
            caps.append(
                JobCap(
                    job_id=resident.view.job.id,
                    cap_w=option.cap_w,
                    condition=Condition.CAPPED_BUDGET,
                    cause=cause,
                )
            )
    return tuple(caps)


def _tight_domains(site: Site, starts: tuple[Start, ...], resumes: tuple[Resume, ...]) -> set[str]:
    """Domains that could not take the starts and resumes while everyone else keeps the present cap."""
    snapshot = site.snapshot
    limits = {name: snapshot.limits_w.get(name, math.inf) for name in snapshot.tree.domains}
    left = snapshot.tree.gpu_watts_available(limits)
    counts = {uuid: gpu.accounted_w for uuid, gpu in site.by_uuid.items()}
    for start in starts:
        counts |= {uuid: max(counts[uuid], start.cap_w) for uuid in start.gpu_uuids}
    for resume in resumes:
        gpus = site.gpus_of(snapshot.job(resume.job_id))
        counts |= {gpu.uuid: max(counts[gpu.uuid], resume.cap_w) for gpu in gpus}
    for uuid, watts in counts.items():
        for domain in snapshot.tree.path(uuid):
            left[domain] -= watts
    return {domain for domain, watts in left.items() if watts < -1e-6}


def _shortage(instance: Instance, domain: str) -> str:
    """One sentence: the domain's watts for running jobs against what their contracts need."""
    need_w: dict[str, float] = defaultdict(float)
    for resident in instance.residents:
        for name, watts in resident.least.watts.items():
            need_w[name] += watts
    snapshot = instance.snapshot
    return (
        f"{domain} is limited to {snapshot.limits_w[domain]:.0f} W: its running jobs need "
        f"{need_w[domain]:.0f} W at their contract floors, more than is left for them"
    )


def _notes(instance: Instance) -> tuple[str, ...]:
    return tuple(_shortage(instance, domain) for domain in sorted(instance.short))

"""What the demonstration saw, and whether it kept its word. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api.demo.scenario import CEILING_PER_MWH, SPIKE_END, SPIKE_START

LEAST_SAMPLES = 3  # observations in a phase before its mean says anything
FALL_TO = 0.85  # the flexible job's speed beside the rigid one's must fall at least to this part
ROUNDING_W = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSeen:
    """One job in one look."""

    role: str
    state: str
    gpus: int = 1
    condition: str = "NOMINAL"
    cap_w: float | None = None  # per GPU
    draw_w: float | None = None
    samples_per_s: float | None = None  # as the job itself reports
    throughput_share: float | None = None  # of uncapped, by the power curve at its cap
    promised_share: float | None = None
    used_share: float | None = None
    step: int | None = None
    total_steps: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One look at the whole site."""

    at: datetime  # grid time
    price_per_mwh: float | None
    carbon_g_per_kwh: float | None = None
    limit_w: float | None
    accounted_w: float
    draw_w: float | None
    over_domain: str = ""  # a domain over its limit: "site: 2010 W of 2000 W"
    degraded: tuple[str, ...] = ()
    settable: bool = True  # every GPU's limit
    jobs: tuple[JobSeen, ...] = ()

    def job(self, role: str) -> JobSeen | None:
        return next((j for j in self.jobs if j.role == role), None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One promise, and whether it was kept."""

    promise: str
    kept: bool
    shown_by: str


def seen(state: Mapping[str, Any], jobs: Iterable[Mapping[str, Any]], roles: Mapping[str, str]) -> Seen:
    """One look, from `/v1/power/state` and `/v1/jobs`; `roles` maps job ids to roles."""
    root = next(d for d in state["domains"] if d["parent"] is None)
    running = {j["job_id"]: j for j in state["jobs"]}
    by_id = {j["id"]: j for j in jobs}
    return Seen(
        at=datetime.fromisoformat(state["at"]),
        price_per_mwh=state["price_per_mwh"],
        carbon_g_per_kwh=state["carbon_g_per_kwh"],
        limit_w=root["limit_w"],
        accounted_w=root["accounted_w"],
        draw_w=root["draw_w"],
        over_domain=_over(state["domains"]),
        degraded=tuple(state["degraded"]),
        settable=all(gpu["settable"] for gpu in state["gpus"]),
        jobs=tuple(
            _job_seen(role, by_id[job_id], running.get(job_id, {}))
            for job_id, role in roles.items()
            if job_id in by_id
        ),
    )


def _job_seen(role: str, job: Mapping[str, Any], power: Mapping[str, Any]) -> JobSeen:
    return JobSeen(
        role=role,
        state=job["state"],
        gpus=job["gpus"],
        condition=power.get("condition") or job.get("condition") or "NOMINAL",
        cap_w=power.get("cap_w"),
        draw_w=power.get("draw_w"),
        samples_per_s=power.get("samples_per_s"),
        throughput_share=power.get("throughput_share"),
        promised_share=power.get("promised_share"),
        used_share=power.get("used_share"),
        step=power.get("step"),
        total_steps=power.get("total_steps"),
    )


def _over(domains: Iterable[Mapping[str, Any]]) -> str:
    for domain in domains:
        limit_w = domain["limit_w"]
        for what in ("accounted_w", "draw_w"):
            watts = domain[what]
            if limit_w is not None and watts is not None and watts > limit_w + ROUNDING_W:
                return f"{domain['name']}: {what} {watts:.0f} W of {limit_w:.0f} W"
    return ""


def judge(looks: Sequence[Seen], ends: Mapping[str, str]) -> list[Verdict]:
    """Every promise of the demonstration. `ends` maps roles to final job states."""
    return [
        _budget(looks),
        _ended(ends),
        _flexible_fell(looks),
        _rigid_kept(looks),
        _pausable_paused(looks),
    ]


def _budget(looks: Sequence[Seen]) -> Verdict:
    over = [look for look in looks if look.over_domain]
    if over:
        shown = (
            f"{len(over)} of {len(looks)} looks over it; first at {over[0].at:%H:%M}: {over[0].over_domain}"
        )
        return Verdict("never over the budget", False, shown)
    peak_w = max((max(look.accounted_w, look.draw_w or 0.0) for look in looks), default=0.0)
    limit_w = looks[-1].limit_w if looks else None
    shown = f"worst case at most {peak_w:.0f} W of {limit_w or 0:.0f} W in {len(looks)} looks"
    return Verdict("never over the budget", bool(looks) and limit_w is not None, shown)


def _ended(ends: Mapping[str, str]) -> Verdict:
    bad = {role: state for role, state in ends.items() if state != "SUCCEEDED"}
    shown = ", ".join(f"{role} {state}" for role, state in (bad or ends).items()) or "no job was submitted"
    return Verdict("every job finished", bool(ends) and not bad, shown)


def relative_speeds(looks: Sequence[Seen]) -> tuple[list[float], list[float]]:
    """The flexible job's samples/s over the rigid one's: (uncapped before the spike, capped by price).

    A ratio, because the jobs share the machine's cores: when one slows down, the others speed up.
    """
    before, capped = [], []
    for look in looks:
        flexible, rigid = look.job("flexible"), look.job("rigid")
        if flexible is None or rigid is None or not flexible.samples_per_s or not rigid.samples_per_s:
            continue
        if flexible.state != "RUNNING" or rigid.state != "RUNNING":
            continue
        ratio = flexible.samples_per_s / rigid.samples_per_s
        if flexible.condition == "CAPPED_PRICE":
            capped.append(ratio)
        elif flexible.condition == "NOMINAL" and look.at < SPIKE_START:
            before.append(ratio)
    return before, capped


def _flexible_fell(looks: Sequence[Seen]) -> Verdict:
    promise = "the flexible job slowed down with its cap"
    before, capped = relative_speeds(looks)
    excuse = _why_not_judged(looks)
    if excuse:
        return Verdict(promise, True, f"not judged: {excuse}")
    if len(before) < LEAST_SAMPLES or len(capped) < LEAST_SAMPLES:
        shown = f"too little seen: {len(before)} looks before the spike, {len(capped)} capped in it"
        return Verdict(promise, False, shown)
    # The job reports a mean over its last steps, so the first capped looks still carry uncapped ones.
    was, became = _median(before), _median(capped[len(capped) // 3 :])
    shown = f"its speed beside the rigid job's went from {was:.2f} to {became:.2f} ({became / was:.0%})"
    return Verdict(promise, became <= FALL_TO * was, shown)


def _why_not_judged(looks: Sequence[Seen]) -> str:
    """Real GPUs may not obey, or may not need to: a small model draws less than its cap. Else empty."""
    if not all(look.settable for look in looks):
        return "the limits of these GPUs cannot be set by this user"
    flexible = [job for look in looks if (job := look.job("flexible")) is not None and job.state == "RUNNING"]
    free_w = [
        j.draw_w / j.gpus for j in flexible if j.condition == "NOMINAL" and j.draw_w and j.samples_per_s
    ]
    caps_w = [j.cap_w for j in flexible if j.condition == "CAPPED_PRICE" and j.cap_w is not None]
    if free_w and caps_w and max(free_w) < min(caps_w):
        return f"its cap of {min(caps_w):.0f} W does not bind, it draws at most {max(free_w):.0f} W"
    return ""


def _rigid_kept(looks: Sequence[Seen]) -> Verdict:
    rigid = [job for look in looks if (job := look.job("rigid")) is not None and job.state == "RUNNING"]
    slowed = [job for job in rigid if job.condition == "CAPPED_PRICE"]
    used = max((job.used_share or 0.0 for job in rigid), default=0.0)
    shown = f"capped by price in {len(slowed)} of {len(rigid)} looks; slowdown used {used:.1%}"
    return Verdict("the rigid job was left alone", bool(rigid) and not slowed, shown)


def _pausable_paused(looks: Sequence[Seen]) -> Verdict:
    promise = f"the pausable job paused above {CEILING_PER_MWH:.0f} EUR/MWh and came back"
    states = [(look.at, job.state) for look in looks if (job := look.job("pausable")) is not None]
    paused = [at for at, state in states if state == "PAUSED"]
    if not paused:
        return Verdict(promise, False, "it was never seen paused")
    back = any(at > paused[0] and state in ("RUNNING", "SUCCEEDED") for at, state in states)
    shown = f"paused from {paused[0]:%H:%M} to {paused[-1]:%H:%M} UTC" + (
        "" if back else ", and never came back"
    )
    return Verdict(promise, back, shown)


def in_spike(at: datetime) -> bool:
    return SPIKE_START <= at < SPIKE_END


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2

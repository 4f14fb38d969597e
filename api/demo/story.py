"""From one look to the next: what happened, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from api.demo.judge import JobSeen, Seen

CONDITION_WORDS = {
    "NOMINAL": "back at full speed",
    "CAPPED_PRICE": "capped by the price",
    "CAPPED_BUDGET": "capped by the budget",
    "CAPPED_THERMAL": "slowed by heat",
    "EMERGENCY": "under an emergency cap",
}
BIG_STEP_W = 20.0


def happenings(before: Seen | None, now: Seen) -> Iterator[str]:
    """One line per change worth telling."""
    if before is None or before.price_per_mwh != now.price_per_mwh:
        if now.price_per_mwh is not None:
            yield f"price {now.price_per_mwh:.2f} EUR/MWh"
        elif before is not None:
            yield "no price known"
    for state in sorted(set(now.degraded) - set(before.degraded if before else ())):
        yield f"running with less: {state.replace('_', ' ')}"
    if now.over_domain and not (before and before.over_domain):
        yield f"OVER THE BUDGET: {now.over_domain}"
    for job in now.jobs:
        yield from _of_job(before.job(job.role) if before else None, job)


def _of_job(before: JobSeen | None, now: JobSeen) -> Iterator[str]:
    if before is None or before.state != now.state:
        back = before is not None and before.state == "PAUSED" and now.state == "RUNNING"
        yield f"{now.role}: {now.state.lower()}{' again' if back else ''}"
    if now.state != "RUNNING" or before is None or before.state != "RUNNING":
        return
    if before.condition != now.condition:
        yield f"{now.role}: {CONDITION_WORDS.get(now.condition, now.condition.lower())}"
    if now.cap_w is not None and before.cap_w is not None and abs(now.cap_w - before.cap_w) >= BIG_STEP_W:
        yield f"{now.role}: cap {before.cap_w:.0f} to {now.cap_w:.0f} W per GPU"


def status_line(now: Seen) -> str:
    """Everything in one line, for a log."""
    price = "–" if now.price_per_mwh is None else f"{now.price_per_mwh:.0f}"
    draw = "–" if now.draw_w is None else f"{now.draw_w:.0f}"
    limit = "–" if now.limit_w is None else f"{now.limit_w:.0f}"
    jobs = "  ".join(_short(job) for job in now.jobs)
    return f"{draw:>5} W, worst case {now.accounted_w:.0f} of {limit} W  {price:>4} EUR/MWh  {jobs}"


def _short(job: JobSeen) -> str:
    if job.state != "RUNNING":
        return f"{job.role} {job.state.lower()}"
    speed = "" if job.samples_per_s is None else f" {job.samples_per_s:.0f}/s"
    cap = "" if job.cap_w is None else f" {job.cap_w:.0f}W"
    done = f" {100 * job.step // job.total_steps}%" if job.total_steps and job.step is not None else ""
    return f"{job.role}{cap}{speed}{done}"

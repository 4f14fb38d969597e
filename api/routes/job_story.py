"""What there is to know of one job: its runs, events and bill, and why it is where it is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import JobId, ServicesDep, operation_id
from api.errors import problems
from api.fields import Instant, View
from api.schemas import RunList, view_run
from api.services import Services
from api.sse import event_data
from power.curve import prior
from scheduler.bill import EnergyRow, Unthrottled, estimate_unthrottled, make_bill
from scheduler.model import Intent, Job, JobState, Run
from scheduler.plan_state import PlannedJobState, PlanState
from scheduler.published import CertificateState, JobPowerState, PublishedState
from scheduler.store import StoredDecision

router = APIRouter(tags=["jobs"], generate_unique_id_function=operation_id)

DECISIONS_LOOKED_AT = 50


class EventView(View):
    id: int
    kind: str = Field(examples=["job.state"])
    at: Instant
    job_id: str | None
    run_id: str | None
    data: dict[str, Any]


class EventList(View):
    """Oldest first. Ask again with `after` = the last id for what came since."""

    items: list[EventView]


class EventFilter(BaseModel):
    model_config = ConfigDict(extra="forbid")

    after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 200


class BillView(View):
    """What was used and what it cost. Null = not known, which is never zero."""

    energy_kwh: float
    cost: float | None
    co2_g: float | None
    unpriced_kwh: float = Field(description="energy whose price is not known; missing from `cost`")
    unknown_carbon_kwh: float
    gpu_hours: float
    average_cap_w: float | None
    slowdown_used: float | None = Field(
        description="0..1 of the work that the same seconds would have done uncapped"
    )
    slowdown_promised: float | None = Field(description="what the flex tier allows")
    samples: float
    samples_per_kwh: float | None
    integral_kwh: float = Field(description="the integral of power, to check the counter by")
    counter_vs_integral: float | None
    start: Instant | None
    end: Instant | None


class RunBill(View):
    run_id: str
    attempt: int
    bill: BillView


class EstimateView(View):
    """The same work without any throttling: an estimate, never a measurement."""

    label: str
    energy_kwh: float
    gpu_hours: float
    mean_price_per_mwh: float | None
    cost: float | None


class EnergyView(View):
    """The job's bill, as a whole and per run; `final` once the job has ended."""

    job_id: str
    currency: str
    final: bool
    total: BillView
    runs: list[RunBill]
    unthrottled: EstimateView | None


class DecisionExcerpt(View):
    """The newest decision that names the job: what it says of it, and how good it is."""

    id: int
    at: Instant
    cycle: int
    about: list[dict[str, Any]]
    notes: list[str]


class WhyView(View):
    """Why the job is where it is, in one sentence and as data."""

    job_id: str
    state: str
    since: Instant
    sentence: str
    intent: str
    reason: str | None = Field(description="why it waits, from a closed list")
    detail: str
    condition: str
    condition_cause: str
    condition_since: Instant | None
    position: int | None = Field(description="in the queue, 1 = next; null when it does not queue")
    queue_length: int
    ahead: list[str] = Field(description="ids of up to ten jobs before it")
    waits_for: list[str] = Field(description="ids of jobs it depends on that have not succeeded")
    power: JobPowerState | None = Field(description="its cap, draw and speed now")
    plan: PlannedJobState | None = Field(
        description="when the newest plan lets it run, what that costs, and what it would cost now"
    )
    decision: DecisionExcerpt | None
    certificates: list[CertificateState] = Field(
        description="how good the newest decisions are, with bound and gap"
    )


@router.get("/v1/jobs/{job_id}/runs", summary="Its attempts, first to last", responses=problems(404))
def list_runs(job_id: JobId, services: ServicesDep) -> RunList:
    return RunList(items=[view_run(run) for run in services.store.jobs.runs(job_id)])


@router.get("/v1/jobs/{job_id}/events", summary="What happened to it", responses=problems(404))
def list_job_events(
    job_id: JobId, services: ServicesDep, query: Annotated[EventFilter, Query()]
) -> EventList:
    services.store.jobs.get(job_id)
    found = services.store.events.after(query.after, query.limit, job_id)
    return EventList(items=[EventView(**event_data(event)) for event in found])


@router.get("/v1/jobs/{job_id}/energy", summary="Its bill", responses=problems(404))
def job_energy(job_id: JobId, services: ServicesDep) -> EnergyView:
    job = services.store.jobs.get(job_id)
    rows = services.store.energy.rows(job_id=job_id)
    runs = services.store.jobs.runs(job_id)
    promised = job.spec.contract.flex.share
    estimate = _unthrottled(job, runs, rows, services.read_state())
    return EnergyView(
        job_id=job_id,
        currency=services.config.site.currency,
        final=job.state.terminal,
        total=bill_view(rows, promised),
        runs=[
            RunBill(
                run_id=run.id,
                attempt=run.attempt,
                bill=bill_view([row for row in rows if row.run_id == run.id], promised),
            )
            for run in runs
        ],
        unthrottled=None if estimate is None else EstimateView(**asdict(estimate)),
    )


@router.get("/v1/jobs/{job_id}/why", summary="Why it is where it is", responses=problems(404))
def why(job_id: JobId, services: ServicesDep) -> WhyView:
    job = services.store.jobs.get(job_id)
    state = services.read_state()
    queue = _queue(services)
    place = next((i for i, queued in enumerate(queue) if queued.id == job_id), None)
    states = services.store.jobs.states(job.spec.depends_on)
    waits_for = [i for i in job.spec.depends_on if states.get(i) is not JobState.SUCCEEDED]
    decisions = services.store.decisions.page(DECISIONS_LOOKED_AT).items
    return WhyView(
        job_id=job.id,
        state=job.state,
        since=job.state_since,
        sentence=_sentence(job, place, len(queue)),
        intent=job.intent,
        reason=job.wait_reason,
        detail=job.wait_detail,
        condition=job.condition,
        condition_cause=job.condition_cause,
        condition_since=job.condition_since,
        position=None if place is None else place + 1,
        queue_length=len(queue),
        ahead=[] if place is None else [queued.id for queued in queue[max(0, place - 10) : place]],
        waits_for=waits_for,
        power=next((row for row in (state or {"jobs": []})["jobs"] if row["job_id"] == job_id), None),
        plan=_planned(job, services.read_plan()),
        decision=_newest_about(job_id, decisions),
        certificates=[] if state is None else state["certificates"],
    )


def bill_view(rows: list[EnergyRow], promised: float | None = None) -> BillView:
    return BillView(**asdict(make_bill(rows, promised=promised)))


def _queue(services: Services) -> list[Job]:
    """Jobs that wait, the most valuable class first, then in the order of submission."""
    value = services.config.priorities
    queued = [job for job in services.store.jobs.active() if job.state is JobState.QUEUED]
    return sorted(queued, key=lambda job: -value.get(job.spec.priority, 0.0))


def _sentence(job: Job, place: int | None, length: int) -> str:
    if job.state.terminal:
        ended = f"It {job.state.value.lower()}"
        return f"{ended}: {job.end_reason}." if job.end_reason else f"{ended}."
    if job.intent is Intent.CANCEL:
        return "It is being cancelled."
    if job.state is JobState.QUEUED:
        why = job.wait_detail or (job.wait_reason.value.replace("_", " ") if job.wait_reason else "")
        number = f"It is number {(place or 0) + 1} of {length} in the queue"
        return f"{number}: {why.rstrip('.')}." if why else f"{number}; the next decision will look at it."
    why = job.condition_cause if job.state is JobState.RUNNING else job.wait_detail
    doing = f"It is {job.state.value.lower()}"
    return f"{doing}: {why.rstrip('.')}." if why else f"{doing}."


def _planned(job: Job, plan: PlanState | None) -> PlannedJobState | None:
    """Its part of the plan, as long as it can still run."""
    if plan is None or job.state.terminal:
        return None
    return next((row for row in plan["jobs"] if row["job_id"] == job.id), None)


def _newest_about(job_id: str, decisions: list[StoredDecision]) -> DecisionExcerpt | None:
    for decision in decisions:
        about = [
            {"action": action, **entry}
            for action, entries in decision.summary.items()
            if isinstance(entries, list)
            for entry in entries
            if isinstance(entry, dict) and entry.get("job_id") == job_id
        ]
        if about:
            notes = [note for note in decision.summary.get("notes", []) if isinstance(note, str)]
            return DecisionExcerpt(
                id=decision.id, at=decision.at, cycle=decision.cycle, about=about, notes=notes
            )
    return None


def _unthrottled(
    job: Job, runs: list[Run], rows: list[EnergyRow], state: PublishedState | None
) -> Unthrottled | None:
    """None while nothing is known of the GPUs it ran on."""
    used = {uuid for run in runs for uuid in run.gpu_uuids}
    gpu = next((g for g in (state["gpus"] if state else []) if g["uuid"] in used), None)
    if gpu is None or not rows:
        return None
    curve = prior(
        gpu["model"], min_cap_w=gpu["min_cap_w"], max_cap_w=gpu["max_cap_w"], workload=job.spec.workload
    )
    return estimate_unthrottled(rows, uncapped_w=curve.power_w(gpu["max_cap_w"]))

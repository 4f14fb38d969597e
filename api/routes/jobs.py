"""Jobs: submit, list, look, change. What is done to a job that exists is in `job_commands.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auth import demand_owner
from api.dependencies import (
    CallerDep,
    IdempotencyKey,
    IfMatch,
    JobId,
    ServicesDep,
    expected_revision,
    operation_id,
    tell,
)
from api.errors import Problem, problems
from api.fields import PageLimit, View
from api.limits import unsatisfiable
from api.schemas import BatchIn, JobIn, JobPage, JobPatch, JobView, etag, view_job
from api.services import Services
from scheduler.model import InvalidJob, JobSpec, JobState

router = APIRouter(tags=["jobs"], generate_unique_id_function=operation_id)

StateName = Literal[
    "QUEUED", "STARTING", "RUNNING", "PAUSING", "PAUSED", "STOPPING", "SUCCEEDED", "FAILED", "CANCELLED"
]


class JobFilter(BaseModel):
    """Which jobs to list."""

    model_config = ConfigDict(extra="forbid")

    state: list[StateName] = Field(default_factory=list, description="any of these; none = all")
    project: Annotated[str | None, Field(max_length=200)] = None
    owner: Annotated[str | None, Field(max_length=200, description="`me` = the caller")] = None
    limit: PageLimit = 100
    cursor: Annotated[str | None, Field(max_length=200)] = None


class Plan(View):
    """What a job would get if it were submitted now: one row per flex tier. Nothing is stored."""

    quotes: list[dict[str, Any]]


@router.get("/v1/jobs", summary="List jobs, newest first", responses=problems())
def list_jobs(services: ServicesDep, who: CallerDep, query: Annotated[JobFilter, Query()]) -> JobPage:
    owner = who.name if query.owner == "me" else query.owner
    page = services.store.jobs.page(
        states=[JobState(s) for s in query.state] or None,
        project=query.project,
        owner=owner,
        limit=query.limit,
        cursor=query.cursor,
    )
    return JobPage(items=[view_job(job) for job in page.items], next_cursor=page.next_cursor)


@router.post(
    "/v1/jobs",
    status_code=201,
    summary="Submit a job",
    description="201 means that it is on the disk. With an `Idempotency-Key` a repeated submit gives the "
    "first job again (200); the same key with another body is refused (422).",
    responses={200: {"model": JobView, "description": "the job of an earlier submit"}, **problems(413, 415)},
)
def submit_job(
    body: JobIn, services: ServicesDep, who: CallerDep, response: Response, key: IdempotencyKey = None
) -> JobView:
    spec = body.spec()
    _check(spec, services)
    job, created = services.store.jobs.submit(spec, who.name, services.clock.now(), key)
    if created:
        tell(services, "job.submitted", job_id=job.id, owner=who.name, name=spec.name, gpus=spec.gpus)
    else:
        response.status_code = 200
        response.headers["Idempotency-Replayed"] = "true"
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    response.headers["ETag"] = etag(job)
    return view_job(job, with_env=True)


@router.post(
    "/v1/jobs:batch",
    status_code=201,
    summary="Submit many jobs, all or none",
    responses={200: {"model": JobPage, "description": "an earlier submit"}, **problems(413, 415)},
)
def submit_batch(
    body: BatchIn, services: ServicesDep, who: CallerDep, response: Response, key: IdempotencyKey = None
) -> JobPage:
    specs = [_checked_item(index, item, services) for index, item in enumerate(body.jobs)]
    jobs, created = services.store.jobs.submit_many(specs, who.name, services.clock.now(), key)
    if created:
        tell(services, "job.batch_submitted", owner=who.name, job_ids=[job.id for job in jobs])
    else:
        response.status_code = 200
        response.headers["Idempotency-Replayed"] = "true"
    return JobPage(items=[view_job(job) for job in jobs])


@router.post(
    "/v1/jobs:plan",
    summary="Dry run: when it would start and end, and what it would cost, per flex tier",
    responses=problems(413, 415, 503),
)
def plan_job(body: JobIn, services: ServicesDep) -> Plan:
    spec = body.spec()
    _check(spec, services)
    if services.quote is None:
        raise Problem(503, "this daemon has no planner for dry runs")
    return Plan(quotes=[dict(row) for row in services.quote(spec)])


@router.get("/v1/jobs/{job_id}", summary="One job", responses=problems(404))
def get_job(job_id: JobId, services: ServicesDep, who: CallerDep, response: Response) -> JobView:
    job = services.store.jobs.get(job_id)
    response.headers["ETag"] = etag(job)
    return view_job(job, with_env=who.may_change(job))


@router.patch(
    "/v1/jobs/{job_id}",
    summary="Change a queued job",
    description="Needs `If-Match` with the job's ETag; fields that are left out stay as they are.",
    responses=problems(404, 409, 412, 413, 415, 428),
)
def patch_job(
    job_id: JobId,
    body: JobPatch,
    services: ServicesDep,
    who: CallerDep,
    response: Response,
    if_match: IfMatch = None,
) -> JobView:
    if if_match is None:
        raise Problem(428, "send If-Match with the job's ETag, so that no other change is overwritten")
    job = services.store.jobs.get(job_id)
    demand_owner(who, job)
    if job.state is not JobState.QUEUED:
        raise Problem(409, f"the job is {job.state}; only a QUEUED job can be changed")
    spec = body.applied_to(job.spec)
    _check(spec, services)
    changed = services.store.jobs.patch(job_id, spec, expected_revision(if_match), JobState.QUEUED)
    tell(services, "job.changed", job_id=job_id, by=who.name, fields=sorted(body.model_fields_set))
    response.headers["ETag"] = etag(changed)
    return view_job(changed, with_env=True)


def _checked_item(index: int, item: JobIn, services: Services) -> JobSpec:
    """Raises Problem 422 that says which job of the batch it is about."""
    try:
        spec = item.spec()
        _check(spec, services)
    except InvalidJob as error:
        raise Problem(422, error.message, field=f"jobs.{index}.{error.field}") from error
    except Problem as error:
        field, message = error.errors[0]
        raise Problem(422, message, field=f"jobs.{index}.{field}") from error
    return spec


def _check(spec: JobSpec, services: Services) -> None:
    """What a job must fulfil at this site, beyond its own rules. Raises Problem 422."""
    config = services.config
    if spec.priority not in config.priorities:
        raise Problem(422, f"must be one of {', '.join(config.priorities)}", field="priority")
    if spec.cwd is not None and not spec.cwd.startswith("/"):
        raise Problem(422, "must be an absolute path", field="cwd")
    deadline = spec.contract.deadline
    if deadline is not None and deadline <= services.clock.now():
        raise Problem(422, "has passed already", field="deadline")
    if deadline is not None and spec.begin_at is not None and spec.begin_at >= deadline:
        raise Problem(422, "must be before the deadline", field="begin_at")
    _check_dependencies(spec, services)
    never = unsatisfiable(spec, services.tree, services.read_state(), config.gpus.idle_margin_w)
    if never is not None:
        raise Problem(422, never[1], field=never[0])


def _check_dependencies(spec: JobSpec, services: Services) -> None:
    if not spec.depends_on:
        return
    known = services.store.jobs.states(spec.depends_on)
    for index, job_id in enumerate(spec.depends_on):
        if job_id not in known:
            raise Problem(422, "there is no such job", field=f"depends_on.{index}")

"""What people order for a job: each is one intent in the database, and a tap on the controller's shoulder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter, Response

from api.auth import Principal, Role, demand_owner
from api.dependencies import CallerDep, IfMatch, JobId, ServicesDep, expected_revision, operation_id, tell
from api.errors import Problem, problems
from api.schemas import JobView, etag, view_job
from api.services import Services
from scheduler.model import Intent, Job, JobState
from scheduler.store import StaleRevision

router = APIRouter(tags=["jobs"], generate_unique_id_function=operation_id)

S = JobState
RETRIES = 5


@dataclass(frozen=True, slots=True)
class Command:
    """An order: the intent it writes, the states it makes sense in, and what to do in the others."""

    name: str
    intent: Intent
    states: frozenset[JobState]
    otherwise: str
    event: str


LIVE = frozenset({S.STARTING, S.RUNNING, S.PAUSING, S.PAUSED})
ANY = frozenset(s for s in JobState if not s.terminal)

CANCEL = Command("cancel", Intent.CANCEL, ANY, "it has ended", "job.cancel_asked")
HOLD = Command("hold", Intent.HOLD, frozenset({S.QUEUED}), "to stop a started job, pause it", "job.held")
RELEASE = Command("release", Intent.RUN, ANY, "it has ended", "job.released")
PAUSE = Command("pause", Intent.PAUSE, LIVE, "to keep a queued job back, hold it", "job.pause_asked")
# Queued too: a paused job may have had to leave its GPUs, by a cut or with its node.
RESUME = Command("resume", Intent.RUN, ANY, "it has ended", "job.resume_asked")
REQUEUE = Command("requeue", Intent.REQUEUE, LIVE, "it has not started", "job.requeue_asked")
CHECKPOINT = Command(
    "checkpoint",
    Intent.CHECKPOINT,
    frozenset({S.RUNNING}),
    "only a running job can save",
    "job.checkpoint_asked",
)
UNDONE_BY = {"release": Intent.HOLD, "resume": Intent.PAUSE}

SUMMARIES = {
    CANCEL: "Stop the job for good: checkpoint, SIGTERM, grace, SIGKILL",
    HOLD: "Keep a queued job from starting",
    RELEASE: "Undo a hold",
    PAUSE: "Freeze a started job until it is resumed",
    RESUME: "Undo a pause",
    REQUEUE: "Stop the job with a checkpoint and queue it again",
    CHECKPOINT: "Ask the job to save now, without stopping",
}


def _endpoint(command: Command) -> Callable[..., JobView]:
    def order(
        job_id: JobId,
        services: ServicesDep,
        who: CallerDep,
        response: Response,
        if_match: IfMatch = None,
    ) -> JobView:
        job = give(command, job_id, services, who, expected_revision(if_match))
        response.headers["ETag"] = etag(job)
        return view_job(job, with_env=True)

    order.__name__ = f"{command.name}_job"
    return order


for _command, _summary in SUMMARIES.items():
    router.add_api_route(
        f"/v1/jobs/{{job_id}}/{_command.name}",
        _endpoint(_command),
        methods=["POST"],
        status_code=202,
        summary=_summary,
        responses=problems(404, 409, 412),
    )


@router.delete(
    "/v1/jobs/{job_id}", status_code=202, summary="Cancel the job", responses=problems(404, 409, 412)
)
def delete_job(
    job_id: JobId, services: ServicesDep, who: CallerDep, response: Response, if_match: IfMatch = None
) -> JobView:
    job = give(CANCEL, job_id, services, who, expected_revision(if_match))
    response.headers["ETag"] = etag(job)
    return view_job(job, with_env=True)


def give(command: Command, job_id: str, services: Services, who: Principal, expected: int | None) -> Job:
    """Write the intent if the job is where the command makes sense. Idempotent.

    Raises Problem 403 or 409, NotFound, StaleRevision, AlreadyTerminal.
    """
    for _ in range(RETRIES):
        job = services.store.jobs.get(job_id)
        demand_owner(who, job)
        if expected is not None and expected != job.revision:
            raise StaleRevision(job_id, expected, job.revision)
        if _is_given(command, job):
            return job
        _check(command, job, who)
        try:
            ordered = services.store.jobs.set_intent(
                job_id, command.intent, job.revision, by_operator=_acts_as_operator(who, job)
            )
        except StaleRevision:
            if expected is not None:
                raise
            continue  # someone else ordered something in between: judge anew
        tell(services, command.event, job_id=job_id, by=who.name)
        return ordered
    raise Problem(409, "the job keeps changing; repeat the request", headers={"Retry-After": "1"})


def _is_given(command: Command, job: Job) -> bool:
    """Nothing is left to order."""
    if command.intent is Intent.CANCEL and (job.intent is Intent.CANCEL or job.state is S.CANCELLED):
        return True
    return job.intent is command.intent and command.intent is not Intent.RUN and not job.state.terminal


def _check(command: Command, job: Job, who: Principal) -> None:
    if job.state not in command.states:
        raise Problem(409, f"cannot {command.name} a job that is {job.state}: {command.otherwise}")
    if job.intent is Intent.CANCEL:
        raise Problem(409, f"cannot {command.name} a job that is being cancelled")
    if command is CHECKPOINT and job.intent is not Intent.RUN:  # one intent at a time: this would undo it
        raise Problem(409, f"cannot checkpoint a job that is about to {job.intent}")
    undone = UNDONE_BY.get(command.name)
    if undone is not None and job.intent is not undone:
        raise Problem(409, _not_there(command, job))
    if job.held_by_operator and who.role < Role.OPERATOR and command is not CANCEL:
        raise Problem(403, "an operator holds this job; only an operator may change that")


def _not_there(command: Command, job: Job) -> str:
    if command is RESUME and job.state in (S.PAUSED, S.PAUSING):
        return f"no person paused this job; it waits by itself: {job.wait_detail or job.wait_reason}"
    return (
        f"cannot {command.name} this job: {'nobody holds it' if command is RELEASE else 'it is not paused'}"
    )


def _acts_as_operator(who: Principal, job: Job) -> bool:
    return who.role >= Role.OPERATOR and job.owner != who.name

"""A job's output, as it is or as it grows. File names come from the database's run ids, not from callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from api.dependencies import HubDep, JobId, ServicesDep, operation_id
from api.errors import Problem, problems
from api.services import Services
from api.sse import EventHub
from scheduler.engines.engine import EngineError
from scheduler.model import Job, Run

router = APIRouter(tags=["jobs"], generate_unique_id_function=operation_id)

CHUNK_BYTES = 64 * 1024
MOST_BYTES = 1024 * 1024
POLL_S = 0.3
STATE_POLL_S = 1.0
MEDIA_TYPE = "text/plain; charset=utf-8"


class LogFilter(BaseModel):
    """Which part of which run's log. Without `run` the newest; following goes on into later runs."""

    model_config = ConfigDict(extra="forbid")

    run: Annotated[str | None, Field(max_length=64)] = None
    offset: Annotated[int, Field(ge=0, le=2**53, description="bytes")] = 0
    limit: Annotated[int, Field(ge=1, le=MOST_BYTES, description="bytes")] = MOST_BYTES
    follow: bool = False


@router.get(
    "/v1/jobs/{job_id}/logs",
    summary="Its output",
    description="Bytes as the job wrote them. `X-Log-Offset` is the offset to go on from; with `follow=true` "
    "the answer grows until the job ends.",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "the output"},
        **problems(404, 503),
    },
)
async def get_logs(
    job_id: JobId,
    services: ServicesDep,
    hub: HubDep,
    request: Request,
    query: Annotated[LogFilter, Query()],
) -> Response:
    job = await run_in_threadpool(services.store.jobs.get, job_id)
    runs = await run_in_threadpool(services.store.jobs.runs, job_id)
    run = _chosen(runs, query.run)
    if query.follow:
        hub.check_room()
        stream = _Follower(services, hub, request, job_id, one_run=query.run is not None)
        return StreamingResponse(stream.chunks(run, query.offset), media_type=MEDIA_TYPE)
    if run is None:
        return Response(b"", media_type=MEDIA_TYPE, headers={"X-Log-Offset": "0"})
    data, following = await _read(services, run.id, query.offset, query.limit, gone_ok=not job.state.terminal)
    return Response(
        data, media_type=MEDIA_TYPE, headers={"X-Log-Offset": str(following), "X-Log-Run": run.id}
    )


def _chosen(runs: list[Run], asked: str | None) -> Run | None:
    if asked is None:
        return runs[-1] if runs else None
    for run in runs:
        if run.id == asked:
            return run
    raise Problem(404, "the job has no such run", field="run")


class _Follower:
    """Sends what a log has and waits for more, until the job (or the one run asked for) is over."""

    def __init__(
        self, services: Services, hub: EventHub, request: Request, job_id: str, *, one_run: bool
    ) -> None:
        self._services = services
        self._hub = hub
        self._request = request
        self._job_id = job_id
        self._one_run = one_run

    async def chunks(self, run: Run | None, offset: int) -> AsyncIterator[bytes]:
        with self._hub.counted():
            run_id, over, checked_s = (run.id if run else None), False, 0.0
            while not self._hub.closing.is_set():
                data = b""
                if run_id is not None:
                    data, offset = await _read(self._services, run_id, offset, CHUNK_BYTES, gone_ok=True)
                if data:
                    yield data
                    continue
                if over:
                    later = None if self._one_run else await self._later_run(run_id)
                    if later is None:
                        return
                    run_id, offset, over = later, 0, False
                    continue
                now_s = asyncio.get_running_loop().time()
                if now_s - checked_s >= STATE_POLL_S:
                    # Judged before the last read: what was written until then is still sent.
                    over, checked_s = await self._is_over(run_id), now_s
                    if await self._request.is_disconnected():
                        return
                    if over:
                        continue
                await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._hub.closing.wait()
        except TimeoutError:
            return

    async def _is_over(self, run_id: str | None) -> bool:
        """Whether nothing more will come from this run (None: a first run has come, or never will)."""
        job: Job = await run_in_threadpool(self._services.store.jobs.get, self._job_id)
        if job.state.terminal:
            return True
        current = job.run.id if job.run is not None else None
        if run_id is None:
            return current is not None
        return current != run_id or (job.run is not None and job.run.ended_at is not None)

    async def _later_run(self, run_id: str | None) -> str | None:
        """The run after this one; waits while the job may still get one. None = there will be none."""
        while not self._hub.closing.is_set():
            runs = await run_in_threadpool(self._services.store.jobs.runs, self._job_id)
            ids = [run.id for run in runs]
            rest = ids[ids.index(run_id) + 1 :] if run_id in ids else ids
            if rest:
                return rest[0]
            job: Job = await run_in_threadpool(self._services.store.jobs.get, self._job_id)
            if job.state.terminal or await self._request.is_disconnected():
                return None
            await asyncio.sleep(STATE_POLL_S)
        return None


async def _read(
    services: Services, run_id: str, offset: int, limit: int, *, gone_ok: bool
) -> tuple[bytes, int]:
    """Raises Problem 404 when the log is gone, unless that is to be expected (a run that just begins)."""
    try:
        return await run_in_threadpool(services.read_log, run_id, offset, limit)
    except EngineError as error:
        if gone_ok:
            return b"", offset
        raise Problem(404, "the log of this run is gone") from error

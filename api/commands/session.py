"""What every sub-command shares: the options of `wattmill` itself, and how an answer is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from api.commands.client import ApiClient, Target, UsageMistake
from api.commands.tables import print_json, terminal

AsJson = Annotated[bool, typer.Option("--json", help="Print the daemon's answer as JSON.")]
JobArg = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, the end of one, or its name.")]

SEARCHED_JOBS = 500


@contextmanager
def client_of(ctx: typer.Context) -> Iterator[ApiClient]:
    """The client for the daemon that the command line names."""
    target = ctx.find_object(Target) or Target()
    url, token = target.resolve()
    client = ApiClient(url, token)
    try:
        yield client
    finally:
        client.close()


def show(data: Any, as_json: bool, render: Callable[[Any], RenderableType]) -> None:
    """The answer, for a program or for a person."""
    if as_json:
        print_json(data)
    else:
        terminal().print(render(data))


def job_id_of(client: ApiClient, given: str) -> str:
    """The id of the job a person means. An id is taken as it is; the daemon says if there is none.

    Raises:
        UsageMistake: no recent job, or more than one, has that name or ending.
    """
    if given.startswith("job_") and len(given) > len("job_") + 20:
        return given
    jobs = client.get("/v1/jobs", limit=SEARCHED_JOBS)["items"]
    hits = [job for job in jobs if job["name"] == given] or [
        job for job in jobs if job["id"].lower().endswith(given.lower()) or job["id"] == given
    ]
    if not hits:
        raise UsageMistake(f"no recent job is called, or ends with, {given!r}", "see `wattmill ls`")
    if len(hits) > 1:
        listed = ", ".join(job["id"] for job in hits[:5])
        raise UsageMistake(f"{len(hits)} jobs match {given!r}", f"say which: {listed}")
    return str(hits[0]["id"])

"""`wattmill submit` and `wattmill plan`: the same job, once for real and once as a dry run."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from api.commands.client import UsageMistake
from api.commands.session import AsJson, client_of, show
from api.commands.tables import NONE, duration, moment, share, state_text, table, watts
from scheduler.model import Flex

UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def job(
    ctx: typer.Context,
    argv: Annotated[list[str], typer.Argument(metavar="-- PROGRAM [ARG]...", show_default=False)],
    gpus: Annotated[int, typer.Option("--gpus", "-g", help="How many GPUs, all or none.")] = 1,
    name: Annotated[str, typer.Option(help="For people; need not be unique.")] = "",
    flex: Annotated[
        Flex, typer.Option(help="Speed we may take: none 0 %, low 10, mid 25, high 50.")
    ] = Flex.NONE,
    pausable: Annotated[bool, typer.Option("--pausable", help="It may be paused, not only slowed.")] = False,
    max_pause: Annotated[
        str | None, typer.Option(metavar="TIME", help="All pauses together: 90m, 2h.")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(metavar="WHEN", help="End by: 2026-01-31T18:00+01:00.")
    ] = None,
    begin_at: Annotated[str | None, typer.Option(metavar="WHEN", help="Do not start before.")] = None,
    price_ceiling: Annotated[
        float | None, typer.Option(help="Per MWh: above it a pausable job pauses and a queued one waits.")
    ] = None,
    priority: Annotated[str, typer.Option(help="A class of the site's configuration.")] = "standard",
    project: Annotated[str, typer.Option(help="Whose account it is on.")] = "default",
    workload: Annotated[str | None, typer.Option(help="Jobs of one workload share a power curve.")] = None,
    estimate: Annotated[str | None, typer.Option(metavar="TIME", help="Running time at full speed.")] = None,
    gpu_type: Annotated[str | None, typer.Option(help="Part of the GPU model's name.")] = None,
    nodes: Annotated[int, typer.Option(help="Spread the GPUs evenly over this many nodes.")] = 1,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", metavar="NAME=VALUE")] = None,
    cwd: Annotated[Path | None, typer.Option(help="Where the program starts. Default: here.")] = None,
    after: Annotated[
        list[str] | None, typer.Option(metavar="JOB_ID", help="Start after this job succeeded.")
    ] = None,
    grace: Annotated[str | None, typer.Option(metavar="TIME", help="Time to save before a stop.")] = None,
    requeue: Annotated[bool, typer.Option(help="Start again after a lost run.")] = True,
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE")] = None,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: a repeated submit is the same job.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The body of both commands; which one it is, the command line says."""
    body: dict[str, Any] = {
        "argv": argv,
        "gpus": gpus,
        "name": name,
        "flex": flex.value,
        "pausable": pausable,
        "max_pause_s": seconds(max_pause),
        "deadline": deadline,
        "begin_at": begin_at,
        "price_ceiling_per_mwh": price_ceiling,
        "priority": priority,
        "project": project,
        "workload": workload,
        "estimate_s": seconds(estimate),
        "gpu_type": gpu_type,
        "nodes": nodes,
        "env": pairs(env or [], "--env"),
        "cwd": str((cwd or Path.cwd()).absolute()),
        "depends_on": after,
        "checkpoint_grace_s": seconds(grace),
        "requeue": requeue,
        "labels": pairs(label or [], "--label"),
    }
    body = {field: value for field, value in body.items() if value not in (None, {}, [])}
    with client_of(ctx) as client:
        if ctx.info_name == "plan":
            show(client.post("/v1/jobs:plan", body), as_json, _render_plan)
            return
        headers = {"Idempotency-Key": key} if key else {}
        show(client.post("/v1/jobs", body, **headers), as_json, _render_submitted)


def seconds(text: str | None) -> float | None:
    """`90`, `90s`, `15m`, `2h`, `1d` as seconds. Raises UsageMistake."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    if match is None or match[2] not in UNITS_S:
        raise UsageMistake(f"{text!r} is not a time", "write 90s, 15m, 2h or 1d")
    return float(match[1]) * UNITS_S[match[2]]


def pairs(items: list[str], option: str) -> dict[str, str]:
    """`NAME=VALUE`, or for variables just `NAME` to hand on one's own. Raises UsageMistake."""
    found = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals and option == "--env" and name in os.environ:
            value, equals = os.environ[name], "="
        if not (name and equals):
            raise UsageMistake(f"{option} {item!r} is not NAME=VALUE")
        found[name] = value
    return found


def _render_submitted(job: dict[str, Any]) -> RenderableType:
    line = Text.assemble(f"{job['id']}  ", state_text(job["state"]))
    line.append(f"   watch it: wattmill why {job['id'][-6:]}, wattmill logs -f {job['id'][-6:]}", style="dim")
    return line


def _render_plan(plan: dict[str, Any]) -> RenderableType:
    """One row per flex tier, in whatever figures the planner gives: the unit is in each name."""
    quotes = plan["quotes"]
    if not quotes:
        return Text("nothing can be said about such a job now", style="dim")
    names = [name for name in quotes[0] if any(quote.get(name) is not None for quote in quotes)]
    rows = [[_plan_cell(name, quote.get(name)) for name in names] for quote in quotes]
    figures = [i for i, name in enumerate(names) if isinstance(quotes[0].get(name), int | float)]
    return table([name.replace("_", " ").upper() for name in names], rows, right=figures)


def _plan_cell(name: str, value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, float | int) and not isinstance(value, bool):
        if name.endswith("_w"):
            return watts(value)
        if name.endswith("_s"):
            return duration(value)
        return share(value) if name.endswith("_share") else f"{value:,.6g}"
    if isinstance(value, str) and len(value) >= 19 and value[4:5] == "-" and "T" in value:
        return moment(value)
    return str(value)

"""`wattmill node | budget | target`: where the watts are, and how many there may be."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from api.commands.client import UsageMistake
from api.commands.session import AsJson, client_of, show
from api.commands.tables import NONE, depths, figure, moment, share, table, watts

node = typer.Typer(no_args_is_help=True, help="GPUs and the nodes they hang on.")
budget = typer.Typer(no_args_is_help=True, help="How many watts a power domain may draw.")
target = typer.Typer(
    no_args_is_help=True, help="A lower limit for a while: maintenance, or a request of the grid."
)

Domain = Annotated[str, typer.Argument(help="A power domain: see `wattmill budget domains`.")]
Watts = Annotated[str, typer.Argument(metavar="WATTS", help="1800, 1800W or 1.8kW.")]
NodeOrGpu = Annotated[str, typer.Argument(metavar="NODE|GPU", help="A node's name or a GPU's UUID.")]
Reason = Annotated[str, typer.Option(help="For those who come after you.")]
Past = Annotated[bool, typer.Option("--past", help="Also those that have ended.")]


@node.command("ls")
def node_ls(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Every GPU: what it draws, its cap, and who holds it."""
    with client_of(ctx) as client:
        show(client.get("/v1/power/state") if not as_json else client.get("/v1/gpus"), as_json, render_gpus)


@node.command()
def cordon(ctx: typer.Context, name: NodeOrGpu, reason: Reason = "", as_json: AsJson = False) -> None:
    """Start nothing new there."""
    _mark(ctx, name, "cordon", reason, as_json)


@node.command()
def uncordon(ctx: typer.Context, name: NodeOrGpu, reason: Reason = "", as_json: AsJson = False) -> None:
    """Use it again."""
    _mark(ctx, name, "uncordon", reason, as_json)


@node.command()
def drain(ctx: typer.Context, name: NodeOrGpu, reason: Reason = "", as_json: AsJson = False) -> None:
    """Start nothing new there, and move away what runs."""
    _mark(ctx, name, "drain", reason, as_json)


def _mark(ctx: typer.Context, name: str, verb: str, reason: str, as_json: bool) -> None:
    kind = "gpus" if name.startswith("GPU-") else "nodes"
    with client_of(ctx) as client:
        answer = client.post(f"/v1/{kind}/{name}/{verb}", {"reason": reason})
        show(answer, as_json, lambda _: Text(f"{name}: {verb}ed"))


@budget.command("ls")
def budget_ls(ctx: typer.Context, past: Past = False, as_json: AsJson = False) -> None:
    """Limits set by operators."""
    _list_limits(ctx, "budgets", past, as_json)


@budget.command()
def domains(ctx: typer.Context, as_json: AsJson = False) -> None:
    """The tree of power domains, with what each draws and could draw."""
    with client_of(ctx) as client:
        show(client.get("/v1/power/domains"), as_json, render_domains)


@budget.command("set")
def budget_set(
    ctx: typer.Context,
    domain: Domain,
    limit: Watts,
    start: Annotated[str | None, typer.Option(metavar="WHEN", help="Default: now.")] = None,
    end: Annotated[str | None, typer.Option(metavar="WHEN", help="Default: until replaced.")] = None,
    as_json: AsJson = False,
) -> None:
    """Limit a domain. Says which jobs have no room left under it."""
    _add_limit(
        ctx, "budgets", {"domain": domain, "limit_w": parse_watts(limit), "start": start, "end": end}, as_json
    )


@budget.command("rm")
def budget_rm(ctx: typer.Context, budget_id: str) -> None:
    """Take a limit away."""
    _remove_limit(ctx, "budgets", budget_id)


@target.command("ls")
def target_ls(ctx: typer.Context, past: Past = False, as_json: AsJson = False) -> None:
    """Limits with an end."""
    _list_limits(ctx, "targets", past, as_json)


@target.command("add")
def target_add(
    ctx: typer.Context,
    domain: Domain,
    limit: Watts,
    end: Annotated[str, typer.Option(metavar="WHEN", help="2026-01-31T19:00Z.")],
    start: Annotated[str | None, typer.Option(metavar="WHEN", help="Default: now.")] = None,
    correlation: Annotated[
        str | None, typer.Option(metavar="ID", help="The grid's own number for it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Limit a domain until a time. It can only lower what is allowed."""
    body = {
        "domain": domain,
        "limit_w": parse_watts(limit),
        "start": start,
        "end": end,
        "correlation_id": correlation,
    }
    _add_limit(ctx, "targets", body, as_json)


@target.command("rm")
def target_rm(ctx: typer.Context, target_id: str) -> None:
    """Take a target away."""
    _remove_limit(ctx, "targets", target_id)


def parse_watts(text: str) -> float:
    """Raises UsageMistake."""
    plain = text.strip().lower().removesuffix("w").strip()
    factor = {"k": 1e3, "m": 1e6}.get(plain[-1:], 1.0)
    try:
        return float(plain.rstrip("km")) * factor
    except ValueError:
        raise UsageMistake(f"{text!r} is not a number of watts", "write 1800, 1800W or 1.8kW") from None


def _list_limits(ctx: typer.Context, kind: str, past: bool, as_json: bool) -> None:
    with client_of(ctx) as client:
        answer = client.get(f"/v1/power/{kind}", include_past=True if past else None)
        show(answer, as_json, _render_limits)


def _add_limit(ctx: typer.Context, kind: str, body: dict[str, Any], as_json: bool) -> None:
    with client_of(ctx) as client:
        given = {field: value for field, value in body.items() if value is not None}
        show(client.post(f"/v1/power/{kind}", given), as_json, _render_added)


def _remove_limit(ctx: typer.Context, kind: str, limit_id: str) -> None:
    with client_of(ctx) as client:
        client.delete(f"/v1/power/{kind}/{limit_id}")
        show(None, False, lambda _: Text(f"removed {limit_id}"))


def _render_added(limit: dict[str, Any]) -> RenderableType:
    until = f" until {moment(limit['end'])} UTC" if limit["end"] else ""
    text = Text(f"{limit['domain']}: at most {watts(limit['limit_w'])}{until}   ({limit['id']})")
    if limit["pauses"]:
        text.append(f"\nno room is left for: {', '.join(limit['pauses'])}", style="yellow")
    return text


def _render_limits(page: dict[str, Any]) -> RenderableType:
    rows = [
        (
            limit["id"],
            limit["domain"],
            watts(limit["limit_w"]),
            moment(limit["start"]),
            moment(limit["end"]),
            "yes" if limit["holds_now"] else "no",
            limit["correlation_id"] or "",
        )
        for limit in page["items"]
    ]
    if not rows:
        return Text("none; configured limits are in `wattmill budget domains`", style="dim")
    return table(("ID", "DOMAIN", "LIMIT", "FROM (UTC)", "UNTIL", "NOW", "CORRELATION"), rows, right=(2,))


def render_domains(page: dict[str, Any]) -> RenderableType:
    depth = depths(page["items"])
    rows = [
        (
            "  " * depth[d["name"]] + d["name"],
            "none" if d["limit_w"] is None else watts(d["limit_w"]),
            watts(d["accounted_w"]),
            watts(d["draw_w"]),
            watts(d["floor_w"]),
            watts(d["idle_w"]),
            len(d["gpus"]),
        )
        for d in page["items"]
    ]
    columns = ("DOMAIN", "LIMIT", "WORST CASE", "DRAW", "LEAST WITH JOBS", "LEAST IDLE", "GPUS")
    return table(columns, rows, right=(1, 2, 3, 4, 5, 6))


def render_gpus(state: dict[str, Any]) -> RenderableType:
    rows = [
        (
            gpu["index"],
            gpu["model"],
            gpu["node"],
            watts(gpu["power_w"]),
            watts(gpu["cap_w"]),
            f"{gpu['min_cap_w']:.0f}-{gpu['max_cap_w']:.0f} W",
            share(gpu["utilization"]),
            figure(gpu["temperature_c"], "°C", 0),
            gpu["job_id"] or ("foreign process" if gpu["foreign"] else NONE),
            gpu_notes(gpu),
        )
        for gpu in state["gpus"]
    ]
    columns = ("GPU", "MODEL", "NODE", "DRAW", "CAP", "RANGE", "USE", "TEMP", "JOB", "NOTES")
    return table(columns, rows, right=(3, 4, 6, 7))


def gpu_notes(gpu: dict[str, Any]) -> str:
    notes = [gpu["error"] or ("" if gpu["healthy"] else "not healthy")]
    notes.append("cordoned" if gpu["cordoned"] else "")
    notes.append("" if gpu["settable"] else "limit not settable")
    return ", ".join(note for note in notes if note)

"""`wattmill top`: the whole site on one screen, as it changes."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from api.commands.client import ApiClient, Unreachable
from api.commands.jobs import WAITING_OR_RUNNING, reason
from api.commands.power import gpu_notes
from api.commands.session import AsJson, client_of
from api.commands.tables import (
    NONE,
    depths,
    figure,
    moment,
    print_json,
    share,
    state_text,
    table,
    terminal,
    watts,
)

BAR_WIDTH = 30


def top(
    ctx: typer.Context,
    every: Annotated[float, typer.Option(min=0.5, help="Seconds between looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one look and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Watts, prices, GPUs and jobs, live. Ctrl-C ends it."""
    with client_of(ctx) as client:
        if as_json:
            state, jobs = _look(client)
            print_json({"state": state, "jobs": jobs})
        elif once or not terminal().is_terminal:
            terminal().print(screen(*_look(client)))
        else:
            _watch(client, every)


def _look(client: ApiClient) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    page = client.get("/v1/jobs", state=WAITING_OR_RUNNING, limit=100)
    return client.get("/v1/power/state"), page["items"]


def _watch(client: ApiClient, every: float) -> None:
    shown = screen(*_look(client))
    with Live(shown, console=terminal(), screen=True, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(every)
                try:
                    shown = screen(*_look(client))
                    live.update(shown, refresh=True)
                except Unreachable as error:
                    live.update(Group(Text(str(error), style="bold red"), shown), refresh=True)
        except KeyboardInterrupt:
            return


def screen(state: dict[str, Any], jobs: list[dict[str, Any]]) -> RenderableType:
    """One look at everything."""
    head = Text.assemble(("wattmill", "bold"), f"   {moment(state['at'])} UTC   {state['backend']}")
    if state["clock_rate"] != 1:
        head.append(f"   replayed {state['clock_rate']:g} times as fast", style="dim")
    price = Text.assemble(
        ("price  ", "dim"), (f"{figure(state['price_per_mwh'])} {state['currency']}/MWh", "bold")
    )
    price.append(f"   carbon {figure(state['carbon_g_per_kwh'], 'g/kWh', 0)}", style="dim")
    if state["active_rules"]:
        price.append(f"   in force: {', '.join(state['active_rules'])}", style="yellow")
    parts: list[RenderableType] = [head, _domains(state["domains"]), price]
    if state["degraded"]:
        parts.append(
            Text(f"running with less: {', '.join(state['degraded'])}".replace("_", " "), style="bold yellow")
        )
    return Group(*parts, Text(""), _gpus(state, jobs), Text(""), _jobs(state, jobs))


def _domains(domains: list[dict[str, Any]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    depth = depths(domains)
    for domain in domains:
        limit_w, draw_w = domain["limit_w"], domain["draw_w"]
        over = limit_w is not None and domain["accounted_w"] > limit_w + 0.5
        bar = ProgressBar(
            total=limit_w or domain["accounted_w"] or 1.0,
            completed=draw_w or 0.0,
            width=BAR_WIDTH,
            complete_style="red" if over else "green",
            finished_style="red" if over else "green",
        )
        limit = "no limit" if limit_w is None else f"of {watts(limit_w)}"
        line = Text.assemble((watts(draw_w), "bold"), f" {limit}, worst case {watts(domain['accounted_w'])}")
        grid.add_row(Text("  " * depth[domain["name"]] + domain["name"], style="dim"), bar, line)
    return grid


def _gpus(state: dict[str, Any], jobs: list[dict[str, Any]]) -> Table:
    names = {job["id"]: job["name"] or job["id"][-8:] for job in jobs}
    rows = [
        (
            gpu["index"],
            gpu["model"],
            watts(gpu["power_w"]),
            watts(gpu["cap_w"]),
            share(gpu["utilization"]),
            figure(gpu["temperature_c"], "°C", 0),
            names.get(gpu["job_id"], gpu["job_id"] or ("foreign process" if gpu["foreign"] else NONE)),
            gpu_notes(gpu),
        )
        for gpu in state["gpus"]
    ]
    return table(("GPU", "MODEL", "DRAW", "CAP", "USE", "TEMP", "JOB", "NOTES"), rows, right=(2, 3, 4, 5))


def _jobs(state: dict[str, Any], jobs: list[dict[str, Any]]) -> RenderableType:
    if not jobs:
        return Text("no jobs", style="dim")
    running = {row["job_id"]: row for row in state["jobs"]}
    rows = []
    for job in sorted(jobs, key=lambda j: (j["state"] == "QUEUED", j["submitted_at"])):
        power = running.get(job["id"], {})
        done = NONE
        if power.get("total_steps"):
            done = f"{100 * (power['step'] or 0) // power['total_steps']} %"
        rows.append(
            (
                job["name"] or job["id"][-8:],
                state_text(job["state"], power.get("condition") or job["condition"]),
                job["gpus"],
                watts(power.get("cap_w")),
                watts(power.get("draw_w")),
                figure(power.get("samples_per_s"), digits=0),
                done,
                f"{share(power.get('used_share'))} of {share(power.get('promised_share'))}"
                if power
                else NONE,
                power.get("cause") or reason(job),
            )
        )
    columns = ("JOB", "STATE", "GPUS", "CAP", "DRAW", "SAMPLES/S", "DONE", "SLOWDOWN", "WHY")
    return table(columns, rows, right=(2, 3, 4, 5, 6))

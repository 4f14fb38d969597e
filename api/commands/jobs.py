"""`wattmill ls | show | why | logs | cancel | hold | …`: jobs that exist."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from api.commands.client import ApiClient, CommandError
from api.commands.session import AsJson, JobArg, client_of, job_id_of, show
from api.commands.tables import (
    NONE,
    details,
    duration,
    energy,
    figure,
    moment,
    money,
    share,
    state_text,
    table,
    watts,
)
from scheduler.model import JobState

WAITING_OR_RUNNING = [state.value for state in JobState if not state.terminal]
ORDERS = {
    "cancel": "Stop a job for good: it may save first.",
    "hold": "Keep a queued job from starting.",
    "release": "Undo a hold.",
    "pause": "Freeze a running job.",
    "resume": "Undo a pause.",
    "requeue": "Stop a job with a checkpoint and queue it again.",
    "checkpoint": "Ask a running job to save now.",
}


def ls(
    ctx: typer.Context,
    state: Annotated[list[JobState] | None, typer.Option(case_sensitive=False, help="Any of these.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Only those that have not ended.")] = False,
    mine: Annotated[bool, typer.Option("--mine", help="Only your own.")] = False,
    project: Annotated[str | None, typer.Option()] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500)] = 50,
    as_json: AsJson = False,
) -> None:
    """Jobs, newest first."""
    states = [s.value for s in state or []] or (WAITING_OR_RUNNING if live else None)
    owner = "me" if mine else None
    with client_of(ctx) as client:
        page = client.get("/v1/jobs", state=states, owner=owner, project=project, limit=limit)
        show(page, as_json, render_jobs)


def show_job(ctx: typer.Context, job: JobArg, as_json: AsJson = False) -> None:
    """Everything about one job: what was asked, how it goes, what it cost so far."""
    with client_of(ctx) as client:
        job_id = job_id_of(client, job)
        data = client.get(f"/v1/jobs/{job_id}")
        data["energy"] = client.get(f"/v1/jobs/{job_id}/energy")
        show(data, as_json, render_job)


def why(ctx: typer.Context, job: JobArg, as_json: AsJson = False) -> None:
    """Why a job waits, or is not faster."""
    with client_of(ctx) as client:
        show(client.get(f"/v1/jobs/{job_id_of(client, job)}/why"), as_json, render_why)


def logs(
    ctx: typer.Context,
    job: JobArg,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    run: Annotated[str | None, typer.Option(help="An earlier attempt: see `wattmill show`.")] = None,
) -> None:
    """What a job printed."""
    with client_of(ctx) as client:
        path = f"/v1/jobs/{job_id_of(client, job)}/logs"
        for chunk in client.chunks(path, follow="true" if follow else None, run=run):
            sys.stdout.write(chunk)
            sys.stdout.flush()


def order(name: str) -> Callable[..., None]:
    """The command that gives one order to jobs."""

    def command(
        ctx: typer.Context,
        jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help="Ids, ends of ids, or names.")],
        as_json: AsJson = False,
    ) -> None:
        with client_of(ctx) as client:
            ids = [job_id_of(client, job) for job in jobs]
            answers, refused = _order_all(client, ids, name)
            if answers:
                shown = answers if len(jobs) > 1 else answers[0]
                show(shown, as_json, lambda _: _render_orders(name, answers))
        if refused:
            raise refused[0]

    command.__doc__ = ORDERS[name]
    return command


def _order_all(
    client: ApiClient, ids: list[str], name: str
) -> tuple[list[dict[str, Any]], list[CommandError]]:
    """Give the order to every job; a refusal of one does not spare the others."""
    answers: list[dict[str, Any]] = []
    refused: list[CommandError] = []
    for job_id in ids:
        try:
            answers.append(client.post(f"/v1/jobs/{job_id}/{name}"))
        except CommandError as error:
            refused.append(error)
    return answers, refused


def _render_orders(name: str, jobs: list[dict[str, Any]]) -> RenderableType:
    lines = [Text.assemble(f"{job['id']}  ", state_text(job["state"]), f"  {name} asked") for job in jobs]
    return Group(*lines)


def render_jobs(page: dict[str, Any]) -> RenderableType:
    if not page["items"]:
        return Text("no jobs", style="dim")
    rows = [
        (
            job["id"],
            job["name"] or " ".join(job["argv"])[:30],
            state_text(job["state"], job["condition"]),
            job["gpus"],
            job["flex"] + (" pausable" if job["pausable"] else ""),
            job["priority"],
            job["owner"],
            moment(job["submitted_at"]),
            reason(job),
        )
        for job in page["items"]
    ]
    shown = table(
        ("ID", "NAME", "STATE", "GPUS", "FLEX", "PRIORITY", "OWNER", "SUBMITTED", "WHY"), rows, right=(3,)
    )
    if page["next_cursor"]:
        return Group(shown, Text("there are more: --limit", style="dim"))
    return shown


def reason(job: dict[str, Any]) -> str:
    """Why it is not running at full speed, in one phrase; empty when it is."""
    if job["state"] in ("FAILED", "CANCELLED"):
        code = "" if job["exit_code"] is None else f", exit code {job['exit_code']}"
        return f"{job['end_reason'] or ''}{code}".lstrip(", ")
    if job["wait_reason"]:
        return str(job["wait_detail"] or job["wait_reason"].replace("_", " "))
    return str(job["condition_cause"] or "")


def render_job(job: dict[str, Any]) -> RenderableType:
    run = job["run"] or {}
    pairs = [
        ("id", job["id"]),
        ("name", job["name"]),
        (
            "state",
            Text.assemble(
                state_text(job["state"], job["condition"]), f" since {moment(job['state_since'])} UTC"
            ),
        ),
        ("why", reason(job)),
        ("program", " ".join(job["argv"])),
        ("folder", job["cwd"]),
        ("GPUs", f"{job['gpus']}" + (f" on {job['nodes']} nodes" if job["nodes"] > 1 else "")),
        ("GPU type", job["gpu_type"]),
        ("contract", _contract(job)),
        ("priority", job["priority"]),
        ("project", job["project"]),
        ("owner", job["owner"]),
        ("submitted", f"{moment(job['submitted_at'])} UTC"),
        ("ended", f"{moment(job['ended_at'])} UTC" if job["ended_at"] else None),
        ("exit code", job["exit_code"]),
        ("attempt", f"{job['attempts']}, run {run['id']}" if run else None),
        ("on", ", ".join(run.get("gpu_uuids", []))),
        ("paused so far", duration(job["paused_s"]) if job["paused_s"] else None),
        ("checkpoint", job["checkpoint_path"]),
        ("after", ", ".join(job["depends_on"])),
        ("labels", ", ".join(f"{k}={v}" for k, v in job["labels"].items())),
        *_bill_pairs(job["energy"]),
    ]
    return details(pairs)


def _contract(job: dict[str, Any]) -> str:
    parts = [f"flex {job['flex']}"]
    if job["pausable"]:
        parts.append("pausable" + (f" up to {duration(job['max_pause_s'])}" if job["max_pause_s"] else ""))
    if job["price_ceiling_per_mwh"] is not None:
        parts.append(f"price ceiling {job['price_ceiling_per_mwh']:g} per MWh")
    if job["deadline"]:
        parts.append(f"deadline {moment(job['deadline'])} UTC")
    return ", ".join(parts)


def _bill_pairs(story: dict[str, Any]) -> list[tuple[str, Any]]:
    bill, currency = story["total"], story["currency"]
    if not bill["energy_kwh"]:
        return []
    grams = bill["co2_g"]
    promised = "" if bill["slowdown_promised"] is None else f" of {share(bill['slowdown_promised'])} promised"
    estimate = story["unthrottled"]
    return [
        ("energy", energy(bill["energy_kwh"])),
        ("cost", money(bill["cost"], currency) + ("" if story["final"] else " so far")),
        ("CO2", NONE if grams is None else figure(grams / 1000, "kg", 3)),
        ("GPU-hours", figure(bill["gpu_hours"])),
        ("mean cap", watts(bill["average_cap_w"])),
        ("slowdown used", share(bill["slowdown_used"]) + promised),
        (
            "samples per kWh",
            None if bill["samples_per_kwh"] is None else figure(bill["samples_per_kwh"], digits=0),
        ),
        ("unthrottled", estimate and f"{money(estimate['cost'], currency)} ({estimate['label']})"),
    ]


def render_why(story: dict[str, Any]) -> RenderableType:
    power = story["power"]
    pairs: list[tuple[str, Any]] = [
        (
            "state",
            Text.assemble(
                state_text(story["state"], story["condition"]), f" since {moment(story['since'])} UTC"
            ),
        ),
        ("reason", story["reason"]),
        ("ahead of it", ", ".join(story["ahead"])),
        ("depends on", ", ".join(story["waits_for"])),
    ]
    if power:
        used = f"{share(power['used_share'])} of {share(power['promised_share'])} promised"
        pairs += [
            ("cap per GPU", watts(power["cap_w"])),
            ("draw", watts(power["draw_w"])),
            ("speed by its cap", f"{share(power['throughput_share'])} of uncapped"),
            ("samples/s", figure(power["samples_per_s"], digits=1)),
            ("slowdown used", used),
            ("stopping it now loses", f"{power['stop_lost_s']:.0f} s of work, {power['stop_cost']:.2f}"),
        ]
    pairs += _plan_pairs(story["plan"])
    decision = story["decision"]
    if decision:
        pairs.append(("decided", f"{moment(decision['at'])} UTC, cycle {decision['cycle']}"))
        pairs += [("", note) for note in decision["notes"]]
    for proof in story["certificates"]:
        by = f", by {proof['fallback']}" if proof["fallback"] else ""
        part = f" ({proof['scope']})" if proof["scope"] else ""
        pairs.append((f"{proof['step']} is within", f"{share(proof['gap'])} of the best possible{part}{by}"))
    return Group(Text(story["sentence"], style="bold"), details(pairs))


def _plan_pairs(planned: dict[str, Any] | None) -> list[tuple[str, Any]]:
    if planned is None:
        return []
    start = f"{moment(planned['start'])} UTC" if planned["start"] else None
    return [
        ("planned start", start),
        ("energy cost as planned", f"{planned['expected_cost']:.4f}, started now {planned['cost_now']:.4f}"),
    ]

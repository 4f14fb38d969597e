"""`wattmill price | policy | report`: what power costs, what happens when it is dear, and what was paid."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from api.commands.client import UsageMistake
from api.commands.session import AsJson, client_of, show
from api.commands.tables import NONE, duration, figure, moment, share, table
from scheduler.policy.price_rule import RuleAction

price = typer.Typer(no_args_is_help=True, help="What electricity costs, now and ahead.")
policy = typer.Typer(no_args_is_help=True, help="Price rules: above which price to cap or pause which jobs.")

Start = Annotated[str | None, typer.Option("--start", metavar="WHEN", help="2026-01-31T12:00Z.")]
End = Annotated[str | None, typer.Option("--end", metavar="WHEN")]
Name = Annotated[str, typer.Argument(help="The rule's name.")]
Above = Annotated[float, typer.Option(help="In force above this price per MWh.")]
Below = Annotated[float | None, typer.Option(help="Until it falls below this one. Default: 10 % lower.")]
Dwell = Annotated[float, typer.Option(help="Seconds that it stays in or out of force at least.")]
Action = Annotated[RuleAction, typer.Option(help="What it does to the jobs, inside their contracts.")]
Share = Annotated[float, typer.Option("--share", help="For cap: of uncapped speed, 0..1.")]
To = Annotated[
    list[str] | None, typer.Option("--to", help="A flex tier, or priority:CLASS. Default: every job.")
]

BAR_WIDTH = 40


@price.command("show")
def price_show(ctx: typer.Context, start: Start = None, end: End = None, as_json: AsJson = False) -> None:
    """The price now and ahead, with its source and age."""
    with client_of(ctx) as client:
        show(client.get("/v1/prices", start=start, end=end), as_json, render_series)


@price.command()
def carbon(ctx: typer.Context, start: Start = None, end: End = None, as_json: AsJson = False) -> None:
    """The carbon intensity now and ahead."""
    with client_of(ctx) as client:
        show(client.get("/v1/carbon", start=start, end=end), as_json, render_series)


@price.command("set")
def price_set(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV with the columns time_utc,value (per MWh).")],
    source: Annotated[str, typer.Option(help="Shown beside every price of it.")] = "local",
    as_json: AsJson = False,
) -> None:
    """Feed in prices of your own: a contract, a forecast, an exercise."""
    body = {"points": read_points(file), "source": source}
    with client_of(ctx) as client:
        show(client.post("/v1/prices", body), as_json, render_series)


def read_points(file: Path) -> list[dict[str, Any]]:
    """Points of a CSV file. Raises UsageMistake that names the line."""
    try:
        rows = list(csv.DictReader(file.read_text().splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageMistake(f"cannot read {file}: {error}") from error
    points = []
    for number, row in enumerate(rows, start=2):
        try:
            when = datetime.fromisoformat(row["time_utc"])
            points.append({"start": _aware(when).isoformat(), "value": float(row["value"])})
        except (KeyError, TypeError, ValueError) as error:
            raise UsageMistake(
                f"{file}, line {number}: {error}", "the columns are time_utc,value; times are UTC"
            ) from error
    return points


def _aware(when: datetime) -> datetime:
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when


@policy.command("ls")
def policy_ls(ctx: typer.Context, as_json: AsJson = False) -> None:
    """All price rules, and which are in force."""
    with client_of(ctx) as client:
        show(client.get("/v1/policies"), as_json, _render_rules)


@policy.command("set")
def policy_set(
    ctx: typer.Context,
    name: Name,
    above: Above,
    below: Below = None,
    dwell_s: Dwell = 900.0,
    action: Action = RuleAction.CAP,
    share_: Share = 0.75,
    to: To = None,
    enabled: Annotated[bool, typer.Option("--enabled/--disabled")] = True,
    as_json: AsJson = False,
) -> None:
    """Add a price rule, or replace the one of this name."""
    body = _rule(above, below, dwell_s, action, share_, to) | {"enabled": enabled}
    with client_of(ctx) as client:
        known = {rule["name"] for rule in client.get("/v1/policies")["items"]}
        if name in known:
            answer = client.put(f"/v1/policies/{name}", body)
        else:
            answer = client.post("/v1/policies", {"name": name, **body})
        show(answer, as_json, lambda rule: _render_rules({"items": [rule]}))


@policy.command("preview")
def policy_preview(
    ctx: typer.Context,
    above: Above,
    below: Below = None,
    dwell_s: Dwell = 900.0,
    action: Action = RuleAction.CAP,
    share_: Share = 0.75,
    to: To = None,
    start: Start = None,
    end: End = None,
    as_json: AsJson = False,
) -> None:
    """When such a rule would be in force over the known prices, without storing it."""
    body = {"name": "preview", **_rule(above, below, dwell_s, action, share_, to)}
    params = {k: v for k, v in {"start": start, "end": end}.items() if v}
    with client_of(ctx) as client:
        answer = client.send("POST", "/v1/policies:preview", body=body, params=params)
        show(answer, as_json, _render_preview)


@policy.command("rm")
def policy_rm(ctx: typer.Context, name: Name) -> None:
    """Take a price rule away."""
    with client_of(ctx) as client:
        client.delete(f"/v1/policies/{name}")
        show(None, False, lambda _: Text(f"removed {name}"))


def _rule(
    above: float, below: float | None, dwell_s: float, action: RuleAction, share_: float, to: list[str] | None
) -> dict[str, Any]:
    return {
        "above_per_mwh": above,
        "release_below_per_mwh": above - 0.1 * abs(above) if below is None else below,
        "min_dwell_s": dwell_s,
        "action": action.value,
        "throughput_share": share_,
        "applies_to": to or [],
    }


def render_series(series: dict[str, Any]) -> RenderableType:
    now = Text.assemble(("now  ", "dim"), (f"{figure(series['now'])} {series['unit']}", "bold"))
    if series["source"]:
        age = "" if series["age_s"] is None else f", fetched {duration(series['age_s'])} ago"
        now.append(f"   {series['source']}{age}", style="dim")
    slots = series["slots"]
    if not slots:
        return Group(now, Text("no values in this period", style="dim"))
    slots = _merged(slots)
    high = max(max(s["value"] for s in slots), 1e-9)
    rows = [
        (
            moment(s["start"]),
            figure(s["value"]),
            "█" * round(BAR_WIDTH * max(0.0, s["value"]) / high),
            s["source"],
        )
        for s in slots
    ]
    parts: list[RenderableType] = [now, table(("FROM (UTC)", series["unit"], "", "SOURCE"), rows, right=(1,))]
    parts += [Text(f"refused: {line}", style="yellow") for line in series["refused"][:10]]
    if series["attribution"]:
        parts.append(Text(series["attribution"], style="dim"))
    return Group(*parts)


def _merged(slots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbours of the same value and source are one row: a fixed tariff is one line."""
    merged: list[dict[str, Any]] = []
    for slot in slots:
        last = merged[-1] if merged else {}
        same = (last.get("end"), last.get("value"), last.get("source"))
        if same == (slot["start"], slot["value"], slot["source"]):
            merged[-1] = {**last, "end": slot["end"]}
        else:
            merged.append(slot)
    return merged


def _render_rules(page: dict[str, Any]) -> RenderableType:
    rows = [
        (
            rule["name"],
            figure(rule["above_per_mwh"]),
            figure(rule["release_below_per_mwh"]),
            duration(rule["min_dwell_s"]),
            f"cap to {share(rule['throughput_share'])}" if rule["action"] == "cap" else "pause",
            ", ".join(rule["applies_to"]) or "every job",
            _in_force(rule),
        )
        for rule in page["items"]
    ]
    if not rows:
        return Text("no price rules; add one: wattmill policy set NAME --above 150", style="dim")
    return table(
        ("NAME", "ABOVE", "RELEASE BELOW", "DWELL", "ACTION", "APPLIES TO", "IN FORCE"), rows, right=(1, 2)
    )


def _in_force(rule: dict[str, Any]) -> str:
    if not rule["enabled"]:
        return "disabled"
    return {True: "yes", False: "no", None: NONE}[rule["in_force"]]


def _render_preview(found: dict[str, Any]) -> RenderableType:
    head = Text(
        f"in force {duration(found['active_s'])} of {duration(found['span_s'])}"
        f" ({share(found['active_share'])}), about {len(found['covers'])} job(s) now"
    )
    rows = [
        (moment(a["start"]), moment(a["end"]), figure(a["highest_per_mwh"])) for a in found["activations"]
    ]
    return Group(head, table(("FROM (UTC)", "UNTIL", "HIGHEST"), rows, right=(2,))) if rows else head

"""`wattmill report`: energy and money over a period."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from api.commands.grid import End, Start
from api.commands.session import AsJson, client_of, show
from api.commands.tables import NONE, figure, moment, money, share, table, watts
from api.commands.tables import energy as energy_text

report = typer.Typer(
    no_args_is_help=True, help="Energy and money over a period; the rows add up to the meter."
)

Grouping = Literal["kind", "job", "owner", "project", "day", "slot"]
By = Annotated[Grouping, typer.Option("--by", help="What to sum up by.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="As CSV, for a spreadsheet.")]


@report.command()
def energy(
    ctx: typer.Context,
    by: By = "job",
    start: Start = None,
    end: End = None,
    as_csv: AsCsv = False,
    as_json: AsJson = False,
) -> None:
    """Energy, caps and samples. Default: the last day."""
    _report(ctx, "energy", by, start, end, as_csv=as_csv, as_json=as_json)


@report.command()
def cost(
    ctx: typer.Context,
    by: By = "job",
    start: Start = None,
    end: End = None,
    as_csv: AsCsv = False,
    as_json: AsJson = False,
) -> None:
    """Money and CO2. Default: the last day."""
    _report(ctx, "cost", by, start, end, as_csv=as_csv, as_json=as_json)


def _report(
    ctx: typer.Context,
    kind: str,
    by: Grouping,
    start: str | None,
    end: str | None,
    *,
    as_csv: bool,
    as_json: bool,
) -> None:
    with client_of(ctx) as client:
        form = "csv" if as_csv else None
        answer = client.get(f"/v1/reports/{kind}", group_by=by, start=start, end=end, format=form)
        if as_csv:
            sys.stdout.write(answer)
        else:
            show(answer, as_json, _render_energy if kind == "energy" else _render_cost)


def _render_energy(found: dict[str, Any]) -> RenderableType:
    columns = (
        "KIND",
        _key_name(found),
        "ENERGY",
        "GPU-HOURS",
        "MEAN CAP",
        "SAMPLES/KWH",
        "METER CHECK",
    )

    def figures(bill: dict[str, Any]) -> tuple[str, ...]:
        return (
            energy_text(bill["energy_kwh"]),
            figure(bill["gpu_hours"]),
            watts(bill["average_cap_w"]),
            figure(bill["samples_per_kwh"], digits=0),
            share(bill["counter_vs_integral"]),
        )

    return _render(found, columns, figures)


def _render_cost(found: dict[str, Any]) -> RenderableType:
    columns = ("KIND", _key_name(found), "ENERGY", "COST", "CO2", "WITHOUT PRICE", "SLOWDOWN")

    def figures(bill: dict[str, Any]) -> tuple[str, ...]:
        grams = bill["co2_g"]
        return (
            energy_text(bill["energy_kwh"]),
            money(bill["cost"], found["currency"]),
            NONE if grams is None else figure(grams / 1000, "kg", 3),
            energy_text(bill["unpriced_kwh"]) if bill["unpriced_kwh"] else NONE,
            share(bill["slowdown_used"]),
        )

    return _render(found, columns, figures)


def _key_name(found: dict[str, Any]) -> str:
    return "" if found["group_by"] == "kind" else str(found["group_by"]).upper()


def _render(found: dict[str, Any], columns: tuple[str, ...], figures: Any) -> RenderableType:
    head = Text(f"{moment(found['start'])} to {moment(found['end'])} UTC", style="dim")
    rows = [(row["kind"], row["name"] or row["key"] or "", *figures(row["figures"])) for row in found["rows"]]
    rows.append(("total", "", *figures(found["total"])))
    return Group(head, table(columns, rows, right=range(2, len(columns))))

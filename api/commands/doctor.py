"""`wattmill doctor`: what was found on this machine, and what to do about each."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.text import Text

from api.commands.client import Target
from api.commands.session import AsJson
from api.commands.tables import print_json, table, terminal
from api.doctor import Finding, Level, checks, worst

STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def doctor(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Look at GPUs, rights, database, feeds, clock and folders. Changes nothing."""
    from api.doctor_probes import gather

    target = ctx.find_object(Target) or Target()
    findings = checks(gather(target.load(), target))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        terminal().print(table(("", "CHECK", "FOUND", "WHAT TO DO"), [_row(f) for f in findings]))
    if worst(findings) is Level.FAIL:
        raise typer.Exit(1)


def _row(finding: Finding) -> tuple[Text, str, str, str]:
    return Text(finding.level.value, style=STYLES[finding.level]), finding.check, finding.found, finding.todo

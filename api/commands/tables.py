"""What people see on the terminal: tables, figures with units, and errors. JSON goes out untouched."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.commands.client import CommandError, Refused

NONE = "–"
PIPE_WIDTH = 200  # columns when nobody watches, so that `grep` sees whole lines

STATE_STYLES = {
    "RUNNING": "green",
    "STARTING": "green",
    "QUEUED": "cyan",
    "PAUSED": "yellow",
    "PAUSING": "yellow",
    "STOPPING": "yellow",
    "SUCCEEDED": "dim",
    "CANCELLED": "dim",
    "FAILED": "red",
}


def terminal(*, to_stderr: bool = False) -> Console:
    """Made anew each time: tests and pipes exchange the streams."""
    stream = sys.stderr if to_stderr else sys.stdout
    return Console(
        file=stream, width=None if stream.isatty() else PIPE_WIDTH, highlight=False, soft_wrap=False
    )


def print_json(data: Any) -> None:
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def print_error(error: CommandError, *, as_json: bool) -> None:
    """On stderr, so that stdout stays parseable."""
    if as_json:
        sys.stderr.write(json.dumps(error.as_data(), ensure_ascii=False) + "\n")
        return
    console = terminal(to_stderr=True)
    hint = error.hint
    named = error.problem.get("errors") or [] if isinstance(error, Refused) else []
    headline = Text.assemble(("wattmill: ", "bold red"), str(error))
    if len(named) > 1:
        console.print(headline)
        for item in named:
            console.print(Text(f"  {item.get('field')}: {item.get('message')}"))
        return
    if isinstance(error, Refused) and hint:
        headline = Text.assemble(("wattmill: ", "bold red"), hint)
        hint = {401: "give a token: --token-file FILE, or WATTMILL_TOKEN"}.get(error.status, "")
    console.print(headline)
    if hint:
        console.print(Text(f"  {hint}", style="dim"))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[int] = ()) -> Table:
    """A plain table; `right` are the indices of columns of figures."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    numeric = set(right)
    for index, name in enumerate(columns):
        made.add_column(
            name,
            justify="right" if index in numeric else "left",
            overflow="fold",
            no_wrap=index == 0 or index in numeric,
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return made


def details(pairs: Iterable[tuple[str, Any]]) -> Table:
    """Name and value, one per line; empty values are left out."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, "", NONE, [], {}):
            made.add_row(Text(name), value if isinstance(value, Text) else Text(str(value)))
    return made


def state_text(state: str, condition: str | None = None) -> Text:
    """The state in its colour, with what throttles it."""
    shown = Text(state, style=STATE_STYLES.get(state, ""))
    if state == "RUNNING" and condition and condition != "NOMINAL":
        shown.append(f" {condition.lower().replace('_', ' by ', 1)}", style="yellow")
    return shown


def watts(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value / 1000:.1f} kW" if abs(value) >= 10_000 else f"{value:.0f} W"


def figure(value: float | None, unit: str = "", digits: int = 2) -> str:
    return NONE if value is None else f"{value:,.{digits}f}{' ' + unit if unit else ''}"


def energy(kwh: float | None) -> str:
    """In kWh, or in Wh where that would be nothing but zeros."""
    if kwh is None:
        return NONE
    return figure(kwh * 1000, "Wh", 1) if abs(kwh) < 0.1 else figure(kwh, "kWh", 2)


def money(value: float | None, currency: str) -> str:
    """With as many decimals as a small sum needs."""
    if value is None:
        return NONE
    return figure(value, currency, 2 if abs(value) >= 10 else 4 if abs(value) >= 0.01 else 6)


def share(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f} %"


def duration(seconds: float | None) -> str:
    """Two units at most: `3 h 05 min`."""
    if seconds is None:
        return NONE
    total = max(0, round(seconds))
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    if total < 48 * 3600:
        return f"{total // 3600} h {total % 3600 // 60:02d} min"
    return f"{total // 86400} d {total % 86400 // 3600} h"


def moment(text: str | None) -> str:
    """An RFC 3339 time as UTC to the minute."""
    if not text:
        return NONE
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def depths(domains: list[dict[str, Any]]) -> dict[str, int]:
    """How far below the root each domain is."""
    parent = {d["name"]: d["parent"] for d in domains}

    def depth(name: str) -> int:
        above = parent[name]
        return 0 if above is None else 1 + depth(above)

    return {name: depth(name) for name in parent}

"""Budgets of a simulation: a figure for the whole time, or a schedule from a CSV file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final, cast

from power.budget import Budget, PowerTree
from power.grid.validate import EARLIEST, LATEST
from scheduler.simulation.clusters import quiet_w
from scheduler.simulation.csv_table import CsvTable
from scheduler.simulation.model import BadInput
from scheduler.simulation.plain_number import plain_number

_LIMIT: Final = re.compile(r"(?P<figure>[\d.]+)\s*(?:(?P<share>%)|(?P<factor>[kKM]?)[wW]?)", re.ASCII)
_FACTORS: Final = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6}
AN_INSTANT: Final = "a time with its zone, such as 2023-06-01T00:00Z, in the years 2000 to 2099"
WATTS: Final = "watts (250000, 250kW, 1.2MW); a share (70%) only where the peak is given"
FORMS: Final = "watts (250000, 250kW, 1.2MW) or a share of the peak (70%)"
MOST_W: Final = 1e12


def budgets_of(
    text: str, *, tree: PowerTree, start: datetime, peak_w: float | None = None
) -> tuple[Budget, ...]:
    """`250kW` or `70%` from `start` on, on the whole site; or the path of a schedule.

    A schedule is a CSV file `start_utc,limit_w[,end_utc[,domain]]`. Times carry a zone and are half-open. A
    row without an end is a budget: it holds until the next such row of its domain begins. One with an end is
    a target beside it: the lowest limit holds. `limit_w` may be written as above; without a domain, a row is
    of the whole site.

    Args:
        peak_w: what 100 % is, at the site's meter.

    Raises:
        BadInput: names what cannot be read, or a limit below base loads and overhead, which nobody can keep.
    """
    if _LIMIT.fullmatch(text.strip()):
        try:
            limit_w = limit_in_w(text, peak_w)
        except ValueError as error:
            raise BadInput(f"budget: {error}") from error
        budget = Budget(id="budget", domain=tree.root, limit_w=limit_w, start=start)
        too_low = _too_low(budget, tree)
        if too_low:
            raise BadInput(f"budget: {too_low}")
        return (budget,)
    path = Path(text)
    if not path.is_file():
        raise BadInput(f"budget: {ascii(text)[:120]} is neither {FORMS}, nor a file with a schedule")
    return _schedule(path, tree, peak_w)


def limit_in_w(text: str, peak_w: float | None) -> float:
    """`250000`, `250kW`, `1.2MW` or `70%` of `peak_w` -> watts above 0.

    Raises:
        ValueError: says what is wrong with the text.
    """
    found = _LIMIT.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{ascii(text)[:60]} is neither {FORMS}")
    figure = plain_number(found["figure"])
    factor = _FACTORS[found["factor"] or ""]
    if not 0 < figure * factor <= MOST_W:
        raise ValueError(f"{text} must be above 0 and at most {MOST_W:g} W")
    if not found["share"]:
        return figure * factor
    if figure > 100:
        raise ValueError(f"{text} is more than the whole peak")
    if peak_w is None:
        raise ValueError(f"{text} is a share of a peak that is not known; give the peak, or watts")
    return figure / 100.0 * peak_w


def _schedule(path: Path, tree: PowerTree, peak_w: float | None) -> tuple[Budget, ...]:
    table = CsvTable(path, required=("start_utc", "limit_w"))
    rows = _rows(table, tree.root, peak_w)
    if not rows:
        raise BadInput(f"{path} has no budget, only the header")
    for line, budget in zip(table.lines, rows, strict=True):
        for wrong in _mistakes(budget, tree):
            table.mistake(line, wrong)
    _check_begins(table, rows)
    table.check()
    return tuple(sorted(_until_replaced(rows), key=lambda budget: (budget.start, budget.domain, budget.id)))


def _rows(table: CsvTable, root: str, peak_w: float | None) -> list[Budget]:
    """A budget per row as it stands there. Raises BadInput for cells that cannot be read."""
    starts = table.column("start_utc", _instant, wanted=AN_INSTANT)
    limits_w = table.column(
        "limit_w",
        lambda text: limit_in_w(text, peak_w),
        wanted=WATTS if peak_w is None else FORMS,
    )
    ends = table.column("end_utc", _instant, wanted=AN_INSTANT, optional=True)
    table.check()  # behind it, no start and no limit is None
    cells = zip(
        table.lines,
        cast("list[datetime]", starts),
        cast("list[float]", limits_w),
        ends,
        table.texts("domain"),
        strict=True,
    )
    return [
        Budget(
            id=f"budget-{line}",
            domain=domain or root,
            limit_w=limit_w,
            start=start,
            end=end,
            source="operator" if end is None else "target",
        )
        for line, start, limit_w, end, domain in cells
    ]


def _instant(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    if when.tzinfo is None or not EARLIEST <= when < LATEST:
        raise ValueError(text)
    return when.astimezone(UTC)


def _mistakes(budget: Budget, tree: PowerTree) -> list[str]:
    """What is wrong with a row whose cells could be read."""
    if budget.domain not in tree.domains:
        return [f"column domain: there is no {ascii(budget.domain)[:60]}; the whole site is {tree.root}"]
    wrong = [_too_low(budget, tree)]
    if budget.end is not None and budget.end <= budget.start:
        wrong.append("column end_utc: the end is not after the start")
    return [what for what in wrong if what]


def _check_begins(table: CsvTable, rows: Iterable[Budget]) -> None:
    """Of two budgets that begin together and hold until replaced, neither would replace the other."""
    first_line: dict[tuple[str, datetime], int] = {}
    for line, budget in zip(table.lines, rows, strict=True):
        first = first_line.setdefault((budget.domain, budget.start), line) if budget.end is None else line
        if first != line:
            table.mistake(line, f"column start_utc: line {first} begins then too, and neither has an end")


def _too_low(budget: Budget, tree: PowerTree) -> str:
    need_w = quiet_w(tree, budget.domain)
    if budget.limit_w > need_w:
        return ""
    return (
        f"{budget.limit_w:g} W leaves {budget.domain} nothing for GPUs: base loads and overhead alone are"
        f" {need_w:g} W"
    )


def _until_replaced(rows: Iterable[Budget]) -> list[Budget]:
    """Budgets that hold until replaced get the start of the next one as their end."""
    budgets = list(rows)
    begins = sorted((row.domain, row.start) for row in budgets if row.end is None)
    next_begin = {one: following[1] for one, following in pairwise(begins) if one[0] == following[0]}
    return [
        row if row.end is not None else replace(row, end=next_begin.get((row.domain, row.start)))
        for row in budgets
    ]

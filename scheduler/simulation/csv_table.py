"""A CSV file read column by column; every cell that cannot be used is named by line and column."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from scheduler.simulation.model import BadInput

Value = TypeVar("Value")
NAMED_MISTAKES: Final = 10  # the rest is counted


class CsvTable:
    """A file with a header line; blank lines are skipped, columns that nobody asks for are not looked at.

    Mistakes in cells are collected, so that one `check` names them all.

    Raises:
        BadInput: the file cannot be read, is no CSV, or lacks a required column.
    """

    def __init__(self, path: Path, *, required: Sequence[str]) -> None:
        self.path = path
        header, self._rows = _header_and_rows(path)
        names = [name.strip() for name in header]
        self._column_of = {name: index for index, name in enumerate(names)}
        self._mistakes: list[tuple[int, str]] = []
        missing = [name for name in required if name not in self._column_of]
        if missing:
            raise BadInput(
                f"{path}, line 1: no column {', '.join(missing)}; the header must name at least"
                f" {','.join(required)}"
            )
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.mistake(1, f"two columns are named {ascii(name)[:60]}")
        for line, cells in self._rows:
            if len(cells) != len(header):
                self.mistake(line, f"{len(cells)} cells, the header has {len(header)}")
        self.check()

    @property
    def lines(self) -> list[int]:
        """The line in the file of each row."""
        return [line for line, _ in self._rows]

    def column(
        self, name: str, read: Callable[[str], Value], *, wanted: str, optional: bool = False
    ) -> list[Value | None]:
        """A value per row; None where `read` raised ValueError, which is then a mistake.

        `wanted` says what must be in the cell: "a number of seconds from 0". Of an optional column, missing
        and empty cells are None and no mistake.
        """
        values: list[Value | None] = []
        for line, text in zip(self.lines, self.texts(name), strict=True):
            value: Value | None = None
            if text or not optional:
                try:
                    value = read(text)
                except ValueError:
                    self.mistake(line, f"column {name}: {ascii(text)[:60]} cannot be used; wanted: {wanted}")
            values.append(value)
        return values

    def texts(self, name: str) -> list[str]:
        """The cells of a column; all empty where there is no such column."""
        index = self._column_of.get(name)
        return [cells[index].strip() if index is not None else "" for _, cells in self._rows]

    def mistake(self, line: int, what: str) -> None:
        """Remember what is wrong on a line."""
        self._mistakes.append((line, what))

    def check(self) -> None:
        """Raises BadInput with all mistakes so far, in order of lines."""
        if not self._mistakes:
            return
        count = len(self._mistakes)
        named = [
            f"{self.path}, line {line}, {what}" for line, what in sorted(self._mistakes)[:NAMED_MISTAKES]
        ]
        more = [f"and {count - len(named)} more"] if count > len(named) else []
        raise BadInput("\n".join([*named, *more]))


def _header_and_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text: byte {error.start} cannot be read") from error
    reader = csv.reader(io.StringIO(text))
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise BadInput(f"{path}, line {reader.line_num}: not CSV: {error}") from error
    if not rows:
        raise BadInput(f"{path} is empty; its first line must name the columns")
    return rows[0][1], rows[1:]

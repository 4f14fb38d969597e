"""A recorded series from a CSV file with the header `time_utc,value`: replay, or a tariff kept by hand."""

from __future__ import annotations

import csv
import io
import os
import stat
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from power.clock import Clock
from power.grid.feed import FeedAnswer, FeedError, Kind
from power.grid.validate import CARBON_BAND, PRICE_BAND, Band, Checked, check_points, whole_slots

MAX_FILE_BYTES = 64 * 1024 * 1024
HEADER = ("time_utc", "value")


class ReplayFeed:
    """Reads the file again only when it has changed. Times carry an offset or `Z`; slots start there."""

    def __init__(self, path: Path, kind: Kind, *, clock: Clock, band: Band | None = None) -> None:
        self.kind = kind
        self.name = f"csv:{path.name}"
        self._path = path
        self._clock = clock
        self._band = band or (PRICE_BAND if kind is Kind.PRICE else CARBON_BAND)
        self._seen: tuple[int, int] | None = None
        self._checked: Checked | None = None

    def fetch(self, start: datetime, end: datetime) -> FeedAnswer:
        """See `Feed.fetch`. Whole slots that touch the asked interval; `refused` is of the whole file."""
        checked = self._read()
        series = whole_slots(checked.series, start, end)
        if not series.slots:
            first, last = checked.series.slots[0].start, checked.series.slots[-1].end
            raise FeedError(
                f"{self.name} covers {first.isoformat()} .. {last.isoformat()}, "
                f"nothing of {start.isoformat()} .. {end.isoformat()}"
            )
        return FeedAnswer(
            kind=self.kind,
            series=series,
            source=self.name,
            fetched_at=self._clock.now(),
            attribution="",
            refused=checked.refused,
        )

    def _read(self) -> Checked:
        text, stamp = self._text()
        if self._checked is None or stamp != self._seen:
            self._checked, self._seen = self._parse(text), stamp
        return self._checked

    def _text(self) -> tuple[str, tuple[int, int]]:
        """The file's text and what identifies this version of it. A pipe or device is refused unread."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                about = os.fstat(file.fileno())
                if not stat.S_ISREG(about.st_mode):
                    raise FeedError(f"{self.name}: {self._path} is not a regular file")
                stamp = (about.st_mtime_ns, about.st_size)
                if stamp == self._seen:
                    return "", stamp
                raw = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise FeedError(f"{self.name}: cannot read {self._path}: {error.strerror}") from error
        if len(raw) > MAX_FILE_BYTES:
            raise FeedError(f"{self.name}: larger than {MAX_FILE_BYTES} bytes")
        try:
            return raw.decode("utf-8-sig"), stamp
        except UnicodeDecodeError as error:
            raise FeedError(f"{self.name}: not UTF-8 text") from error

    def _parse(self, text: str) -> Checked:
        try:
            rows = [row for row in csv.reader(io.StringIO(text)) if row]
        except csv.Error as error:
            raise FeedError(f"{self.name}: not CSV: {error}") from error
        if not rows or tuple(cell.strip() for cell in rows[0]) != HEADER:
            raise FeedError(f"{self.name}: the first line must be `{','.join(HEADER)}`")
        checked = check_points([_point(row) for row in rows[1:]], self._band)
        if not checked.series.slots:
            first = f"; the first: {checked.refused[0]}" if checked.refused else ""
            raise FeedError(f"{self.name}: no good point among {len(rows) - 1}{first}")
        return checked


def _point(row: list[str]) -> tuple[object, object]:
    """(start, value) with what cannot be read left as text, so that its refusal shows it."""
    if len(row) != len(HEADER):
        return ",".join(row), None
    start: object = row[0].strip()
    value: object = row[1].strip() or None
    with suppress(ValueError):
        start = datetime.fromisoformat(row[0].strip())
    with suppress(ValueError):
        value = _number(row[1])
    return start, value


def _number(text: str) -> float:
    """Plain decimal notation only: `float` alone also takes underscores and other scripts' digits.

    Raises ValueError.
    """
    plain = text.strip()
    if not plain.isascii() or "_" in plain:
        raise ValueError(plain)
    return float(plain)

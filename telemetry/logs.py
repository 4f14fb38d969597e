"""Logging for every process: one line per event, as JSON or for people, with secrets struck out.

Fields are passed with `extra={...}` and come out by name. Call `configure_logging` once per process.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

Format = Literal["console", "json"]

REDACTED = "[redacted]"
LONGEST_LINE = 16_384

_SECRET_FIELD = re.compile(r"(?i)(^|_)(token|secret|password|passwd|authorization|api_?key|credentials?)$")
_SECRET_TEXT = (
    # A scheme and what follows, as in an Authorization header.
    (re.compile(r"(?i)\b(bearer|basic)(\s+|%20)[A-Za-z0-9._~+/=-]{6,}"), r"\1 " + REDACTED),
    # A parameter of a URL, a JSON member, or `name=value` in prose.
    (
        re.compile(
            r"(?i)\b((?:[a-z]+[-_]?)?(?:token|secret|password|passwd|api[-_]?key))"
            r"([\"']?\s*[=:]\s*[\"']?)(?!\[redacted\])[^\s\"'&,;}]{4,}"
        ),
        r"\1\2" + REDACTED,
    ),
    # User and password inside a URL, such as the database's.
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@\"']+@"), r"\1" + REDACTED + "@"),
    # A token of our own, wherever it turns up: `token_<public id>.<secret>`.
    (re.compile(r"\b(token_[0-9A-Za-z]{20,}\.)[A-Za-z0-9_-]{16,}"), r"\1" + REDACTED),
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def configure_logging(
    level: str | None = None, format: Format | None = None, stream: TextIO | None = None
) -> None:
    """Send every logger of this process to `stream` (stderr), replacing what was set up before.

    Defaults come from `WATTMILL_LOG_LEVEL` (info) and `WATTMILL_LOG_FORMAT` (console).

    Raises:
        ValueError: an unknown level or format.
    """
    chosen = (level or os.environ.get("WATTMILL_LOG_LEVEL") or "info").upper()
    shape = format or os.environ.get("WATTMILL_LOG_FORMAT") or "console"
    if chosen not in logging.getLevelNamesMapping():
        raise ValueError(f"unknown log level {chosen.lower()!r}")
    if shape not in ("console", "json"):
        raise ValueError(f"unknown log format {shape!r}; known: console, json")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if shape == "json" else ConsoleFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(chosen)
    # These tell each request or job at INFO, with its URL; ours say the same in our words.
    for noisy in ("httpx", "httpcore", "apscheduler", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def redact(text: str) -> str:
    """The text without bearer tokens, passwords and keys."""
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `at`, `level`, `logger`, `message`, the fields, and `exception` if any."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": _stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": redact(record.getMessage()),
        }
        for name, value in _fields(record).items():
            line[name if name not in line else f"{name}_"] = value
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))[-LONGEST_LINE:]
        return json.dumps(line, ensure_ascii=False, allow_nan=False)


class ConsoleFormatter(logging.Formatter):
    """`12:00:00.123 INFO    feeds  series fetched  kind=price slots=48`."""

    def format(self, record: logging.LogRecord) -> str:
        words = [f"{name}={_word(value)}" for name, value in _fields(record).items()]
        message = _one_line(redact(record.getMessage()))
        logger = record.name.removeprefix("wattmill.")
        head = f"{_stamp(record)[11:23]} {record.levelname:<7} {logger}  {message}"
        line = "  ".join([head, " ".join(words)]) if words else head
        if record.exc_info:
            line += "\n" + redact(self.formatException(record.exc_info))[-LONGEST_LINE:]
        return line


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: _plain(name, value) for name, value in vars(record).items() if name not in _STANDARD}


def _plain(name: str, value: object, depth: int = 0) -> Any:
    """A value that JSON can carry, without secrets."""
    if _SECRET_FIELD.search(name) and value is not None:
        return REDACTED
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping) and depth < 3:
        return {str(key): _plain(str(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < 3:
        return [_plain("", item, depth + 1) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return redact(str(value))[:LONGEST_LINE]


def _word(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = _one_line(text)
    return text if text and not re.search(r"[\s=\"]", text) else json.dumps(text, ensure_ascii=False)


def _one_line(text: str) -> str:
    """Control characters written out, so that no text from outside can forge a line or move the cursor."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda match: f"\\x{ord(match[0]):02x}", text)


def _stamp(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )

"""Log lines: readable, one per event, and no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from telemetry.logs import Format, configure_logging, redact

CANARY = "token_01JABCDEFGHJKMNPQRSTVWXYZ0.kZ3n9Qm0vXw7T_canary-Bq8Lr2Yh5Ue1Sd4"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave the root logger as it was: it belongs to the whole test run."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("httpx", "httpcore", "apscheduler", "alembic")}
    yield
    root.handlers[:], root.level = handlers, level
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def logged(message: str, *args: object, shape: Format = "json", level: str = "info", **extra: Any) -> str:
    stream = io.StringIO()
    configure_logging(level=level, format=shape, stream=stream)
    logging.getLogger("wattmill.test").info(message, *args, extra=extra)
    return stream.getvalue()


def test_json_has_one_object_per_line_with_fields() -> None:
    line = json.loads(logged("series %s", "fetched", kind="price", slots=48, age_s=1.5, ok=True, none=None))
    assert line["message"] == "series fetched"
    assert (line["level"], line["logger"]) == ("info", "wattmill.test")
    assert (line["kind"], line["slots"], line["age_s"], line["ok"], line["none"]) == (
        "price",
        48,
        1.5,
        True,
        None,
    )
    assert datetime.fromisoformat(line["at"]).tzinfo is not None


def test_json_survives_values_that_json_lacks() -> None:
    line = json.loads(
        logged(
            "odd",
            nan=float("nan"),
            when=datetime(2026, 1, 15, tzinfo=UTC),
            some={1},
            thing=object(),
            raw=b"x",
        )
    )
    assert line["nan"] == "nan"
    assert line["when"] == "2026-01-15T00:00:00+00:00"
    assert line["some"] == [1]


def test_a_field_cannot_replace_the_lines_own() -> None:
    line = json.loads(logged("real", level_="x", logger="forged"))
    assert (line["logger"], line["logger_"]) == ("wattmill.test", "forged")


def test_console_is_readable() -> None:
    line = logged("series fetched", shape="console", kind="price", source="a b", slots=48)
    assert line.endswith('INFO    test  series fetched  kind=price source="a b" slots=48\n')


@pytest.mark.parametrize("shape", ["console", "json"])
def test_no_text_from_outside_forges_a_line(shape: Format) -> None:
    text = logged("from outside: %s", "a\n00:00:00.000 ERROR forged\x1b[2J", shape=shape, field="x\r\ny")
    assert text.count("\n") == 1
    assert "\x1b" not in text


@pytest.mark.parametrize("shape", ["console", "json"])
def test_no_secret_gets_into_a_line(shape: Format) -> None:
    ways: list[tuple[str, tuple[object, ...], dict[str, Any]]] = [
        (f"Authorization: Bearer {CANARY}", (), {}),
        ("header %s", (f"bearer {CANARY}",), {}),
        ("made %s", (CANARY,), {}),
        ("asked %s", (f"https://x.example/api?securityToken={CANARY}&a=1",), {}),
        ("plain", (), {"token": CANARY}),
        ("plain", (), {"authorization": f"Bearer {CANARY}"}),
        ("plain", (), {"headers": {"Authorization": f"Bearer {CANARY}", "inner": {"api_key": CANARY}}}),
        ("plain", (), {"argv": ["curl", "-H", f"Authorization: Bearer {CANARY}"]}),
        ("plain", (), {"body": json.dumps({"password": CANARY})}),
    ]
    for message, args, extra in ways:
        text = logged(message, *args, shape=shape, **extra)
        assert "canary" not in text
        assert "[redacted]" in text


@pytest.mark.parametrize("shape", ["console", "json"])
def test_no_secret_gets_into_a_traceback(shape: Format) -> None:
    stream = io.StringIO()
    configure_logging(format=shape, stream=stream)
    try:
        raise ValueError(f"bad header: Bearer {CANARY}")
    except ValueError:
        logging.getLogger("wattmill.test").exception("failed")
    assert "canary" not in stream.getvalue()
    assert "ValueError: bad header" in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:hunter2@db/x", "postgresql://[redacted]@db/x"),
        ("password=hunter2 next", "password=[redacted] next"),
        ('{"api_key": "abcdef"}', '{"api_key": "[redacted]"}'),
        ("Basic dXNlcjpwYXNz", "Basic [redacted]"),
        ("1200 tokens/s at token 5", "1200 tokens/s at token 5"),
        ("job_01JABC at https://x.example/y", "job_01JABC at https://x.example/y"),
    ],
)
def test_what_is_struck_out(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_levels_and_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    assert logged("quiet", level="warning") == ""
    with pytest.raises(ValueError, match="log level"):
        configure_logging(level="loud")
    monkeypatch.setenv("WATTMILL_LOG_FORMAT", "xml")
    with pytest.raises(ValueError, match="log format"):
        configure_logging()
    monkeypatch.setenv("WATTMILL_LOG_FORMAT", "json")
    monkeypatch.setenv("WATTMILL_LOG_LEVEL", "debug")
    stream = io.StringIO()
    configure_logging(stream=stream)
    logging.getLogger("wattmill.test").debug("seen")
    assert json.loads(stream.getvalue())["message"] == "seen"


def test_configuring_twice_logs_once() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    configure_logging(stream=stream)
    logging.getLogger("wattmill.test").info("once")
    assert stream.getvalue().count("once") == 1

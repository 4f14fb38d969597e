"""The types of what people send. Strict: a bool is no number, "12" is no number, NaN is nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

MAX_INT = 2**53 - 1  # the largest integer that every JSON reader keeps exact
FIRST_YEAR, LAST_YEAR = 2000, 2199


class Body(BaseModel):
    """What comes in: unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class View(BaseModel):
    """What goes out."""

    model_config = ConfigDict(frozen=True)


def _storable(text: str) -> str:
    """No NUL and no half characters: neither a database nor a process can carry them."""
    if "\0" in text:
        raise ValueError("must not contain NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode") from None
    return text


def _instant(value: Any) -> datetime:
    if isinstance(value, datetime):
        parsed = value
    elif isinstance(value, str) and len(value) <= 40 and "T" in value.upper():
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("must be a time such as 2026-01-31T12:00:00Z") from None
    else:
        raise ValueError("must be a time such as 2026-01-31T12:00:00Z")
    if parsed.tzinfo is None:
        raise ValueError("must carry a time zone, such as Z or +01:00")
    if not FIRST_YEAR <= parsed.year <= LAST_YEAR:
        raise ValueError(f"must be in the years {FIRST_YEAR} to {LAST_YEAR}")
    return parsed.astimezone(UTC)


def _show_instant(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


Int = Annotated[int, Field(strict=True, ge=-MAX_INT, le=MAX_INT)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e15, le=1e15)]
Bool = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True), AfterValidator(_storable)]
Name = Annotated[str, Field(strict=True, min_length=1, max_length=200), AfterValidator(_storable)]
Label = Annotated[str, Field(strict=True, max_length=1000), AfterValidator(_storable)]
Watts = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=1e12, description="watts")]
Seconds = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=1e10, description="seconds")]
Instant = Annotated[
    datetime,
    BeforeValidator(_instant, json_schema_input_type=str),
    PlainSerializer(_show_instant, return_type=str, when_used="json"),
    Field(description="RFC 3339 with a time zone", examples=["2026-01-31T12:00:00Z"]),
]
PageLimit = Annotated[int, Field(ge=1, le=500, description="items per page")]

"""JSON in text columns, and job specifications as JSON. What cannot be ours is refused, never guessed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

from scheduler.model import Contract, Flex, JobSpec
from scheduler.store.errors import CorruptRow

E = TypeVar("E", bound=StrEnum)

_SPEC_TIMES = ("begin_at",)
_CONTRACT_TIMES = ("deadline",)
_SPEC_FLOATS = ("estimate_s", "checkpoint_grace_s")
_CONTRACT_FLOATS = ("max_pause_s", "price_ceiling_per_mwh")


def encode(value: object) -> str:
    """Canonical JSON: equal values give equal text. Raises ValueError for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError(f"cannot store {type(value).__name__} as JSON")


def decode(text: str | None, table: str, key: object, column: str, kind: type) -> Any:
    """The value of a JSON column, proven to be of `kind` (dict or list).

    Raises:
        CorruptRow: missing, not JSON, or JSON of another kind.
    """
    if not text:
        raise CorruptRow(table, str(key), column, "is missing")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CorruptRow(table, str(key), column, f"is not JSON ({error})") from error
    if not isinstance(value, kind):
        raise CorruptRow(table, str(key), column, f"must be a {kind.__name__}, found {type(value).__name__}")
    return value


def as_enum(kind: type[E], value: str | None, table: str, key: object, column: str) -> E:
    """A member of `kind`. Raises CorruptRow."""
    try:
        return kind(value)  # type: ignore[arg-type]
    except ValueError as error:
        raise CorruptRow(table, str(key), column, f"{value!r} is not one of {[*kind]}") from error


def encode_spec(spec: JobSpec) -> str:
    values = asdict(spec)
    _normalise(values, _SPEC_TIMES, _SPEC_FLOATS)
    _normalise(values["contract"], _CONTRACT_TIMES, _CONTRACT_FLOATS)
    return encode(values)


def _normalise(values: dict[str, Any], times: Iterable[str], floats: Iterable[str]) -> None:
    """Equal specifications must give equal text: 60 is 60.0, and 12:00+02:00 is 10:00Z."""
    for name in times:
        if values[name] is not None:
            values[name] = values[name].astimezone(UTC).isoformat()
    for name in floats:
        if values[name] is not None:
            values[name] = float(values[name])


@lru_cache(maxsize=16_384)
def decode_spec(text: str | None, job_id: str) -> JobSpec:
    """Raises CorruptRow: the column is damaged, or holds a job that could never have been built.

    The loop reads every waiting job each second, and specifications hardly ever change: hence the cache.
    """
    values = decode(text, "jobs", job_id, "spec", dict)
    try:
        contract = values.pop("contract")
        _check_names(values, JobSpec)
        _check_names(contract, Contract)
        return JobSpec(
            **{
                **_with_times(values, _SPEC_TIMES),
                "argv": tuple(values["argv"]),
                "depends_on": tuple(values.get("depends_on", ())),
                "contract": Contract(
                    **{**_with_times(contract, _CONTRACT_TIMES), "flex": Flex(contract["flex"])}
                ),
            }
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptRow("jobs", job_id, "spec", f"is not a job ({error})") from error


def _check_names(values: Mapping[str, Any], kind: type) -> None:
    unknown = set(values) - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"unknown fields {sorted(unknown)}")


def _with_times(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    times = {n: datetime.fromisoformat(values[n]) for n in names if values.get(n) is not None}
    return {**values, **times}


def digest(texts: Iterable[str]) -> str:
    """SHA-256 over a list of texts; the lengths are part of it, so that no two lists look alike."""
    total = hashlib.sha256()
    for text in texts:
        data = text.encode()
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()

"""The wire between a controller and capd: one JSON object per line, integers and UUIDs only.

| verb  | fields                     | answer, besides `ok`                                              |
|-------|----------------------------|-------------------------------------------------------------------|
| hello |                            | version, pid, epoch, lease_ms, left_ms, fail_safe, uuids          |
| take  |                            | epoch: a new one, live from now; all earlier ones are refused     |
| renew | epoch                      | left_ms                                                           |
| set   | epoch, uuid, cap_milliwatt | asked, before, read_back (milliwatts or null), latency_us         |
| read  |                            | gpus: uuid -> cap (or null), min, max, in milliwatts, error       |
| quit  |                            | capd ends; the limits stay as they are                            |

A refusal is `{"ok": false, "error": <Code>, "detail": <text>}`. Answers come in the order of the requests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

VERSION = 1
MAX_LINE_BYTES = 4096
MAX_INTEGER = 10**12
MAX_UUID_CHARS = 96

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "hello": (),
    "take": (),
    "renew": ("epoch",),
    "set": ("epoch", "uuid", "cap_milliwatt"),
    "read": (),
    "quit": (),
}


class Code(StrEnum):
    """Why a request was refused: the closed list."""

    MALFORMED = "malformed"
    FORBIDDEN = "forbidden"  # the peer is not a user that may ask
    CROWDED = "crowded"  # too many connections
    STALE_EPOCH = "stale_epoch"
    NOT_ALLOWED = "not_allowed"  # a GPU that capd was not told to guard
    NOT_PERMITTED = "not_permitted"
    NOT_SUPPORTED = "not_supported"
    GPU_LOST = "gpu_lost"
    TIMEOUT = "timeout"  # no answer in time; the limit is unknown
    BUSY = "busy"  # an earlier call to this GPU still hangs
    JOURNAL = "journal"  # nothing is raised that cannot be written down
    DEVICE = "device"


class Refused(Exception):
    """A request that is answered with an error line."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Request:
    """A well-formed request; fields that its verb does not have keep their defaults."""

    verb: str
    epoch: int = -1
    uuid: str = ""
    cap_milliwatt: int = -1


def parse(line: bytes) -> Request:
    """Read one request line. Raises Refused with MALFORMED, naming the mistake."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Refused(Code.MALFORMED, "not a JSON object on one line") from error
    if not isinstance(message, dict):
        raise Refused(Code.MALFORMED, "not a JSON object on one line")
    verb = message.pop("verb", None)
    if not isinstance(verb, str) or verb not in _FIELDS:
        raise Refused(Code.MALFORMED, f"verb must be one of {', '.join(_FIELDS)}")
    if set(message) != set(_FIELDS[verb]):
        raise Refused(
            Code.MALFORMED, f"{verb} takes exactly these fields: {', '.join(_FIELDS[verb]) or 'none'}"
        )
    for name, value in message.items():
        _check(name, value)
    return Request(verb, **message)


def _check(name: str, value: object) -> None:
    if name == "uuid":
        if not isinstance(value, str) or not 0 < len(value) <= MAX_UUID_CHARS:
            raise Refused(Code.MALFORMED, f"uuid must be 1 to {MAX_UUID_CHARS} characters")
    elif type(value) is not int or not 0 <= value <= MAX_INTEGER:  # True is an int to isinstance
        raise Refused(Code.MALFORMED, f"{name} must be an integer from 0 to {MAX_INTEGER}")


def encode(message: Mapping[str, object]) -> bytes:
    return json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def refusal(error: Refused) -> dict[str, object]:
    return {"ok": False, "error": str(error.code), "detail": error.detail}

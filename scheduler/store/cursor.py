"""Keyset cursors: opaque to the caller, checked when they come back."""

from __future__ import annotations

import base64
import binascii
import zlib

from scheduler.store.errors import InvalidCursor

_MAX_ROW = 2**63 - 1


def make_cursor(listing: str, row: int) -> str:
    """A cursor that stands after row number `row` of the list named `listing`."""
    body = f"{listing}:{row}"
    return base64.urlsafe_b64encode(f"{body}:{zlib.crc32(body.encode()):08x}".encode()).decode().rstrip("=")


def read_cursor(listing: str, cursor: str) -> int:
    """The row number. Raises InvalidCursor for anything `make_cursor` did not make for this list."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode(
            "ascii"
        )
        name, row, _check = text.split(":")
        number = int(row)
    except (binascii.Error, ValueError) as error:
        raise InvalidCursor(cursor) from error
    if name != listing or not 0 <= number <= _MAX_ROW or make_cursor(listing, number) != cursor.rstrip("="):
        raise InvalidCursor(cursor)
    return number

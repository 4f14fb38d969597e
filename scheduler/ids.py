"""Identifiers: a word that says what it names, and a ULID that sorts by the time it was made."""

from __future__ import annotations

from ulid import ULID


def new_id(prefix: str) -> str:
    """A fresh id such as `job_01J9ZC2V6M8Q0T4W7X1Y3A5B6D`; `prefix` is job, run, budget, token, ..."""
    return f"{prefix}_{ULID()}"


def is_id(prefix: str, text: str) -> bool:
    """Whether `text` has the form of an id of this kind."""
    head, _, tail = text.partition("_")
    if head != prefix or len(tail) != 26:
        return False
    try:
        ULID.from_str(tail)
    except ValueError:
        return False
    return True

"""A number as people write it in a table or an option."""

from __future__ import annotations

import math
import re

_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def plain_number(text: str) -> float:
    """A finite number in decimal notation.

    `float` alone also takes underscores, other scripts' digits and NaN.

    Raises:
        ValueError: it is none; the message is the text.
    """
    plain = text.strip()
    if not _PLAIN.fullmatch(plain):
        raise ValueError(plain)
    number = float(plain)
    if not math.isfinite(number):
        raise ValueError(plain)
    return number

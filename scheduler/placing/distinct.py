"""Which rows of some columns are alike: one sort of a mixed word per row instead of one per column."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from power.arrays import Ints

_MIX = np.uint64(0x9E3779B97F4A7C15)  # an odd constant: multiplying by it loses nothing


def distinct(*columns: NDArray[np.generic]) -> tuple[Ints, Ints]:
    """(first row of each distinct combination, which combination each row is). NaN equals NaN."""
    words = [_words(column) for column in columns]
    mixed = np.zeros(len(words[0]), dtype=np.uint64)
    for word in words:
        mixed = (mixed ^ word) * _MIX
        mixed ^= mixed >> np.uint64(29)
    _, first, code = np.unique(mixed, return_index=True, return_inverse=True)
    if all((word[first][code] == word).all() for word in words):
        return first, code
    code = np.zeros(len(mixed), dtype=np.int64)  # two combinations share a mixed word: sort column by column
    for word in words:
        _, own = np.unique(word, return_inverse=True)
        _, first, code = np.unique(code * len(own) + own, return_index=True, return_inverse=True)
    return first, code


def _words(column: NDArray[np.generic]) -> NDArray[np.uint64]:
    if column.dtype.kind == "f":
        exact = np.asarray(column, dtype=np.float64) + 0.0  # minus zero becomes zero
        return np.where(np.isnan(exact), np.nan, exact).view(np.uint64)
    return np.asarray(column, dtype=np.int64).view(np.uint64)

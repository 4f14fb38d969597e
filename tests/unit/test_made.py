"""Sequences whose items are made when somebody asks."""

from __future__ import annotations

import pytest

from scheduler.made import Made


def test_an_item_is_made_when_asked_for() -> None:
    asked: list[int] = []

    def square(at: int) -> int:
        asked.append(at)
        return at * at

    squares = Made(4, square)
    assert len(squares) == 4
    assert asked == []
    assert (squares[-1], squares[1:3], list(squares)) == (9, (1, 4), [0, 1, 4, 9])
    assert asked == [3, 1, 2, 0, 1, 2, 3]


def test_there_is_nothing_beyond_its_end() -> None:
    with pytest.raises(IndexError):
        Made(2, str)[2]

"""Several sequences read as one."""

from __future__ import annotations

import pytest

from scheduler.joined import Joined


def test_reads_as_the_sum_of_its_parts() -> None:
    joined = Joined([1, 2], (), (3,))
    assert (len(joined), list(joined), joined[2], joined[-3], joined[1:]) == (3, [1, 2, 3], 3, 1, (2, 3))
    assert joined.parts == ([1, 2], (3,))
    with pytest.raises(IndexError):
        joined[3]


def test_a_single_part_stays_what_it_is() -> None:
    part = [1, 2]
    assert Joined.of((), part) is part
    assert list(Joined.of((), ())) == []

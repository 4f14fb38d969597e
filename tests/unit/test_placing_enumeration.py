"""Combinations of alternatives within a budget: all that have a point, the best among them."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.placing.exact_enumeration import PRUNE_FROM, Alternatives, Effort, Enumeration


def effort(budget: float = 100.0) -> Effort:
    return Effort(budget=budget, most_states=100_000, or_none=False, until_s=time.perf_counter() + 30.0)


def blocks(count: int, *, use: float, loss: float) -> list[Alternatives]:
    """Each may do nothing, or this."""
    return [Alternatives(loss=np.array([0.0, loss]), use=np.array([[0.0], [use]])) for _ in range(count)]


def test_where_no_limit_can_bind_the_best_combination_is_found() -> None:
    many = blocks(10, use=1.0, loss=-0.1)
    assert 2 ** len(many) > PRUNE_FROM
    picks, losses = Enumeration(np.zeros(1), np.array([1000.0]), many, effort()).run(np.zeros(1), 0.0)
    assert losses[0] == pytest.approx(-1.0)
    assert picks[0].tolist() == [1] * 10


@given(
    gains=st.lists(st.integers(-3, 5), min_size=8, max_size=9),
    limit=st.integers(0, 9),
    price=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_the_best_is_always_among_them(gains: list[int], limit: int, price: float) -> None:
    many = [Alternatives(loss=np.array([0.0, float(-g)]), use=np.array([[0.0], [1.0]])) for g in gains]
    found = Enumeration(np.array([price]), np.array([float(limit)]), many, effort())
    _, losses = found.run(np.zeros(1), 0.0)
    best = min(
        price * (limit - sum(taken)) - sum(g for g, one in zip(gains, taken, strict=True) if one)
        for taken in itertools.product((0, 1), repeat=len(gains))
        if sum(taken) <= limit
    )
    assert losses[0] == pytest.approx(best)

"""The throughput LP, and its rounds: whose turn it is, who is stopped for it, and on which kind of GPU."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from scheduler.decision import Decision
from scheduler.model import Job
from scheduler.policy.named import open_policy
from scheduler.policy.policy import Policy
from scheduler.policy.throughput_lp import shares
from scheduler.snapshot import JobView, Snapshot
from tests.builders import NOW, gpus, job, running, snapshot

FAST, SLOW = "Tesla V100", "Tesla K80"


def at(minutes: float, *jobs: Job | JobView, fast: int = 2, slow: int = 0, **more: Any) -> Snapshot:
    """A node of fast boards and one of slow ones, `minutes` after NOW."""
    hardware = (*gpus(fast, model=FAST), *gpus(slow, first=fast, model=SLOW))
    return snapshot(hardware, *jobs, now=NOW + timedelta(minutes=minutes), **more)


def place(policy: Policy, world: Snapshot) -> Decision:
    return policy.place(world, time_limit_s=1.0)


def moves(decision: Decision) -> tuple[list[str], list[str]]:
    """(who starts, who is stopped)."""
    return [start.job_id for start in decision.starts], [preempt.job_id for preempt in decision.preempts]


# --- rounds on one kind of GPU ------------------------------------------------------------------------------


def test_turns_are_taken_by_who_had_least() -> None:
    """Two GPUs, three jobs: at each border the one that waited comes in for one that had most."""
    policy = open_policy("max_throughput:round_s=600")
    a, b, c = job("a", minutes_ago=3), job("b", minutes_ago=2), job("c", minutes_ago=1)
    assert moves(place(policy, at(0, a, b, c))) == (["a", "b"], [])
    runs_a, runs_b = running(a, 0, minutes_ago=0), running(b, 1, minutes_ago=0)
    assert moves(place(policy, at(5, runs_a, runs_b, c))) == ([], [])  # within the round
    assert moves(place(policy, at(10, runs_a, runs_b, c))) == ([], ["b"])  # a is as far, and older
    runs_c = running(c, 1, minutes_ago=-10)
    assert moves(place(policy, at(10.5, runs_a, b, c))) == (["c"], [])
    assert moves(place(policy, at(20, runs_a, b, runs_c))) == ([], ["a"])  # had 20 minutes, c ten


def test_what_comes_free_within_a_round_goes_to_newcomers_once_the_chosen_run() -> None:
    policy = open_policy("max_throughput:round_s=600")
    a, b = job("a", minutes_ago=3), job("b", minutes_ago=2)
    place(policy, at(0, a, b))
    new = job("new")
    assert moves(place(policy, at(3, running(a, 0, minutes_ago=0), new))) == (["new"], [])


def test_freed_gpus_go_to_nobody_else_while_one_that_was_chosen_waits_for_more() -> None:
    policy = open_policy("max_throughput:round_s=600")
    a, wide = job("a", minutes_ago=30), job("wide", gpus=2, minutes_ago=20)
    place(policy, at(0, a))
    runs_a = running(a, 0, minutes_ago=0)
    assert moves(place(policy, at(10, runs_a, wide))) == ([], ["a"])
    assert moves(place(policy, at(10.5, runs_a, wide, job("new")))) == ([], [])


def test_a_higher_class_goes_first_and_young_or_unstoppable_runs_stay() -> None:
    low = running(job("low", gpus=2, priority="low"), 0, 1)
    high = job("high", gpus=2, priority="high")
    assert moves(place(open_policy("max_throughput"), at(0, low, high))) == ([], ["low"])
    young = running(job("low", gpus=2, priority="low"), 0, 1, minutes_ago=0.5)
    assert moves(place(open_policy("max_throughput"), at(0, young, high))) == ([], [])
    fixed = running(job("low", gpus=2, priority="low", requeue=False), 0, 1)
    assert moves(place(open_policy("max_throughput"), at(0, fixed, high))) == ([], [])


def test_nobody_is_stopped_where_nobody_waits_or_there_is_room() -> None:
    a, b = running(job("a"), 0), job("b")
    assert moves(place(open_policy("max_throughput"), at(0, a))) == ([], [])
    assert moves(place(open_policy("max_throughput"), at(0, a, b))) == (["b"], [])


# --- the LP -------------------------------------------------------------------------------------------------


def row(*figures: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(figures, dtype=np.float64)


@pytest.mark.parametrize(
    ("speed", "count", "there", "fractions"),
    [
        # One job gains fourfold on the fast board, the other nothing: each goes where that is best.
        ([[4.0, 1.0], [1.0, 1.0]], [1, 1], [1, 1], [[1, 0], [0, 1]]),
        # Who does not suit a kind gets nothing there, however free it is.
        ([[2.0, -1.0]], [4], [1, 9], [[0.25, 0]]),
        # Two that are alike share one board.
        ([[1.0, -1.0], [-1.0, 1.0]], [2, 1], [1, 1], [[0.5, 0], [0, 1]]),
    ],
)
def test_the_sum_of_speeds_is_greatest(
    speed: list[list[float]], count: list[int], there: list[int], fractions: list[list[float]]
) -> None:
    found = shares(np.array(speed), np.ones(len(count)), row(*count), row(*there), fair=False)
    assert found == pytest.approx(np.array(fractions, dtype=float), abs=1e-6)


def test_the_sum_starves_who_is_slow_and_fairness_does_not() -> None:
    """One board; a class that is three times as fast takes it all, or half of the time."""
    speed, count, there = np.array([[3.0], [1.0]]), row(1, 1), row(1)
    assert shares(speed, row(1, 1), count, there, fair=False) == pytest.approx(np.array([[1.0], [0.0]]))
    fair = shares(speed, row(1, 1), count, there, fair=True)
    assert fair == pytest.approx(np.array([[0.5], [0.5]]), abs=1e-6)


def test_fairness_counts_gpu_time_and_leaves_nothing_over() -> None:
    """Four boards: a job of four gets no less GPU time than a job of one, and no board idles."""
    found = shares(np.array([[1.0], [1.0]]), row(4, 1), row(1, 1), row(4), fair=True)
    assert 4 * found[0, 0] + found[1, 0] == pytest.approx(4.0)
    assert 4 * found[0, 0] >= found[1, 0] - 1e-6


def test_a_job_runs_where_its_speed_says_and_is_moved_there() -> None:
    speeds = {("big", FAST): 10.0, ("big", SLOW): 1.0, ("small", FAST): 1.5, ("small", SLOW): 1.0}
    big, small = job("big", workload="big"), job("small", workload="small", minutes_ago=9)
    policy = open_policy("max_throughput", speeds=speeds)
    starts = place(policy, at(0, big, small, fast=1, slow=1)).starts
    assert {start.job_id: start.gpu_uuids for start in starts} == {"big": ("gpu-0",), "small": ("gpu-1",)}
    late = open_policy("max_throughput", speeds=speeds)
    taken = at(0, running(small, 0), big, fast=1, slow=1)
    assert moves(place(late, taken)) == (
        [],
        ["small"],
    )  # to the slow board; nobody else may have it meanwhile

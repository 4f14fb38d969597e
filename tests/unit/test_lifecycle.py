"""The table of moves is complete: what it has works, what it has not raises."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest

from scheduler.lifecycle import TRANSITIONS, InvalidTransition, move
from scheduler.model import JobState
from tests.builders import NOW, job

EVERY_PAIR = list(product(JobState, JobState))


@pytest.mark.parametrize(("start", "to"), [p for p in EVERY_PAIR if p in TRANSITIONS])
def test_moves_of_the_table(start: JobState, to: JobState) -> None:
    moved = move(job(state=start), to, NOW)
    assert (moved.state, moved.state_since) == (to, NOW)
    assert (moved.ended_at is not None) is to.terminal


@pytest.mark.parametrize(("start", "to"), [p for p in EVERY_PAIR if p not in TRANSITIONS])
def test_every_other_move_raises_with_the_jobs_story(start: JobState, to: JobState) -> None:
    with pytest.raises(InvalidTransition, match=f"job_a cannot go from {start} .* to {to}"):
        move(job(state=start), to, NOW)


def test_terminal_states_are_final_and_every_live_state_can_end() -> None:
    leaves = {start for start, _ in TRANSITIONS}
    assert not any(state.terminal for state in leaves)
    for state in JobState:
        if state.live and state is not JobState.STOPPING:
            assert (state, JobState.STOPPING) in TRANSITIONS


def test_leaving_a_pause_adds_it_up() -> None:
    paused = job(state=JobState.PAUSED, paused_s=30.0, minutes_ago=0)
    assert move(paused, JobState.RUNNING, NOW + timedelta(seconds=12)).paused_s == 42.0

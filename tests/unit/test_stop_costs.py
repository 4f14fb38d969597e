"""Runs drawn second by second, and what each of them teaches of stops and starts.

.  launched, not running yet      r  RUNNING               p  RUNNING, and it has reported a step
s  RUNNING, saved by itself       a  RUNNING, answered a request for a checkpoint in 4 s
!  asked to stop                  A  asked to stop, and it has answered with a checkpoint
f  frozen                         t  PAUSED, and thawed to be stopped
x  gone by itself, exit code 0    X  gone, exit code 85    L  lost
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.engines.engine import Progress, RunPhase, RunStatus
from scheduler.ledger import Ledger
from scheduler.model import Job, JobState
from scheduler.stop_costs import NOTHING_KNOWN, RunWatch, StopCost, StopCostBook, cost_key
from scheduler.stop_meter import grid_time, work_since
from tests.builders import NOW, job, running

S = JobState
ANSWER_S = 4.0
STATES = {".": S.STARTING, "!": S.STOPPING, "A": S.STOPPING, "f": S.PAUSED, "t": S.PAUSED}
ENDS = {"x": (RunPhase.EXITED, 0), "X": (RunPhase.EXITED, 85), "L": (RunPhase.LOST, None)}


@dataclass(frozen=True)
class Followed:
    cost: StopCost
    lost_work_s: float


def follow(
    drawing: str, *, known: StopCost = NOTHING_KNOWN, inherited: bool = False, rate: float = 1.0
) -> Followed:
    """One character is one real second; work is done in every second in which the job is RUNNING."""
    status = RunStatus(run_id="run_job_a", phase=RunPhase.STARTING)
    watch = RunWatch(key=("gpt", ""), launched_at=None if inherited else NOW, saved_work_s=1000.0)
    cost, work_s, of_job = known, 1000.0, job("job_a")
    for second, sign in enumerate(drawing):
        now = NOW + timedelta(seconds=second * rate)
        if sign in ENDS:
            phase, exit_code = ENDS[sign]
            cost = watch.end(replace(status, phase=phase, exit_code=exit_code), now, cost=cost, rate=rate)
            break
        of_job, status = _job(of_job, sign, now), _status(status, sign, second)
        work_s += rate if of_job.state is S.RUNNING else 0.0
        watch, cost = watch.look(of_job, status, now, work_s=work_s, cost=cost, rate=rate)
    return Followed(cost, work_s - watch.saved_work_s)


def _job(before: Job, sign: str, now: datetime) -> Job:
    state = STATES.get(sign, S.RUNNING)
    since = before.state_since if state is before.state else now
    return running(before, state=state).but(state_since=since)


def _status(before: RunStatus, sign: str, second: int) -> RunStatus:
    phase = {".": RunPhase.STARTING, "f": RunPhase.FROZEN}.get(sign, RunPhase.RUNNING)
    after = replace(before, phase=phase)
    if sign == "p":
        after = replace(
            after, progress=Progress(at=NOW, step=1, total_steps=9, samples=1, samples_per_s=None)
        )
    if sign in "saA":
        after = replace(after, checkpoint_path="/c/1", checkpoint_at=NOW + timedelta(seconds=second))
    if sign in "aA":
        after = replace(after, answered_request=before.answered_request + 1, answer_s=ANSWER_S)
    return after


@pytest.mark.parametrize(
    ("drawing", "checkpoint_s", "restart_s", "saves"),
    [
        ("..rr", None, None, False),
        ("..rrp", None, 4.0, False),  # from the launch to the first step
        ("..rrppp", None, 4.0, False),  # and only to the first
        ("..rrrX", None, 2.0, False),  # it reports nothing: RUNNING is its start
        ("..X", None, None, False),  # it never came up
        ("..rrL", None, None, False),
        ("..rrp!!!X", 3.0, 4.0, False),  # from the ask to the exit
        ("..rrp!!A!X", 4.0, 4.0, True),
        ("..rrp!!!x", None, 4.0, False),  # it came to its own end, and not by the ask
        ("..rrp!!!L", None, 4.0, False),
        ("..!!X", None, None, False),  # nothing of it ran yet, so nothing was saved
        ("..rrpppap", ANSWER_S, 4.0, True),  # a person asked for a checkpoint
        ("..rrps", None, 4.0, False),  # a save of its own is no answer
        ("..rrp!!sX", 3.0, 4.0, False),
        ("..rrpffftttX", 3.0, 4.0, False),  # thawed to be stopped
        ("..rrpaa", ANSWER_S, 4.0, True),
    ],
)
def test_a_run_teaches(
    drawing: str, checkpoint_s: float | None, restart_s: float | None, saves: bool
) -> None:
    cost = follow(drawing).cost
    assert (cost.checkpoint_s if cost.checkpoints else None) == checkpoint_s
    assert (cost.restart_s if cost.restarts else None) == restart_s
    assert cost.saves_on_request is saves


@pytest.mark.parametrize(("drawing", "stops"), [("..rrp", 0), ("..rrrX", 0), ("..rrp!!X", 1)])
def test_a_run_that_was_there_before_us_teaches_nothing_of_its_start(drawing: str, stops: int) -> None:
    cost = follow(drawing, inherited=True).cost
    assert (cost.restarts, cost.checkpoints) == (0, stops)


def test_a_run_stopped_sooner_than_its_first_step_usually_comes_does_not_make_starts_look_cheap() -> None:
    slow = StopCost(restart_s=300.0, restarts=3)
    assert follow("..rr!X", known=slow).cost.restart_s == 300.0


@pytest.mark.parametrize("drawing", ["..rrp!!!X", "..rrrX", "..rrp!!A!X"])
def test_real_seconds_are_learned_whatever_the_clocks_rate(drawing: str) -> None:
    assert follow(drawing, rate=900.0).cost == follow(drawing).cost


@pytest.mark.parametrize(
    ("drawing", "lost_s"),
    [
        ("...", 0.0),
        ("..rrrr", 4.0),  # all of this run, but not the 1000 s of those before it
        ("..rrrrsrr", 2.0),
        ("..rrrrsrrsr", 1.0),
        ("..rrrrfff", 4.0),  # it stands still
        ("..rrs", 0.0),
    ],
)
def test_the_work_since_the_last_checkpoint_is_what_a_stop_would_lose(drawing: str, lost_s: float) -> None:
    assert follow(drawing).lost_work_s == lost_s


@pytest.mark.parametrize(
    ("cost", "rate", "seconds"),
    [
        (NOTHING_KNOWN, 1.0, 60.0),
        (StopCost(restart_s=5, restarts=1), 1.0, 5 + 30.0),
        (StopCost(checkpoint_s=7, checkpoints=1), 1.0, 7 + 30.0),
        (StopCost(checkpoint_s=7, checkpoints=1, restart_s=5, restarts=1), 1.0, 12.0),
        (StopCost(checkpoint_s=7, checkpoints=1, restart_s=5, restarts=1), 10.0, 120.0),
        (StopCost(checkpoint_s=0, checkpoints=1, restart_s=0, restarts=1), 1.0, 0.0),
    ],
)
def test_half_the_guess_stands_for_each_part_that_was_never_measured(
    cost: StopCost, rate: float, seconds: float
) -> None:
    assert cost.restart_cost_s(60.0, rate) == seconds


def test_a_change_is_followed_and_a_single_outlier_is_not() -> None:
    cost = NOTHING_KNOWN
    for _ in range(10):
        cost = cost.with_restart(10.0)
    assert cost.with_restart(100.0).restart_s == pytest.approx(10 + 0.3 * 90)
    for _ in range(10):
        cost = cost.with_restart(100.0)
    assert cost.restart_s == pytest.approx(100.0, rel=0.05)


def test_a_start_that_hung_for_a_week_counts_as_an_hour() -> None:
    assert NOTHING_KNOWN.with_restart(7 * 86400.0).restart_s == 3600.0


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -1.0])
def test_seconds_that_are_none_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        StopCost(checkpoint_s=wrong, checkpoints=1)


SECONDS = st.floats(-1e12, 1e12)


@given(
    st.lists(st.tuples(st.sampled_from("rc"), SECONDS, st.booleans())),
    st.floats(0, 1e9),
    st.floats(1e-3, 1e6),
)
def test_costs_are_finite_and_never_negative(
    lessons: list[tuple[str, float, bool]], guess_s: float, rate: float
) -> None:
    cost = NOTHING_KNOWN
    for kind, seconds, saved in lessons:
        cost = cost.with_restart(seconds) if kind == "r" else cost.with_checkpoint(seconds, saved=saved)
        assert 0.0 <= cost.restart_cost_s(guess_s, rate) <= max(guess_s, 2 * 3600.0 * rate) + guess_s


@given(st.text("rpsa!Aft", max_size=40), st.sampled_from("xXL"), st.booleans())
def test_no_story_of_a_run_makes_a_cost_negative_or_endless(story: str, end: str, inherited: bool) -> None:
    followed = follow(f".{story}{end}", inherited=inherited)
    assert 0.0 <= followed.cost.restart_cost_s(60.0, 1.0) < 200.0
    assert 0.0 <= followed.lost_work_s <= len(story)


def test_the_book_goes_by_workload_and_by_job_where_there_is_none() -> None:
    one, other = job("one", workload="gpt"), job("other", workload="gpt")
    assert cost_key(one) == cost_key(other) == ("gpt", "")
    assert cost_key(job("one")) == ("", "one")
    book = StopCostBook({cost_key(one): StopCost(restart_s=5, restarts=1), ("", "gone"): NOTHING_KNOWN})
    assert book.cost(cost_key(other)).restart_s == 5
    assert book.cost(cost_key(job("one"))) is NOTHING_KNOWN
    assert book.forget_all_but({"one"}) == ("gone",)
    assert book.forget_all_but(set()) == ()


def test_a_real_moment_in_grid_time() -> None:
    real_now = datetime(2030, 1, 1, tzinfo=UTC)
    minute = timedelta(minutes=1)
    assert grid_time(real_now - minute, now=NOW, real_now=real_now, rate=60) == NOW - 60 * minute
    assert grid_time(real_now + minute, now=NOW, real_now=real_now, rate=60) == NOW  # a clock set back


def test_work_since_a_moment_goes_by_the_mean_pace_and_is_never_more_than_all() -> None:
    half_speed = Ledger(running_s=1000.0, work_s=500.0)
    assert work_since(NOW - timedelta(seconds=100), NOW, half_speed) == 50.0
    assert work_since(NOW - timedelta(days=1), NOW, half_speed) == 500.0
    assert work_since(NOW + timedelta(days=1), NOW, half_speed) == 0.0
    assert work_since(NOW - timedelta(days=1), NOW, Ledger()) == 0.0

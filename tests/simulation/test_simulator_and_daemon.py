"""The simulator and the daemon, fed the same events, take the same decisions.

Both get the same GPUs, jobs, limits and prices, and the same silicon. Launches and checkpoints take no time.
The daemon turns every second; the simulator is asked as often as the daemon asks for placements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from power.grid.feed import Kind
from scheduler.config import Config, Control, DomainConfig
from scheduler.decision import Decision
from scheduler.engines.engine import RunPhase
from scheduler.model import JobState
from scheduler.policy.named import open_policy
from scheduler.signal_view import SeriesView
from scheduler.simulation.model import Cadence, Outcome, Scenario, StopTimes
from scheduler.simulation.published import DayAhead
from scheduler.simulation.run import simulate
from scheduler.simulation.silicon import Silicon
from scheduler.site import build_tree
from scheduler.snapshot import Snapshot
from tests.builders import prices
from tests.simulation.world import Board, PretendedRun, World
from tests.trace_builders import START, Noted, cluster, limit, scenario

LOOK_S = 10  # how often the daemon places by default (`control.place_period_s`)
ALLOWED_S = 30  # so long may they differ: starts that wait for watts, raises that settle, turns that are due
CAP_SHARE = 0.06  # of a cap: by then they have not learned the same of what a workload demands

DOMAINS = [DomainConfig(name="site"), DomainConfig(name="node", parent="site")]
SITE = cluster(4)
SAME_SITE = replace(SITE, tree=build_tree(DOMAINS, SITE.boards))
AT_ONCE = StopTimes(checkpoint_s=0.0, restart_s=0.0, launch_s=0.0)


@dataclass(frozen=True, slots=True)
class Held:
    """What a job has: GPUs, the cap of each in watts, and whether it stands still on them."""

    gpus: int
    cap_w: float
    frozen: bool

    def like(self, other: Held) -> bool:
        same = (self.gpus, self.frozen) == (other.gpus, other.frozen)
        return same and abs(self.cap_w - other.cap_w) <= CAP_SHARE * other.cap_w


Picture = dict[str, Held]  # by job; who holds no GPU is not in it
Film = dict[int, Picture]  # by second


# --- the daemon ---------------------------------------------------------------------------------------------


@dataclass
class SameWorld(World):
    """A world of this scenario: its true curves, its prices as they are published, its work and its jobs."""

    made: Scenario = field(default_factory=lambda: scenario(""))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._silicon, self._prices = Silicon.of(self.made), DayAhead(self.made.prices)
        self.row_of: dict[str, int] = {}  # by the daemon's job id
        for budget in self.made.budgets:
            self.store.budgets.add(budget)

    def turn_and_live(self, seconds: int) -> None:
        """One turn of the loop, woken by jobs whose time has come, and the time until the next."""
        now, known = self.clock.now(), len(self.row_of)
        for row, job in enumerate(self.made.jobs[known:], start=known):
            if job.submitted_at <= now:
                self.row_of[self.submit(job.spec, work_s=job.work_s)] = row
        self.cycle.run_once(woken=len(self.row_of) > known)
        self.clock.advance(float(seconds))
        self._live(float(seconds))

    def name_of(self, run: PretendedRun) -> str:
        return self.made.jobs[self.row_of[run.spec.job_id]].id

    def picture(self) -> Picture:
        return {
            self.name_of(run): Held(
                len(run.spec.gpu_uuids),
                self.boards[run.spec.gpu_uuids[0]].cap_w,
                run.phase is RunPhase.FROZEN,
            )
            for run in self.runs.values()
            if run.phase is not RunPhase.EXITED
        }

    def current(self, kind: Kind, now: object = None) -> SeriesView:
        if kind is Kind.CARBON:
            return super().current(kind, now)
        at = self.clock.now()
        known, value = self._prices.published(at), self._prices.at(at)
        return SeriesView(kind=kind, series=known, value_now=value, source="test", state="ok")

    def _pace(self, run: PretendedRun, board: Board) -> float:
        row = self._silicon.row[self.row_of[run.spec.job_id]]
        return float(self._silicon.throughput(row, np.array([board.cap_w]))[0])

    def _draw_w(self, run: PretendedRun, board: Board) -> float:
        row = self._silicon.row[self.row_of[run.spec.job_id]]
        return float(self._silicon.power_w(row, np.array([board.cap_w]))[0])

    def _live_run(self, run: PretendedRun, seconds: float) -> None:
        board = self.boards[run.spec.gpu_uuids[0]]
        before_s, alive = run.left_s, run.phase is not RunPhase.EXITED
        super()._live_run(run, seconds)
        if alive and run.phase is RunPhase.RUNNING:
            run.left_s = before_s - seconds * self._pace(run, board)
        if alive and run.exit_code == 85:  # stopped: its checkpoint has what it did
            self.seconds_of_work[run.spec.job_id] = before_s

    def _live(self, seconds: float) -> None:
        super()._live(seconds)
        for run in self.runs.values():
            for uuid in run.spec.gpu_uuids if run.phase is RunPhase.RUNNING else ():
                self.boards[uuid].draw_w = self._draw_w(run, self.boards[uuid])


def through_the_daemon(
    folder: Path, made: Scenario, *, until_s: int, turn_s: int = 1
) -> tuple[Film, SameWorld]:
    control = Control(settle_s=made.cadence.settle_s, restart_cost_s=0.0)
    config = Config(domains=DOMAINS, control=control, priorities=made.value_per_gpu_h)
    world, film = SameWorld(folder=folder, config=config, made=made), Film()
    for second in range(0, until_s, turn_s):
        film[second] = world.picture()
        world.turn_and_live(turn_s)
    return film, world


# --- the simulator ------------------------------------------------------------------------------------------


class Filmed(Noted):
    """A policy that is asked as often as the daemon asks, and keeps a picture of every turn."""

    def __init__(self, looks_every_s: float) -> None:
        # The daemon plans when a job that can wait arrives; so often, the simulator is as quick.
        super().__init__(open_policy(f"wattmill:plan_every_s={looks_every_s:g}"))
        self.looks_every_s = looks_every_s
        self.film: Film = {}

    def caps(self, snapshot: Snapshot) -> Decision:
        self.film[round((snapshot.now - START).total_seconds())] = _picture(snapshot)
        return super().caps(snapshot)


def _picture(snapshot: Snapshot) -> Picture:
    gpus, jobs = snapshot.gpus, snapshot.jobs
    return {
        jobs.ids[row]: Held(
            int((gpus.holder == row).sum()),
            float(gpus.confirmed_cap_w[gpus.holder == row].min()),
            bool(jobs.bools("frozen")[row]),
        )
        for row in np.unique(gpus.holder[gpus.holder >= 0]).tolist()
    }


def through_the_simulator(made: Scenario, *, turn_s: int = 1) -> tuple[Film, Outcome]:
    policy = Filmed(float(max(LOOK_S, turn_s)))
    outcome = simulate(made, policy)
    return policy.film, outcome


# --- both ---------------------------------------------------------------------------------------------------


def disagreements(made: Scenario, ours: Film, theirs: Film, *, allowed_s: int) -> Iterator[str]:
    """Jobs that for so long had something else on either side."""
    seconds = [second for second in sorted(ours) if second in theirs]
    for job in made.jobs:
        since: int | None = None
        for second in seconds:
            one, other = ours[second].get(job.id), theirs[second].get(job.id)
            same = one == other or (one is not None and other is not None and one.like(other))
            since = None if same else second if since is None else since
            if since is not None and second - since >= allowed_s:
                yield f"{job.id} since {since} s: {one} in the simulator, {other} under the daemon"
                break


def both(
    folder: Path, drawing: str, *, until_s: int, turn_s: int = 1, **more: Any
) -> tuple[Outcome, SameWorld]:
    """Play the story on either side and demand that all jobs have the same at all times."""
    made = scenario(
        drawing,
        cluster=SAME_SITE,
        stop_times=AT_ONCE,
        cadence=Cadence(place_s=1.0),
        end=START + timedelta(seconds=until_s),
        patience_s=0.0,
        **more,
    )
    ours, outcome = through_the_simulator(made, turn_s=turn_s)
    theirs, world = through_the_daemon(folder, made, until_s=until_s, turn_s=turn_s)
    assert list(disagreements(made, ours, theirs, allowed_s=ALLOWED_S + 3 * turn_s)) == []
    assert (outcome.power.excess_caps_w * outcome.spans_s).sum() == 0.0
    return outcome, world


def starts(outcome: Outcome) -> list[str]:
    """Jobs that started, in the order of their first start."""
    first_s = outcome.jobs.first_start_s
    order = np.argsort(first_s, kind="stable")[: np.isfinite(first_s).sum()]
    return [outcome.scenario.jobs[row].id for row in order.tolist()]


def test_what_differs_for_long_is_told_and_what_settles_is_not() -> None:
    made = scenario("a 1x60@0, b 1x60@0")
    full, low = Held(1, 300.0, frozen=False), Held(1, 200.0, frozen=False)
    ours: Film = {second: {"a": full, "b": full} for second in range(0, 100, 10)}
    soon: Film = {second: {"a": full if second > 20 else low, "b": full} for second in range(100)}
    never: Film = {second: {"a": full} if second > 40 else {"a": full, "b": full} for second in range(100)}
    assert list(disagreements(made, ours, soon, allowed_s=ALLOWED_S)) == []
    (told,) = disagreements(made, ours, never, allowed_s=ALLOWED_S)
    assert told.startswith("b since 50 s")
    assert told.endswith("None under the daemon")


def test_small_jobs_pass_a_gang_without_delaying_it(tmp_path: Path) -> None:
    """`gang` wants the whole site while `a` runs; what ends before `a` does may go first."""
    drawing = "a 2x300@0, gang 4x120@5, b 1x200@7, c 1x60@20, d 2x90@40, late 1x500@60"
    outcome, world = both(tmp_path, drawing, until_s=450)
    order = ["a", "b", "c", "d", "gang", "late"]
    assert starts(outcome) == order
    assert [world.name_of(run) for run in world.runs.values()] == order


def test_a_cut_takes_from_the_same_jobs_and_its_end_gives_back(tmp_path: Path) -> None:
    """For two minutes the site has 850 W of 1,200; who gave nothing away keeps its speed."""
    cut = limit(850.0, from_h=60 / 3600, until_h=180 / 3600)
    drawing = "rigid 1x900@0, mid 1x900@2 mid, high 2x900@4 high, late 1x200@100 low"
    outcome, _ = both(tmp_path, drawing, until_s=240, budgets=(cut,))
    assert starts(outcome) == ["rigid", "mid", "high"]
    during = (outcome.power.at_s >= 70) & (outcome.power.at_s < 180)
    assert during.any()
    assert (outcome.power.caps_w[during] > 800.0).all()
    assert outcome.power.caps_w[-1] > 1100.0


def test_a_cut_below_all_contracts_breaks_the_same_ones(tmp_path: Path) -> None:
    """430 W are hardly more than the least that four boards can be set to."""
    cut = limit(430.0, from_h=60 / 3600, until_h=180 / 3600)
    drawing = "rigid 1x900@0, low 1x900@2 low, high 2x900@4 high"
    outcome, _ = both(tmp_path, drawing, until_s=240, budgets=(cut,))
    during = (outcome.power.at_s >= 70) & (outcome.power.at_s < 180)
    assert during.any()
    assert (outcome.power.caps_w[during] <= 430.0).all()


def test_where_not_even_the_least_caps_fit_the_same_jobs_stop_and_come_back(tmp_path: Path) -> None:
    """330 W are less than four boards can be set to: one job keeps its GPU until the limit is lifted."""
    cut = limit(330.0, from_h=60 / 3600, until_h=150 / 3600)
    drawing = "rigid 1x900@0, low 1x900@2 low by 30h, high 1x900@4 high by 30h, late 1x900@6 high"
    outcome, world = both(tmp_path, drawing, until_s=240, budgets=(cut,))
    assert set(starts(outcome)) == {"rigid", "low", "high", "late"}
    assert outcome.jobs.stops.tolist() == [0, 1, 1, 1]
    runs = [world.name_of(run) for run in world.runs.values()]
    assert {name: runs.count(name) for name in runs} == {"rigid": 1, "low": 2, "high": 2, "late": 2}


def test_work_that_can_wait_runs_in_the_same_slot_and_is_paused_at_the_same_price(tmp_path: Path) -> None:
    """`waits` is planned into the cheap second quarter hour; `picky` freezes in the third, above its price
    ceiling, and leaves its GPU when it has been frozen for too long."""
    outcome, world = both(
        tmp_path,
        "rigid 1x20000@0, waits 2x450@2 high by 2h, picky 1x9000@700 high ceiling 50",
        prices=prices(" ".join(["60", "10", *["80"] * 200]), step_h=0.25),
        value_per_gpu_h={"low": 0.02, "standard": 0.05, "high": 0.2},
        until_s=2400,
        turn_s=15,
    )
    order = ["rigid", "waits", "picky"]
    assert starts(outcome) == order
    assert [world.name_of(run) for run in world.runs.values()] == order
    assert outcome.jobs.first_start_s[1] == pytest.approx(900, abs=15)
    assert outcome.jobs.stops.tolist() == [0, 0, 1]
    picky = next(job_id for job_id, row in world.row_of.items() if row == 2)
    assert world.job_state(picky) is JobState.PAUSED

"""A simulated site: what a decision sees of it, and what a decision does to it. Nothing here decides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from power.accounting import AccountingRules
from power.arrays import Floats, Ints
from scheduler.config import Config, Control
from scheduler.decision import Decision, Start
from scheduler.decision_tables import CapTable
from scheduler.fleet import Fleet
from scheduler.horizon import Horizon, less_headroom
from scheduler.job_views import JobFacts, job_views
from scheduler.model import Job, JobState, Run, WaitReason
from scheduler.pending import PendingStarts
from scheduler.simulation.beliefs import Beliefs
from scheduler.simulation.boards import Boards
from scheduler.simulation.model import Scenario
from scheduler.simulation.published import DayAhead
from scheduler.simulation.silicon import Silicon
from scheduler.simulation.work import Phase, Work
from scheduler.snapshot import Snapshot

RULES = AccountingRules()
_SAVED = "simulated"  # a checkpoint's path, where there is one
_LESSONS = 64  # running jobs that are learned from at a time


@dataclass(frozen=True, slots=True)
class Signals:
    """Prices and carbon behind their publication times."""

    prices: DayAhead
    carbon: DayAhead


class Site:
    """Jobs, boards, and the fleet's columns that snapshots are taken from."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._silicon = Silicon.of(scenario)
        self.work = Work(scenario)
        self.boards = Boards(scenario.cluster, seed=scenario.seed)
        times = scenario.stop_times
        self._config = Config(
            control=Control(
                settle_s=scenario.cadence.settle_s,
                restart_cost_s=times.checkpoint_s + times.restart_s,
                headroom_w=scenario.headroom_w,
            ),
            priorities=scenario.value_per_gpu_h,
        )
        self.control = self._config.control
        self._fleet = Fleet(
            scenario.cluster.tree,
            scenario.cluster.boards,
            rules=RULES,
            settling_s=self.control.settle_s + self.control.stale_s,
        )
        self._beliefs = Beliefs()
        self._gpus = {board.uuid: board for board in scenario.cluster.boards}
        self._row_of = {job.id: row for row, job in enumerate(scenario.jobs)}
        self._jobs: dict[int, Job] = {}  # those submitted and not ended
        self._gpu_rows: dict[int, Ints] = {}  # of those that hold some
        self._cap_w: Floats = np.zeros(len(scenario.jobs))
        self._raised_at_s: Floats = np.full(len(scenario.jobs), -np.inf)
        self._goal: dict[int, JobState] = {}  # of those that are leaving
        self._runs = 0
        self._budgets = less_headroom(scenario.budgets, scenario.headroom_w)
        self.moved_caps = False  # by the last decision
        self._kept_for: frozenset[str] = frozenset()
        self._estimate_s: Floats = np.array(
            [math.nan if job.spec.estimate_s is None else job.spec.estimate_s for job in scenario.jobs]
        )

    def now(self) -> datetime:
        return self._scenario.start + timedelta(seconds=self.work.now_s)

    # --- what happens by itself -----------------------------------------------------------------------------

    def submit(self, row: int) -> None:
        """A job of the trace arrives."""
        told = self._scenario.jobs[row]
        self.work.submit(row)
        at = told.submitted_at
        self._put(row, Job(id=told.id, spec=told.spec, owner="trace", submitted_at=at, state_since=at))

    def settle(self) -> bool:
        """What was due by now has happened. True when GPUs came free."""
        work = self.work
        due = work.due()
        if not len(due):
            return False
        begin, done, left, thawing = (
            due[work.phase[due] == phase]
            for phase in (Phase.LAUNCHING, Phase.WORKING, Phase.LEAVING, Phase.FROZEN)
        )
        work.begin_work(begin)
        for row in done.tolist():
            work.end(row)
            self._clear(row)
            self._fleet.drop_job(self._jobs.pop(row).id)
        for row in left.tolist():
            work.put_back(row)
            self._clear(row)
            goal = self._goal.pop(row)
            job = self._jobs[row]
            self._put(row, job.but(state=goal, state_since=self.now(), run=None, checkpoint_path=_SAVED))
        for row in thawing.tolist():  # frozen for too long: it leaves its GPUs
            self._leave(row, JobState.PAUSED)
        return bool(len(done) or len(left))

    def learn(self) -> None:
        """A look at the draws of some running jobs, which moves what is believed of their workloads."""
        rows = self.work.holders[self.work.phase[self.work.holders] == Phase.WORKING][-_LESSONS:]
        for row in rows.tolist():
            board = int(self._gpu_rows[row][0])
            draw_w = self.work.draw_w[row] / self.work.gpus[row]
            self._beliefs.observe(
                self._gpus[self.boards.uuids[board]],
                self._scenario.jobs[row].spec.workload,
                draw_w=float(draw_w),
                cap_w=float(self.boards.cap_w[board]),
            )
        moved = self._beliefs.tell()
        for job_row, job in self._jobs.items():
            if (job.spec.workload or "") in moved:
                self._put(job_row, job)

    # --- what a decision sees -------------------------------------------------------------------------------

    def snapshot(self, *, turn: int, limits_w: dict[str, float], signals: Signals) -> Snapshot:
        """The picture that the daemon would have at this moment."""
        scenario, now, fleet = self._scenario, self.now(), self._fleet
        fleet.put_readings(self.boards.readings(self.work.now_s))
        self._put_figures()
        return fleet.snapshot(
            monotonic_s=self.work.now_s,
            cycle=turn,
            now=now,
            limits_w={name: limit - scenario.headroom_w for name, limit in limits_w.items()},
            price_per_mwh=signals.prices.at(now),
            carbon_g_per_kwh=signals.carbon.at(now),
            carbon_cost_per_tonne=scenario.carbon_cost_per_tonne,
            prices=signals.prices.published(now),
            horizon=Horizon(
                prices=signals.prices.outlook(now),
                carbon=signals.carbon.outlook(now),
                budgets=self._budgets,
            ),
            min_run_s=self.control.min_run_s,
        )

    def keep(self, pending: PendingStarts) -> None:
        """GPUs promised to starts that wait for room; such a job is no candidate for another place."""
        self._fleet.mark_kept(pending.kept)
        waits = frozenset(start.job_id for start in pending.starts)
        changed = sorted(waits ^ self._kept_for)
        known = [job_id for job_id in changed if self._row_of[job_id] in self._jobs]
        eligible = np.array([job_id not in waits for job_id in known], dtype=bool)
        self._fleet.put_figures("eligible", known, eligible)
        self._kept_for = waits

    def _put_figures(self) -> None:
        """What changes by itself as a job runs: how long it still takes, by its owner's guess."""
        work, rows = self.work, self.work.holders
        guess_s = self._estimate_s[rows]
        left_s = np.fmax(0.0, guess_s - (work.work_s[rows] - work.left_s[rows]))
        ids = [self._scenario.jobs[row].id for row in rows.tolist()]
        self._fleet.put_figures("remaining_s", ids, np.where(np.isnan(guess_s), np.nan, left_s))

    # --- what a decision does -------------------------------------------------------------------------------

    def carry_out(self, kept: Decision, snapshot: Snapshot) -> None:
        """All of a verified decision, in the daemon's order."""
        self._set_caps(kept, snapshot)
        for pause in kept.pauses:
            row = self._row_of[pause.job_id]
            if pause.reason is WaitReason.POWER:
                self._leave(row, JobState.PAUSED)
            else:
                self._freeze(row)
        for preempt in kept.preempts:
            self._leave(self._row_of[preempt.job_id], JobState.QUEUED)
        for resume in kept.resumes:
            self._thaw(self._row_of[resume.job_id])
        for start in kept.starts:
            self._start(self._row_of[start.job_id], start)

    def _set_caps(self, kept: Decision, snapshot: Snapshot) -> None:
        """Lowers at once; raises where the last raise has settled. Whole watts, as the daemon sets them."""
        table = CapTable.for_jobs(snapshot.jobs, kept.caps)
        ids = snapshot.jobs.ids
        rows = np.array([self._row_of[ids[row]] for row in table.job.tolist()], dtype=np.int64)
        cap_w, now_s = np.floor(table.cap_w), self.work.now_s
        raised = cap_w > self._cap_w[rows]
        early = raised & (now_s < self._raised_at_s[rows] + self.control.settle_s)
        moved = ~early & (cap_w != self._cap_w[rows])
        self.moved_caps = bool(moved.any())
        self._raised_at_s[rows[raised & moved]] = now_s
        for row, watts in zip(rows[moved].tolist(), cap_w[moved].tolist(), strict=True):
            self._set_cap(row, watts)
        self._follow(rows[moved])

    def _set_cap(self, row: int, cap_w: float) -> None:
        boards, held = self.boards, self._gpu_rows[row]
        boards.cap_w[held] = np.clip(cap_w, boards.min_cap_w[held], boards.max_cap_w[held])
        self._cap_w[row] = boards.cap_w[held[0]]

    def _follow(self, rows: Ints) -> None:
        """Pace and draw follow the caps in force; a frozen job's draw is that of an idle board."""
        if not len(rows):
            return
        work, boards = self.work, self.boards
        first = np.array([self._gpu_rows[row][0] for row in rows.tolist()], dtype=np.int64)
        curve = self._silicon.row[rows, boards.kind[first]]
        frozen = work.phase[rows] == Phase.FROZEN
        each_w = self._silicon.power_w(curve, self._cap_w[rows])
        each_w = np.where(frozen, boards.idle_w[first], each_w)
        work.pace[rows] = self._silicon.throughput(curve, self._cap_w[rows])
        work.draw_w[rows] = each_w * work.gpus[rows]
        counts = [len(self._gpu_rows[row]) for row in rows.tolist()]
        boards.draw_w[np.concatenate([self._gpu_rows[row] for row in rows.tolist()])] = np.repeat(
            each_w, counts
        )

    # --- moves of one job -----------------------------------------------------------------------------------

    def _start(self, row: int, start: Start) -> None:
        times, job, now = self._scenario.stop_times, self._jobs[row], self.now()
        held = np.array([self.boards.row_of[uuid] for uuid in start.gpu_uuids], dtype=np.int64)
        takes_s = times.launch_s if self.work.first_launch(row) else times.restart_s
        self._gpu_rows[row], self._runs = held, self._runs + 1
        self.boards.busy[held] = True
        self.work.start(row, works_at_s=self.work.now_s + takes_s)
        self._set_cap(row, math.floor(start.cap_w))
        self._follow(np.array([row]))
        run = Run(
            id=f"run_{self._runs}",
            job_id=job.id,
            attempt=job.attempts + 1,
            gpu_uuids=start.gpu_uuids,
            cap_w=start.cap_w,
            created_at=now,
            started_at=now,
        )
        running = job.but(state=JobState.RUNNING, state_since=now, run=run, attempts=run.attempt)
        self._put(row, running)

    def _freeze(self, row: int) -> None:
        self.work.freeze(row, until_s=self.work.now_s + self.control.freeze_limit_s)
        self._follow(np.array([row]))
        self._put(row, self._jobs[row].but(state=JobState.PAUSED, state_since=self.now()))

    def _thaw(self, row: int) -> None:
        self.work.begin_work(np.array([row]))
        self._follow(np.array([row]))
        self._put(row, self._jobs[row].but(state=JobState.RUNNING, state_since=self.now()))

    def _leave(self, row: int, goal: JobState) -> None:
        """It saves a checkpoint and goes; one that has not begun to work has nothing to save."""
        waits_s = 0.0 if self.work.phase[row] == Phase.LAUNCHING else self._scenario.stop_times.checkpoint_s
        self.work.leave(row, gone_at_s=self.work.now_s + waits_s)
        self._follow(np.array([row]))
        self._goal[row] = goal
        leaving = self._jobs[row].but(state=JobState.STOPPING, state_since=self.now())
        self._put(row, leaving)

    def _clear(self, row: int) -> None:
        """Its GPUs are empty; they keep their limits."""
        held = self._gpu_rows.pop(row)
        self.boards.busy[held] = False
        self.boards.draw_w[held] = self.boards.idle_w[held]

    def _put(self, row: int, job: Job) -> None:
        self._jobs[row] = job
        frozen = self.work.phase[row] == Phase.FROZEN
        done_s = float(self.work.work_s[row] - self.work.left_s[row])
        facts = JobFacts(
            config=self._config,
            curves=self._beliefs.curves,
            gpus=self._gpus,
            rules=(),
            gated=self._kept_for,
            frozen_runs=frozenset([job.run.id]) if frozen and job.run is not None else frozenset(),
            ledgers={},
            work_done_s={job.id: done_s},
            now=self.now(),
        )
        self._fleet.put_job(job_views([job], facts)[0])

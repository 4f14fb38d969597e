"""A whole cluster in one process: the real loop over a fake clock, fake silicon, and pretended jobs.

Nothing here decides. `World.turn()` is one second of the controller; `truth_w()` is what the silicon may
really draw, seen from outside, so that a test never judges the loop by its own words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from power.budget import Budget, PowerTree
from power.capd.client import CapResult
from power.clock import FakeClock
from power.curve import prior
from power.device import GpuInfo, GpuReading
from power.grid.feed import Kind
from power.series import Series, Slot
from scheduler.config import Config
from scheduler.cycle import Cycle
from scheduler.engines.engine import EngineError, LaunchSpec, Progress, RunPhase, RunStatus, Wanted
from scheduler.ids import new_id
from scheduler.model import Intent, JobSpec, JobState
from scheduler.plan_state import PlanState
from scheduler.plant import Plant
from scheduler.published import PublishedState
from scheduler.signal_view import SeriesView
from scheduler.site import build_tree
from scheduler.snapshot import JobView
from scheduler.store import AlreadyTerminal, open_store
from telemetry.sample import GpuSample
from tests.builders import NOW
from tests.simulation.instant_solvers import InstantSolvers

IDLE_W, DEMAND_W = 30.0, 250.0
SETTLE_PER_S = 0.9  # share of the way to its new draw that a board goes in a second


@dataclass
class Board:
    """One GPU: its limit holds at once, its draw follows."""

    info: GpuInfo
    cap_w: float
    draw_w: float = IDLE_W
    energy_j: float = 0.0
    run_id: str | None = None
    refuses: bool = False  # the next set is silently ignored

    def step(self, seconds: float, busy: bool) -> None:
        aim_w = min(self.cap_w, DEMAND_W) if busy else IDLE_W
        self.draw_w += (aim_w - self.draw_w) * SETTLE_PER_S
        self.energy_j += self.draw_w * seconds


@dataclass
class PretendedRun:
    spec: LaunchSpec
    left_s: float
    stop_left_s: float = 0.0  # of work on its checkpoint, once it is told to stop
    silent_s: float = math.inf  # until it reports its first step
    wanted: Wanted = Wanted.RUN
    phase: RunPhase = RunPhase.STARTING
    exit_code: int | None = None


@dataclass
class World:
    """Everything that the loop touches. `seconds_of_work` is by job id; a job without runs ten seconds.

    Also by job id: `seconds_to_stop` from the wish to the exit (none: at once), `seconds_to_report` from the
    launch to the first step that is reported (none: it reports nothing). Jobs in `savers` answer a stop with
    a checkpoint.
    """

    folder: Path
    config: Config
    gpus: int = 4
    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))
    price: float = 50.0
    seconds_of_work: dict[str, float] = field(default_factory=dict)
    seconds_to_stop: dict[str, float] = field(default_factory=dict)
    seconds_to_report: dict[str, float] = field(default_factory=dict)
    savers: set[str] = field(default_factory=set)
    state: PublishedState | None = None
    plan: PlanState | None = None
    launched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.boards = {f"gpu-{i}": Board(_info(i), cap_w=300.0) for i in range(self.gpus)}
        self.tree: PowerTree = build_tree(self.config.domains, [b.info for b in self.boards.values()])
        self.runs: dict[str, PretendedRun] = {}
        self.store = open_store(f"sqlite:///{self.folder / 'world.db'}")
        self.cycle = self.new_controller()

    def new_controller(self) -> Cycle:
        """As after a crash: nothing but the database, the engine and the GPUs is left."""
        self.placer = InstantSolvers()
        self.cycle = Cycle(
            Plant(
                config=self.config,
                clock=self.clock,
                backend="simulated",
                tree=self.tree,
                telemetry=self,
                caps=self,
                engine=self,
                signals=self,
                placer=self.placer,
                publisher=self,
                store=self.store,
            )
        )
        return self.cycle

    # --- what a test does -------------------------------------------------------------------------------

    def submit(self, spec: JobSpec, *, work_s: float = 10.0) -> str:
        job, _ = self.store.jobs.submit(spec, "ada", self.clock.now())
        self.seconds_of_work[job.id] = work_s
        return job.id

    def limit(self, watts: float) -> None:
        self.store.budgets.replace_limit("site", watts, self.clock.now())

    def wish(self, job_id: str, intent: Intent) -> None:
        try:
            self.store.jobs.set_intent(job_id, intent)
        except AlreadyTerminal:
            return

    def job_state(self, job_id: str) -> JobState:
        return self.store.jobs.get(job_id).state

    def view(self, job_id: str) -> JobView:
        """The job as the last placement saw it."""
        assert self.placer.asked is not None
        return self.placer.asked.job(job_id)

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.cycle.run_once(woken=True)
            self.clock.advance(1.0)
            self._live(1.0)

    # --- the truth ----------------------------------------------------------------------------------------

    def truth_w(self, domain: str = "site") -> float:
        """The most that this domain may draw now: caps of loaded boards, draws of empty ones, base loads."""
        return self.tree.base_load_under_w(domain) + sum(
            board.cap_w if board.run_id else board.draw_w
            for uuid, board in self.boards.items()
            if domain in self.tree.path(uuid)
        )

    def _live(self, seconds: float) -> None:
        for run in self.runs.values():
            self._live_run(run, seconds)
        for board in self.boards.values():
            run = self.runs[board.run_id] if board.run_id else None
            board.step(seconds, busy=run is not None and run.phase is RunPhase.RUNNING)

    def _live_run(self, run: PretendedRun, seconds: float) -> None:
        if run.phase is RunPhase.EXITED:
            return
        run.phase = {Wanted.FREEZE: RunPhase.FROZEN}.get(run.wanted, RunPhase.RUNNING)
        run.silent_s -= seconds
        if run.wanted is Wanted.STOP and run.stop_left_s > seconds:
            run.stop_left_s -= seconds
            return
        if run.phase is RunPhase.RUNNING:
            caps_w = min(self.boards[uuid].cap_w for uuid in run.spec.gpu_uuids)
            curve = prior("A40", min_cap_w=100, max_cap_w=300, workload=None)
            run.left_s -= seconds * curve.throughput(caps_w)
        if run.wanted is Wanted.STOP or run.left_s <= 0:
            run.phase, run.exit_code = RunPhase.EXITED, 0 if run.left_s <= 0 else 85
            for uuid in run.spec.gpu_uuids:
                self.boards[uuid].run_id = None

    # --- ports: Telemetry, CapSetter, Engine, Signals, Publisher ------------------------------------------

    def sample(self) -> tuple[GpuSample, ...]:
        return tuple(self._sample(board) for board in self.boards.values())

    def _sample(self, board: Board) -> GpuSample:
        reading = GpuReading(
            power_w=board.draw_w,
            enforced_cap_w=board.cap_w,
            energy_j=board.energy_j,
            utilization=1.0 if board.run_id else 0.0,
            memory_used_bytes=0,
            temperature_c=40.0,
            sm_clock_hz=1e9,
            throttle_reasons=(),
            pids=(1,) if board.run_id else (),
        )
        return GpuSample(
            info=board.info,
            at=self.clock.now(),
            monotonic_s=self.clock.monotonic_s(),
            reading=reading,
            energy_j=board.energy_j,
        )

    epoch: int | None = 1

    def renew(self) -> None: ...

    def set_caps(self, caps: Sequence[tuple[str, float]]) -> list[CapResult]:
        results = []
        for uuid, cap_w in caps:
            board = self.boards[uuid]
            if not board.refuses:
                board.cap_w = cap_w
            results.append(CapResult(uuid=uuid, asked_w=cap_w, read_back_w=board.cap_w))
        return results

    def launch(self, spec: LaunchSpec) -> None:
        if spec.run_id in self.runs:
            raise EngineError(f"run {spec.run_id} was launched before")
        for uuid in spec.gpu_uuids:
            assert self.boards[uuid].run_id is None, f"{uuid} given to two runs"
            self.boards[uuid].run_id = spec.run_id
        self.launched.append(spec.job_id)
        self.runs[spec.run_id] = PretendedRun(
            spec,
            left_s=self.seconds_of_work.get(spec.job_id, 10.0),
            stop_left_s=self.seconds_to_stop.get(spec.job_id, 0.0),
            silent_s=self.seconds_to_report.get(spec.job_id, math.inf),
        )

    def observe(self) -> Mapping[str, RunStatus]:
        return {
            run_id: RunStatus(
                run_id=run_id,
                phase=run.phase,
                exit_code=run.exit_code,
                progress=self._progress(run),
                checkpoint_path="/checkpoints/1" if self._saved(run) else None,
                checkpoint_at=NOW if self._saved(run) else None,
                answered_request=int(self._saved(run)),
                answer_s=1.0 if self._saved(run) else None,
            )
            for run_id, run in self.runs.items()
        }

    def _progress(self, run: PretendedRun) -> Progress | None:
        """The one report of a run: that it took its first step."""
        if run.silent_s > 0:
            return None
        return Progress(at=self.clock.now(), step=1, total_steps=None, samples=1.0, samples_per_s=None)

    def _saved(self, run: PretendedRun) -> bool:
        return run.exit_code == 85 and run.spec.job_id in self.savers

    def want(self, run_id: str, wanted: Wanted, *, checkpoint_now: bool = False) -> None:
        self.runs[run_id].wanted = wanted

    def current(self, kind: Kind, now: object = None) -> SeriesView:
        start = self.clock.now().replace(minute=0, second=0, microsecond=0)
        value = self.price if kind is Kind.PRICE else 400.0
        series = Series((Slot(start, start + timedelta(hours=1), value),))
        return SeriesView(kind=kind, series=series, value_now=value, source="test", state="ok")

    def reload(self) -> None: ...

    def counters(self) -> dict[str, float]:
        return {}

    def publish(self, state: PublishedState) -> None:
        self.state = state

    def publish_plan(self, state: PlanState) -> None:
        self.plan = state


def _info(index: int) -> GpuInfo:
    return GpuInfo(
        uuid=f"gpu-{index}",
        index=index,
        model="A40",
        min_cap_w=100,
        max_cap_w=300,
        default_cap_w=300,
        memory_bytes=0,
    )


def budget(domain: str, limit_w: float, world: World, *, seconds: float) -> Budget:
    """A target that holds from now for `seconds`."""
    now = world.clock.now()
    return replace(
        Budget(id=new_id("budget"), domain=domain, limit_w=limit_w, start=now, source="target"),
        end=now + timedelta(seconds=seconds),
    )

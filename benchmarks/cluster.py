"""A synthetic but realistic site: nodes of eight GPUs in racks and rows, filled with jobs of a real trace.

Nothing in it is tuned to the optimiser: sizes and lengths come from the trace, curves from the fitted priors
with spread demands, tiers and priorities from fixed shares, limits from what runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from benchmarks.trace_sizes import Trace, load_trace, running_sizes, submitted_sizes
from power.arrays import Floats, Ints
from power.budget import Domain, PowerTree
from power.curve import CapCurve, board_caps_w, prior
from power.series import Series
from scheduler.model import Contract, Flex, Job, JobSpec, JobState, Run
from scheduler.snapshot import GpuView, JobView

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
PER_NODE, NODES_PER_RACK, RACKS_PER_ROW = 8, 8, 16
VALUES = {"low": 0.5, "standard": 1.5, "high": 4.0}
RANKS = {"low": 0, "standard": 1, "high": 2}
SUBMITTED_SHARES = (0.25, 0.60, 0.15)  # by class
# A site that gives way by class: little that is unimportant runs, and what has waited long is unimportant.
RUNNING_SHARES = (0.15, 0.65, 0.20)
WAITING_SHARES = (0.80, 0.20, 0.0)
TIER_SHARES = {Flex.NONE: 0.2, Flex.LOW: 0.3, Flex.MID: 0.3, Flex.HIGH: 0.2}
WORKLOADS = ("bert", "resnet", "deepspeech", "shufflenet", "ncf", "own")
BUSY_SHARE = 0.95
OTHER_MODEL_SHARE = 0.25  # of the rows have A100s, the rest H100s
PRICE_PER_MWH = 90.0
BASE_LOAD_W = 1500.0  # an eight-GPU server without its GPUs
BINDING_DOMAINS = 10
FULL_SPEED = 0.999
GIVEN_SHARE = 0.5  # of the watts between contract floors and full speed


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a benchmark starts from. `held` says which GPUs each running job has."""

    tree: PowerTree
    limits_w: dict[str, float]
    gpus: tuple[GpuView, ...]
    jobs: tuple[JobView, ...]
    prices: Series


def synthetic_site(*, gpus: int, running: int, pending: int, seed: int, deferrable: bool = False) -> Site:
    """`deferrable`: every pending job can wait for a cheap slot (pausable, with a deadline)."""
    chance = np.random.default_rng(seed)
    trace = load_trace()
    models = _models(gpus)
    jobs = _Jobs(chance, trace)
    placed = _placed(jobs, models, running, chance)
    waiting = [jobs.pending(deferrable=deferrable, shares=WAITING_SHARES) for _ in range(pending)]
    tree = _tree(gpus)
    boards = _boards(models, placed)
    limits_w = _limits_w(tree, boards, placed)
    jobs_there = (*placed, *waiting)
    return Site(tree=tree, limits_w=limits_w, gpus=boards, jobs=jobs_there, prices=day_prices(chance))


def fresh_jobs(chance: np.random.Generator, count: int, *, deferrable: bool = False) -> list[JobView]:
    """Newly submitted jobs, each with an id that no other has."""
    jobs = _Jobs(chance, load_trace(), prefix=f"new_{chance.integers(1 << 60):x}")
    return [jobs.pending(deferrable=deferrable) for _ in range(count)]


def day_prices(chance: np.random.Generator) -> Series:
    """Two days of quarter hours with a night valley, an evening peak and noise; money per MWh."""
    hours = np.arange(192) / 4.0
    shape = 90 + 45 * np.sin((hours - 14) / 24 * 2 * math.pi) + 25 * np.sin((hours - 3) / 12 * 2 * math.pi)
    values = shape + chance.normal(0, 8, size=len(hours))
    points = [(NOW + timedelta(hours=h), v) for h, v in zip(hours.tolist(), values.tolist(), strict=True)]
    return Series.from_starts(points)


def uuid_of(index: int) -> str:
    return f"GPU-{index:06}"


def _models(gpus: int) -> list[str]:
    per_row = PER_NODE * NODES_PER_RACK * RACKS_PER_ROW
    rows = -(-gpus // per_row)
    others = round(rows * OTHER_MODEL_SHARE)
    return ["NVIDIA A100" if index // per_row >= rows - others else "NVIDIA H100" for index in range(gpus)]


def _tree(gpus: int) -> PowerTree:
    nodes = -(-gpus // PER_NODE)
    racks = -(-nodes // NODES_PER_RACK)
    rows = -(-racks // RACKS_PER_ROW)
    domains = [Domain(name="site")]
    domains += [Domain(name=f"row-{r}", parent="site") for r in range(rows)]
    domains += [Domain(name=f"rack-{r}", parent=f"row-{r // RACKS_PER_ROW}") for r in range(racks)]
    for node in range(nodes):
        own = tuple(uuid_of(i) for i in range(node * PER_NODE, min(gpus, (node + 1) * PER_NODE)))
        rack = f"rack-{node // NODES_PER_RACK}"
        domains.append(Domain(name=f"node-{node}", parent=rack, base_load_w=BASE_LOAD_W, gpu_uuids=own))
    return PowerTree.of(domains)


class _Jobs:
    """Draws jobs one after the other; the same seed draws the same ones."""

    def __init__(self, chance: np.random.Generator, trace: Trace, *, prefix: str = "job") -> None:
        self._chance, self._trace, self._prefix, self._count = chance, trace, prefix, 0
        self._curves: dict[tuple[str, str, int], CapCurve] = {}

    def running(self, count: int, *, gpus: int) -> list[tuple[int, float, float]]:
        sizes, run_s, left_s = running_sizes(self._trace, count, gpus=gpus, chance=self._chance)
        return list(zip(sizes.tolist(), run_s.tolist(), left_s.tolist(), strict=True))

    def pending(self, *, deferrable: bool, shares: tuple[float, float, float] = SUBMITTED_SHARES) -> JobView:
        sizes, seconds = submitted_sizes(self._trace, 1, chance=self._chance)
        wanted = self._chance.choice(["", "H100", "A100"], p=(0.7, 0.2, 0.1))
        return self.job(
            int(sizes[0]),
            estimate_s=float(seconds[0]),
            gpu_type=str(wanted) or None,
            minutes_ago=float(self._chance.exponential(90.0)),
            deferrable=deferrable,
            shares=shares,
        )

    def job(
        self,
        gpus: int,
        *,
        estimate_s: float,
        model: str = "NVIDIA H100",
        gpu_type: str | None = None,
        minutes_ago: float = 0.0,
        deferrable: bool = False,
        shares: tuple[float, float, float] = SUBMITTED_SHARES,
    ) -> JobView:
        chance = self._chance
        self._count += 1
        priority = str(chance.choice(list(VALUES), p=shares))
        flex = list(TIER_SHARES)[int(chance.choice(4, p=list(TIER_SHARES.values())))]
        late_s = 2 * estimate_s + 12 * 3600.0
        contract = Contract(
            flex=flex,
            pausable=deferrable,
            deadline=NOW + timedelta(seconds=late_s) if deferrable else None,
        )
        known = deferrable or chance.random() < 0.7  # many people do not say how long a job takes
        workload = str(chance.choice(WORKLOADS))
        spec = JobSpec(
            argv=("train",),
            gpus=gpus,
            gpu_type=gpu_type,
            contract=contract,
            priority=priority,
            workload=workload,
            estimate_s=estimate_s if known else None,
        )
        at = NOW - timedelta(minutes=minutes_ago)
        job = Job(
            id=f"{self._prefix}_{self._count:06}", spec=spec, owner="bench", submitted_at=at, state_since=at
        )
        return JobView(
            job=job,
            curve=self._curve(gpu_type or model, workload),
            floor_share=1.0 - flex.share,
            value_per_gpu_h=VALUES[priority],
            priority_rank=RANKS[priority],
            restart_cost_s=float(chance.uniform(30, 300)),
            remaining_s=estimate_s if known else None,
        )

    def _curve(self, model: str, workload: str) -> CapCurve:
        """One of a few dozen learned demands per model and workload."""
        step = int(self._chance.integers(5))
        key = (model, workload, step)
        if key not in self._curves:
            least_w, most_w, _ = board_caps_w(model)
            curve = prior(model, min_cap_w=least_w, max_cap_w=most_w, workload=workload)
            self._curves[key] = replace(curve, demand_w=min(most_w, curve.demand_w * (0.85 + 0.075 * step)))
        return self._curves[key]


def _placed(jobs: _Jobs, models: list[str], count: int, chance: np.random.Generator) -> list[JobView]:
    """Running jobs on GPUs: packed as a cluster was that once was full, then holes where jobs have left."""
    drawn = jobs.running(round(count / BUSY_SHARE) + 1, gpus=len(models))
    drawn.sort(key=lambda row: -row[0])
    held, next_gpu = [], 0
    for number, (gpus, run_s, left_s) in enumerate(drawn):
        room = max(1, len(models) - next_gpu - (len(drawn) - number - 1))  # one each for all that follow
        if next_gpu < len(models):
            fits = gpus if gpus <= room else 1 << (room.bit_length() - 1)
            held.append((next_gpu, fits, run_s, left_s))
            next_gpu += fits
    stays = sorted(chance.permutation(len(held))[:count].tolist())
    return [_running(jobs, held[index], models) for index in stays]


def _running(jobs: _Jobs, held: tuple[int, int, float, float], models: list[str]) -> JobView:
    first, gpus, run_s, left_s = held
    view = jobs.job(
        gpus,
        estimate_s=left_s,
        model=models[first],
        minutes_ago=run_s / 60.0 + 5.0,
        shares=RUNNING_SHARES,
    )
    since = NOW - timedelta(seconds=run_s)
    run = Run(
        id=f"run_{view.job.id}",
        job_id=view.job.id,
        attempt=1,
        gpu_uuids=tuple(uuid_of(i) for i in range(first, first + gpus)),
        cap_w=view.curve.tdp_w,
        created_at=since,
        started_at=since,
    )
    running = view.job.but(
        state=JobState.RUNNING, state_since=since, run=run, attempts=1, checkpoint_path="/checkpoints/1"
    )
    return replace(view, job=running)


def _boards(models: list[str], placed: list[JobView]) -> tuple[GpuView, ...]:
    """Running jobs stand at a cap some way between their contract's and the top."""
    caps: dict[int, tuple[str, float, float]] = {}
    for view in placed:
        run = view.job.run
        assert run is not None
        cap_w = math.ceil(view.curve.cap_for(min(FULL_SPEED, (view.floor_share + 1.0) / 2)))
        for uuid in run.gpu_uuids:
            caps[int(uuid[4:])] = (run.id, float(cap_w), view.curve.power_w(cap_w))
    return tuple(_board(index, model, caps.get(index)) for index, model in enumerate(models))


def _board(index: int, model: str, held: tuple[str, float, float] | None) -> GpuView:
    least_w, most_w, idle_w = board_caps_w(model)
    run_id, cap_w, draw_w = held or (None, most_w, idle_w)
    return GpuView(
        uuid=uuid_of(index),
        model=model,
        min_cap_w=least_w,
        max_cap_w=most_w,
        confirmed_cap_w=cap_w,
        accounted_w=cap_w if run_id else idle_w + 15.0,
        idle_w=idle_w + 15.0,
        draw_w=draw_w,
        settable=True,
        healthy=True,
        cordoned=False,
        run_id=run_id,
    )


def _limits_w(tree: PowerTree, boards: tuple[GpuView, ...], placed: list[JobView]) -> dict[str, float]:
    """Domains with a limit that binds: the site, some rows, some racks; some nodes where there are few.

    Each can carry what runs at its contract floors and every empty GPU, and half of what the running jobs
    would still need for their full speed.
    """
    index = tree.index
    row_of = {uuid: row for row, uuid in enumerate(index.gpu_uuids)}
    floor_w, most_w = np.zeros(len(boards)), np.zeros(len(boards))  # per GPU
    for board in boards:
        floor_w[row_of[board.uuid]] = most_w[row_of[board.uuid]] = board.accounted_w
    for view in placed:
        assert view.job.run is not None
        rows = [row_of[uuid] for uuid in view.job.run.gpu_uuids]
        tops = np.array([boards[int(index.gpu_uuids[r][4:])].max_cap_w for r in rows])
        scale = float(tops.min()) / view.curve.tdp_w
        floor_w[rows] = math.ceil(view.curve.cap_for(min(view.floor_share, FULL_SPEED)) * scale) + 1
        most_w[rows] = math.ceil(view.curve.cap_for(FULL_SPEED) * scale) + 1
    floors, most = index.under(index.leaf, floor_w), index.under(index.leaf, most_w)
    chosen = _spread(index.by_depth, BINDING_DOMAINS)
    limits = floors + GIVEN_SHARE * (most - floors) + index.base_under_w
    return {index.names[column]: float(limits[column]) for column in chosen.tolist()}


def _spread(by_depth: tuple[Ints, ...], count: int) -> Ints:
    """The root, then an even spread over rows, racks and nodes: of each at most a quarter, deepest last."""
    chosen: list[int] = [0]
    for columns, most in zip(by_depth[1:], (3, 6, count), strict=False):
        take = min(most, count - len(chosen), len(columns) // 4)
        at = np.linspace(0, len(columns) - 1, num=take + 2)[1:-1].round().astype(int)
        chosen += columns[np.unique(at)].tolist()
    return np.array(chosen[:count])


def draws_w(caps_w: Floats, demand_w: Floats, chance: np.random.Generator) -> Floats:
    """What busy GPUs draw under their caps, with the noise of a sensor."""
    noise: Floats = chance.normal(0.97, 0.01, size=len(caps_w)).clip(0.9, 1.0)
    return np.minimum(caps_w, demand_w) * noise

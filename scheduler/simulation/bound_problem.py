"""A scenario as a fluid: price slots, room in them, and work that may be spread over its window. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.budget import Budget
from power.curve_table import CurveTable
from power.tariff import JOULES_PER_MWH
from power.tree_index import TreeIndex
from scheduler.simulation.bound_levels import Levels, levels_of
from scheduler.simulation.model import BadInput, Scenario


@dataclass(frozen=True, kw_only=True)
class FluidSlots:
    """Half-open slots between `edges_s` (one more than slots); price and limits are constant in each.

    Energy while no price is known counts as free, as it does in a simulation's figures: its price is 0 here.
    """

    edges_s: Floats
    price_per_mwh: Floats
    priced: Bools
    room_w: Floats  # for all GPUs of the site together, idle ones included; infinite without a limit

    @property
    def seconds(self) -> Floats:
        return np.diff(self.edges_s)

    @property
    def price_per_ws(self) -> Floats:
        """Money per joule."""
        return self.price_per_mwh / JOULES_PER_MWH


@dataclass(frozen=True, kw_only=True)
class FluidJobs:
    """A row per job: `work_s` (at full speed) by each of `gpus`, between `start_s` and `end_s`, in running
    time of at most `longest_s`; `level` is its row of levels."""

    gpus: Floats
    work_s: Floats
    start_s: Floats
    end_s: Floats
    longest_s: Floats
    level: Ints

    def __len__(self) -> int:
        return len(self.gpus)

    def only(self, rows: Ints | slice) -> FluidJobs:
        """Some of them."""
        columns = ("gpus", "work_s", "start_s", "end_s", "longest_s", "level")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def from_launch(self, launch_s: float) -> FluidJobs:
        """With windows that begin when a job may launch, this long before it may work."""
        return replace(self, start_s=self.start_s - launch_s)


@dataclass(frozen=True, kw_only=True)
class FluidSite:
    """What does not depend on jobs. `idle_w` is the draw of one GPU at rest."""

    slots: FluidSlots
    gpus: int
    idle_w: float
    base_load_w: float
    pue: float


def fluid_jobs(
    scenario: Scenario,
    curves: CurveTable,
    row: Ints,
    latest_end_s: Floats,
    *,
    until_s: float,
    tolerance_share: float,
) -> tuple[FluidJobs, Levels]:
    """The jobs, and the levels they may run at.

    A window begins one launch after the submission (or `begin_at`) and ends at the earliest of deadline,
    `latest_end_s` and `until_s`, but not before the job can be done at full speed: no policy ends it
    earlier than that.

    Raises:
        BadInput: a job that needs more GPUs than there are, or columns of other lengths than there are jobs.
    """
    jobs = scenario.jobs
    if not len(row) == len(latest_end_s) == len(jobs):
        raise BadInput(
            f"the bound needs a curve and a latest end for each of {len(jobs)} jobs, "
            f"got {len(row)} and {len(latest_end_s)}"
        )
    boards = len(scenario.cluster.boards)
    wide = next((job for job in jobs if job.spec.gpus > boards), None)
    if wide is not None:
        raise BadInput(f"job {wide.id} needs {wide.spec.gpus} GPUs, {scenario.cluster.name} has {boards}")
    work_s = np.array([job.work_s for job in jobs], dtype=np.float64)
    tier = np.array([job.spec.contract.flex.share for job in jobs], dtype=np.float64)
    lost = np.minimum(tier + tolerance_share, 0.99)
    earliest_s, due_s = windows_s(scenario)
    start_s = earliest_s + least_launch_s(scenario)
    end_s = np.minimum(np.minimum(due_s, latest_end_s), until_s)
    keys, level = np.unique(2 * row + (lost <= 0), return_inverse=True)
    fluid = FluidJobs(
        gpus=np.array([job.spec.gpus for job in jobs], dtype=np.float64),
        work_s=work_s,
        start_s=start_s,
        end_s=np.maximum(end_s, start_s + work_s),
        longest_s=work_s / (1.0 - lost),
        level=np.asarray(level, dtype=np.int64).reshape(-1),
    )
    return fluid, levels_of(curves, keys // 2, keys % 2 == 1)


def fluid_site(scenario: Scenario, *, idle_w: float, until_s: float, last_s: float) -> FluidSite:
    """GPUs and loads, and slots from the scenario's start to `last_s`, one of which ends at `until_s`.

    Raises:
        BadInput: more than one kind of GPU.
    """
    boards, tree = scenario.cluster.boards, scenario.cluster.tree
    kinds = sorted({(board.model, board.min_cap_w, board.max_cap_w) for board in boards})
    if len(kinds) != 1:
        named = ", ".join(f"{model} ({least:g}-{most:g} W)" for model, least, most in kinds) or "none"
        raise BadInput(
            f"{scenario.cluster.name}: the bound is for GPUs of one kind, found {named}; "
            "take a cluster of one kind, or go without the bound"
        )
    return FluidSite(
        slots=_slots(scenario, until_s=until_s, last_s=last_s),
        gpus=len(boards),
        idle_w=idle_w,
        base_load_w=float(tree.index.base_under_w[0]),
        pue=float(tree.index.pue[0]),
    )


def least_launch_s(scenario: Scenario) -> float:
    """How long every job holds GPUs at least before it works for the first time."""
    return min(scenario.stop_times.launch_s, scenario.stop_times.restart_s)


def windows_s(scenario: Scenario) -> tuple[Floats, Floats]:
    """(earliest start, deadline) per job, the latter infinite where there is none."""
    start_s, due_s = [], []
    for job in scenario.jobs:
        begin, due = job.spec.begin_at, job.spec.contract.deadline
        earliest = job.submitted_at if begin is None else max(begin, job.submitted_at)
        start_s.append((earliest - scenario.start).total_seconds())
        due_s.append(np.inf if due is None else (due - scenario.start).total_seconds())
    return np.array(start_s, dtype=np.float64), np.array(due_s, dtype=np.float64)


def _slots(scenario: Scenario, *, until_s: float, last_s: float) -> FluidSlots:
    """Cut at every border of a price or a budget, and at `until_s`."""
    start = scenario.start
    until, end = start + timedelta(seconds=until_s), start + timedelta(seconds=last_s)
    borders = {start, until, end}
    for slot in scenario.prices.between(start, end):
        borders |= {slot.start, slot.end}
    for budget in scenario.budgets:
        borders |= {at for at in (budget.start, budget.end) if at is not None and start < at < end}
    times = sorted(borders)
    values = [scenario.prices.at(at) for at in times[:-1]]
    # Moments have whole microseconds, ends of jobs have not: a window must not reach beyond the last edge.
    exact_s = {until: until_s, end: last_s}
    return FluidSlots(
        edges_s=np.array([exact_s.get(at, (at - start).total_seconds()) for at in times], dtype=np.float64),
        price_per_mwh=np.array([0.0 if value is None else value for value in values], dtype=np.float64),
        priced=np.array([value is not None for value in values], dtype=bool),
        room_w=_rooms_w(scenario, times[:-1]),
    )


def _rooms_w(scenario: Scenario, times: list[datetime]) -> Floats:
    """Watts that the limits of all domains leave for the site's GPUs, from each of these times on."""
    tree = scenario.cluster.tree
    highest_w = {board.uuid: board.max_cap_w for board in scenario.cluster.boards}
    known: dict[tuple[Budget, ...], float] = {}
    rooms_w = []
    for at in times:
        holding = tuple(budget for budget in scenario.budgets if budget.holds_at(at))
        if holding not in known:
            known[holding] = _room_w(tree.index, tree.limits_at(at, holding), highest_w)
        rooms_w.append(known[holding])
    return np.array(rooms_w, dtype=np.float64)


def _room_w(index: TreeIndex, limits_w: Mapping[str, float], highest_w: Mapping[str, float]) -> float:
    """Each domain lets through its limit at most, and what is under it; infinite if no limit is felt."""
    most_w = np.array([highest_w.get(uuid, 0.0) for uuid in index.gpu_uuids], dtype=np.float64)
    through_w = np.bincount(index.leaf, most_w, len(index.names)).astype(np.float64)
    room_w = np.maximum(index.available_w(np.array([limits_w[name] for name in index.names])), 0.0)
    for column in range(len(index.names) - 1, -1, -1):
        through_w[column] = min(through_w[column], room_w[column])
        if column:
            through_w[index.parent[column]] += through_w[column]
    return float(np.inf) if through_w[0] >= most_w.sum() else float(through_w[0])

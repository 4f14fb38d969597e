"""All jobs of a scenario as columns that time moves: work, energy, cost. Decides nothing."""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from power.arrays import Bools, Floats, Ints
from power.tariff import JOULES_PER_KWH, JOULES_PER_MWH
from scheduler.simulation.model import JobOutcomes, Scenario


class Phase(IntEnum):
    """Where a job stands, as the silicon has it."""

    AWAY = 0  # not submitted yet
    WAITING = 1  # holds no GPU
    LAUNCHING = 2  # holds GPUs and draws, works not yet
    WORKING = 3
    FROZEN = 4  # holds GPUs, draws what an idle one does
    LEAVING = 5  # saves a checkpoint, then gives its GPUs back
    DONE = 6


class Work:
    """A row per job, in the scenario's order. `now_s` counts from the scenario's start."""

    def __init__(self, scenario: Scenario) -> None:
        jobs, count = scenario.jobs, len(scenario.jobs)
        self.now_s = 0.0
        self.submitted_s: Floats = np.array(
            [(job.submitted_at - scenario.start).total_seconds() for job in jobs], dtype=np.float64
        )
        self.gpus: Ints = np.array([job.spec.gpus for job in jobs], dtype=np.int64)
        self.work_s: Floats = np.array([job.work_s for job in jobs], dtype=np.float64)
        self.left_s: Floats = self.work_s.copy()
        # One byte each: all of a month's jobs are counted by it in every step.
        self.phase: NDArray[np.int8] = np.full(count, Phase.AWAY, dtype=np.int8)
        self.until_s: Floats = np.full(count, np.inf)  # when launching, leaving or freezing is over
        self.pace: Floats = np.zeros(count)  # work per second at the cap in force
        self.draw_w: Floats = np.zeros(count)  # of all its GPUs, while it holds them
        self._first_start_s: Floats = np.full(count, np.nan)
        self._ended_s: Floats = np.full(count, np.nan)
        self._running_s: Floats = np.zeros(count)
        self._stops: Ints = np.zeros(count, dtype=np.int64)
        self._energy_j: Floats = np.zeros(count)
        self._cost: Floats = np.zeros(count)
        self._co2_kg: Floats = np.zeros(count)
        self._holders: Ints = np.zeros(0, dtype=np.int64)

    @property
    def holders(self) -> Ints:
        """Rows of the jobs that hold GPUs, in order of their start."""
        return self._holders

    # --- time -----------------------------------------------------------------------------------------------

    def next_change_s(self) -> float:
        """When the next job that holds GPUs ends, begins to work, has left, or has frozen for too long."""
        rows = self._holders
        if not len(rows):
            return np.inf
        working = self.phase[rows] == Phase.WORKING
        with np.errstate(divide="ignore"):
            ends_s = self.now_s + self.left_s[rows] / self.pace[rows]
        return float(np.where(working, ends_s, self.until_s[rows]).min())

    def advance(self, to_s: float, *, price_per_mwh: float, carbon_g_per_kwh: float) -> None:
        """Time passes; nothing changes in between (see `next_change_s`). A NaN signal adds nothing."""
        seconds, rows = to_s - self.now_s, self._holders
        self.now_s = to_s
        if seconds <= 0 or not len(rows):
            return
        working = rows[self.phase[rows] == Phase.WORKING]
        self.left_s[working] -= self.pace[working] * seconds
        self._running_s[working] += seconds
        energy_j = self.draw_w[rows] * seconds
        self._energy_j[rows] += energy_j
        if not math.isnan(price_per_mwh):
            self._cost[rows] += energy_j * (price_per_mwh / JOULES_PER_MWH)
        if not math.isnan(carbon_g_per_kwh):
            self._co2_kg[rows] += energy_j * (carbon_g_per_kwh / JOULES_PER_KWH / 1e3)

    def count(self, phase: Phase) -> int:
        """How many jobs of the scenario are in this phase."""
        return int(np.count_nonzero(self.phase == phase))

    def due(self) -> Ints:
        """Holders whose time in their phase is up; of those that work: whose work is done."""
        rows = self._holders
        # Half a millisecond of work: what is left by rounding after steps of days.
        done = self.left_s[rows] <= 5e-4 * np.maximum(self.pace[rows], 1e-9)
        up: Bools = np.where(self.phase[rows] == Phase.WORKING, done, self.until_s[rows] <= self.now_s)
        return rows[up]

    # --- moves ----------------------------------------------------------------------------------------------

    def submit(self, row: int) -> None:
        self.phase[row] = Phase.WAITING

    def start(self, row: int, *, works_at_s: float) -> None:
        """It has GPUs from now on, and works from then on."""
        self.phase[row], self.until_s[row] = Phase.LAUNCHING, works_at_s
        if np.isnan(self._first_start_s[row]):
            self._first_start_s[row] = self.now_s
        self._holders = np.append(self._holders, row)

    def begin_work(self, rows: Ints) -> None:
        self.phase[rows], self.until_s[rows] = Phase.WORKING, np.inf

    def freeze(self, row: int, *, until_s: float) -> None:
        self.phase[row], self.until_s[row] = Phase.FROZEN, until_s

    def leave(self, row: int, *, gone_at_s: float) -> None:
        """It saves what it has done until now and will be gone then."""
        self.phase[row], self.until_s[row] = Phase.LEAVING, gone_at_s
        self._stops[row] += 1

    def put_back(self, row: int) -> None:
        """Its GPUs are free; it waits again."""
        self.phase[row], self.until_s[row] = Phase.WAITING, np.inf
        self._let_go(row)

    def end(self, row: int) -> None:
        """Its work is done."""
        self.phase[row], self.left_s[row] = Phase.DONE, 0.0
        self._ended_s[row] = self.now_s
        self._let_go(row)

    def _let_go(self, row: int) -> None:
        self.draw_w[row] = self.pace[row] = 0.0
        self._holders = self._holders[self._holders != row]

    def first_launch(self, row: int) -> bool:
        """It never held GPUs before."""
        return bool(np.isnan(self._first_start_s[row]))

    def outcomes(self) -> JobOutcomes:
        """As everything stands now."""
        return JobOutcomes(
            first_start_s=self._first_start_s.copy(),
            ended_s=self._ended_s.copy(),
            running_s=self._running_s.copy(),
            done_s=self.work_s - self.left_s,
            stops=self._stops.copy(),
            energy_j=self._energy_j.copy(),
            cost=self._cost.copy(),
            co2_kg=self._co2_kg.copy(),
        )

"""From plain arguments to a scenario: one door for the command line and the benchmarks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from power.budget import Budget
from power.grid.feed import Kind
from power.series import Series
from scheduler.model import Contract, JobSpec
from scheduler.simulation.budget_schedule import budgets_of
from scheduler.simulation.clusters import largest_gang
from scheduler.simulation.contracts import (
    DEFAULT_DEADLINE,
    DEFAULT_SHARES,
    ContractMix,
    contracts_of,
    parse_contracts,
    parse_deadline,
    parse_pausable,
)
from scheduler.simulation.estimates import EstimateHabits, estimates_of
from scheduler.simulation.model import (
    BadInput,
    Cadence,
    Cluster,
    Scenario,
    SimulatedJob,
    StopTimes,
)
from scheduler.simulation.series_files import read_series
from scheduler.simulation.trace import Trace, TraceRow, read_trace
from scheduler.simulation.workloads import EQUAL_SHARES, parse_workloads, workloads_of

ARGV = ("train",)


@dataclass(frozen=True, kw_only=True)
class ScenarioOptions:
    """What a simulation is asked for, texts as on the command line. Defaults of the rest are the scenario's.

    `start` is when second 0 of the trace is, and `days` are counted from there. `deadline` None = pausable
    jobs have none. `workloads` None = equal shares. `peak_w` is what a budget in per cent is of.
    """

    trace: Path
    prices: Path
    cluster: Cluster
    start: datetime
    carbon: Path | None = None
    days: tuple[float, float] | None = None
    vc: str | None = None
    contracts: str = DEFAULT_SHARES
    pausable: str = "high"
    deadline: str | None = DEFAULT_DEADLINE
    estimate_error: float = 0.3
    no_estimate: float = 0.0
    workloads: str | None = None
    priority: str = "standard"
    budget: str | None = None
    peak_w: float | None = None
    seed: int = 0
    patience_s: float = Scenario.patience_s
    headroom_w: float = Scenario.headroom_w
    carbon_cost_per_tonne: float = Scenario.carbon_cost_per_tonne
    cadence: Cadence = field(default_factory=Cadence)
    stop_times: StopTimes = field(default_factory=StopTimes)
    value_per_gpu_h: dict[str, float] | None = None


def scenario_of(options: ScenarioOptions) -> Scenario:
    """Read the files and put all together; what of the trace is left out stands in the scenario's `notes`.

    One seed: tiers, guesses, silence and workloads are each drawn from a stream of their own, and guesses and
    workloads per job of the whole file. So another share, sigma, cluster or choice of days changes no other
    draw; only tiers are dealt anew when other jobs take part, since they hold their shares of these.

    Raises:
        BadInput: names the file or the option and what is wrong with it.
    """
    trace = read_trace(
        options.trace,
        start=options.start,
        days=options.days,
        vc=options.vc,
        largest_gang=largest_gang(options.cluster),
    )
    scenario = Scenario(
        jobs=_jobs(trace, options),
        cluster=options.cluster,
        prices=_series(options, Kind.PRICE, options.prices, trace),
        carbon=_series(options, Kind.CARBON, options.carbon, trace),
        budgets=_budgets(options, trace.start),
        start=trace.start,
        end=trace.end,
        patience_s=options.patience_s,
        seed=options.seed,
        cadence=options.cadence,
        stop_times=options.stop_times,
        headroom_w=options.headroom_w,
        carbon_cost_per_tonne=options.carbon_cost_per_tonne,
        notes=tuple(map(str, trace.left_out)),
    )
    if options.value_per_gpu_h is not None:
        scenario = replace(scenario, value_per_gpu_h=options.value_per_gpu_h)
    if options.priority not in scenario.value_per_gpu_h:
        known = ", ".join(scenario.value_per_gpu_h)
        raise BadInput(f"priority: {ascii(options.priority)[:60]} is no class; the classes are {known}")
    return scenario


def _jobs(trace: Trace, options: ScenarioOptions) -> tuple[SimulatedJob, ...]:
    rows, chance = trace.rows, _Chance.of(options.seed)
    numbers = np.array([row.number for row in rows], dtype=np.int64)
    mix = ContractMix(
        shares=parse_contracts(options.contracts),
        pausable=parse_pausable(options.pausable),
        deadline=None if options.deadline is None else parse_deadline(options.deadline),
    )
    families = EQUAL_SHARES if options.workloads is None else parse_workloads(options.workloads)
    contracts = contracts_of(rows, mix, chance.tiers.random(trace.file_jobs)[numbers])
    guesses = estimates_of(
        np.array([row.duration_s for row in rows]),
        np.array([contract.deadline is not None for contract in contracts], dtype=np.bool_),
        EstimateHabits(sigma=options.estimate_error, silent_share=options.no_estimate),
        errors=chance.errors.standard_normal(trace.file_jobs)[numbers],
        silence=chance.silence.random(trace.file_jobs)[numbers],
    )
    workloads = workloads_of(families, chance.workloads.random(trace.file_jobs)[numbers])
    return tuple(
        _job(row, contract, guess, workload, options.priority)
        for row, contract, guess, workload in zip(rows, contracts, guesses, workloads, strict=True)
    )


def _job(
    row: TraceRow, contract: Contract, estimate_s: float | None, workload: str, priority: str
) -> SimulatedJob:
    spec = JobSpec(
        argv=ARGV,
        gpus=row.gpus,
        contract=contract,
        priority=priority,
        project=row.vc or "default",
        workload=workload,
        estimate_s=estimate_s,
    )
    return SimulatedJob(id=row.job_id, spec=spec, submitted_at=row.submitted_at, work_s=row.duration_s)


@dataclass(frozen=True, slots=True)
class _Chance:
    """Independent streams of one seed. A new one goes to the end: the place of a stream makes its draws."""

    tiers: np.random.Generator
    errors: np.random.Generator
    silence: np.random.Generator
    workloads: np.random.Generator

    @classmethod
    def of(cls, seed: int) -> _Chance:
        if seed < 0:
            raise BadInput(f"seed: must be a whole number from 0, got {seed}")
        return cls(*map(np.random.default_rng, np.random.SeedSequence(seed).spawn(4)))


def _series(options: ScenarioOptions, kind: Kind, path: Path | None, trace: Trace) -> Series:
    if path is None:
        return Series()
    until = trace.end + timedelta(seconds=options.patience_s)
    return read_series(path, kind, start=trace.start, end=trace.end, until=until)


def _budgets(options: ScenarioOptions, start: datetime) -> tuple[Budget, ...]:
    if options.budget is None:
        return ()
    return budgets_of(options.budget, tree=options.cluster.tree, start=start, peak_w=options.peak_w)

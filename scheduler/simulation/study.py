"""From options to results: one scenario, several policies side by side, the bound, the results."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np

from power.arrays import Floats
from scheduler.policy.named import open_policy
from scheduler.simulation.bound import Bound, cost_bound
from scheduler.simulation.common_end import common_end_s
from scheduler.simulation.measures import BELIEF_TOLERANCE_SHARE, can_wait
from scheduler.simulation.model import Outcome, Scenario
from scheduler.simulation.run import simulate
from scheduler.simulation.scenarios import ScenarioOptions, scenario_of
from scheduler.simulation.silicon import true_curves

REFERENCE: Final = "backfill"  # whose completion times and peak the others are held against
LATER_SHARE: Final = 0.05  # of a job's completion time: so much later a job that cannot wait may end
WATCH_EVERY_S: Final = 0.5

Watch = Callable[[Mapping[str, float]], None]  # share done, by policy


@dataclass(frozen=True, kw_only=True)
class Study:
    """All outcomes of one scenario in the order asked for, and what none of them can beat.

    Where there is no bound, the `notes` of `inputs` say why.
    """

    scenario: Scenario
    outcomes: tuple[Outcome, ...]
    bound: Bound | None
    inputs: Mapping[str, object]


def run_study(
    options: ScenarioOptions, policies: Sequence[str], *, processes: int = 1, watch: Watch | None = None
) -> Study:
    """Every policy on the same scenario, each in a process of its own where there are several.

    A budget in per cent, by itself or in a schedule, is of the peak at the meter that `backfill` reaches
    without any budget.

    Raises:
        BadInput: options, files, or a policy's name and options.
    """
    names = tuple(dict.fromkeys(policies))
    for name in names:
        open_policy(name)  # a wrong name is to be heard of before anything has run
    if options.peak_w is None and _is_of_a_peak(options.budget):
        options = replace(options, peak_w=uncapped_peak_w(options))
    scenario = scenario_of(options)
    outcomes = _outcomes(scenario, names, processes=processes, watch=watch)
    unbounded = _why_no_bound(scenario, names)
    return Study(
        scenario=scenario,
        outcomes=outcomes,
        bound=_bound(scenario, outcomes) if unbounded is None else None,
        inputs=_inputs(options, scenario, names, unbounded),
    )


def _is_of_a_peak(budget: str | None) -> bool:
    if budget is None or "%" in budget:
        return budget is not None
    path = Path(budget)
    return path.is_file() and b"%" in path.read_bytes()


def uncapped_peak_w(options: ScenarioOptions) -> float:
    """The highest draw at the meter under `backfill` where nothing limits it."""
    scenario = scenario_of(replace(options, budget=None))
    return float(simulate(scenario, open_policy(REFERENCE)).power.meter_w.max())


# --- policies -----------------------------------------------------------------------------------------------


def _outcomes(
    scenario: Scenario, names: Sequence[str], *, processes: int, watch: Watch | None
) -> tuple[Outcome, ...]:
    if processes <= 1 or len(names) == 1:
        return tuple(_here(scenario, names, watch))
    context = get_context("spawn")  # solvers bring threads, which a fork would leave behind
    with context.Manager() as manager, ProcessPoolExecutor(processes, mp_context=context) as pool:
        shares: MutableMapping[str, float] = manager.dict(dict.fromkeys(names, 0.0))
        asked = [pool.submit(_there, scenario, name, shares) for name in names]
        left: set[Future[Outcome]] = set(asked)
        while left:
            done, left = wait(left, timeout=WATCH_EVERY_S, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()  # a failure ends the study now, and not when the slowest policy is through
            if watch is not None:
                watch(dict(shares))
        return tuple(future.result() for future in asked)


def _here(scenario: Scenario, names: Sequence[str], watch: Watch | None) -> Iterator[Outcome]:
    shares: dict[str, float] = dict.fromkeys(names, 0.0)
    for name in names:
        note = _Note(name, shares)
        if watch is not None:
            note.tell = watch
        outcome = simulate(scenario, open_policy(name), progress=note)
        note(1.0)
        yield outcome


def _there(scenario: Scenario, name: str, shares: MutableMapping[str, float]) -> Outcome:
    """In a process of the pool; `shares` belongs to the one that watches."""
    note = _Note(name, shares)
    outcome = simulate(scenario, open_policy(name), progress=note)
    note(1.0)
    return outcome


class _Note:
    """Writes down how far a policy is, now and then; and 1 once it is through, which may be long before its
    patience is."""

    def __init__(self, name: str, shares: MutableMapping[str, float]) -> None:
        self._name, self._shares = name, shares
        self._next_s = 0.0
        self.tell: Watch | None = None

    def __call__(self, share: float) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s and share < 1.0:
            return
        self._next_s = now_s + WATCH_EVERY_S
        self._shares[self._name] = share
        if self.tell is not None:
            self.tell(dict(self._shares))


# --- the bound ----------------------------------------------------------------------------------------------


def _why_no_bound(scenario: Scenario, policies: Sequence[str]) -> str | None:
    """In words; None = there is one."""
    if REFERENCE not in policies:
        return f"no bound: it needs `{REFERENCE}`, whose ends are the contract of jobs that cannot wait"
    kinds = {(board.model, board.min_cap_w, board.max_cap_w) for board in scenario.cluster.boards}
    if len(kinds) > 1:
        return f"no bound: it is for GPUs of one kind, and {scenario.cluster.name} has {len(kinds)}"
    return None


def _bound(scenario: Scenario, outcomes: Sequence[Outcome]) -> Bound:
    """At the contracts by which policies are judged.

    A job that cannot wait is promised to end about when `backfill` ends it: that is its contract here.
    """
    reference = next(outcome for outcome in outcomes if outcome.policy == REFERENCE)
    curves, row = true_curves(scenario)
    return cost_bound(
        scenario,
        curves,
        row,
        latest_end_s=latest_ends_s(reference),
        until_s=common_end_s(outcomes),
        tolerance_share=BELIEF_TOLERANCE_SHARE,
    )


def latest_ends_s(reference: Outcome) -> Floats:
    """Per job, from the scenario's start: of one that cannot wait the end under the reference, and 5 % of its
    completion time on top; infinite for the others, whose deadline is their contract."""
    scenario = reference.scenario
    submitted_s = np.array([(job.submitted_at - scenario.start).total_seconds() for job in scenario.jobs])
    took_s = reference.jobs.ended_s - submitted_s
    latest_s = submitted_s + (1.0 + LATER_SHARE) * took_s
    waits = np.array([can_wait(job.spec) for job in scenario.jobs], dtype=bool)
    return np.where(waits | np.isnan(latest_s), np.inf, latest_s)


# --- what was asked -----------------------------------------------------------------------------------------


def _inputs(
    options: ScenarioOptions, scenario: Scenario, policies: Sequence[str], unbounded: str | None
) -> dict[str, object]:
    """For `summary.json`: enough to do it again, and to see that the files are the same."""
    asked: dict[str, Any] = {
        field.name: getattr(options, field.name) for field in fields(options) if field.name not in _NOT_PLAIN
    }
    files = {"trace": options.trace, "prices": options.prices, "carbon": options.carbon}
    return {
        "policies": list(policies),
        **{name: value for name, value in asked.items() if not isinstance(value, Path)},
        "start": scenario.start.isoformat(),
        "end": scenario.end.isoformat(),
        "cluster": {"name": options.cluster.name, "gpus": len(options.cluster.boards)},
        "cadence": asdict(options.cadence),
        "stop_times": asdict(options.stop_times),
        "jobs": len(scenario.jobs),
        "files": {
            name: {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for name, path in files.items()
            if path is not None
        },
        "notes": [*scenario.notes, *([] if unbounded is None else [unbounded])],
    }


_NOT_PLAIN: Final = frozenset({"cluster", "cadence", "stop_times", "start"})

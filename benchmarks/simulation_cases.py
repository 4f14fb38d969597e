"""What the results page of the simulator is made of: which weeks, which budgets, which policies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks.trace_sizes import TRACE
from scheduler.simulation.clusters import uniform_cluster
from scheduler.simulation.scenarios import ScenarioOptions

PRICES: Final = "grid/prices/DE-LU_dayahead_60min_2023.csv"
CARBON: Final = "grid/carbon/DE_lca_60min_2023.csv"
VIRTUAL_CLUSTER: Final = "cluster02"
GPUS: Final = 128
MODEL: Final = "NVIDIA A100"
# Under budgets H100s: at half of the peak of these A100s, hosts and boards at rest alone would be over it.
MODEL_UNDER_BUDGETS: Final = "NVIDIA H100"
SEED: Final = 0

OURS: Final = "wattmill"
BASELINE: Final = "backfill"
# Without a budget `uniform_cap` caps nothing and is `backfill`. So here it holds all boards at a share of
# their maximum: that at which, over measured training curves, a job takes the least energy.
ONE_CAP: Final = "uniform_cap:share=0.6"
OTHERS: Final = ("fifo", BASELINE, ONE_CAP, "price_threshold", "wait_awhile")
LEVERS: Final = ("caps", "shift", "pause", "pack")
BUDGET_POLICIES: Final = (BASELINE, "uniform_cap", OURS)
BUDGET_SHARES: Final = (0.80, 0.65, 0.50)  # of the uncapped peak at the meter, base load included

# Of a GPU-hour of standard work, in the currency of the prices. An A100 at work takes about 0.25 kW: at
# 100 EUR/MWh 0.025 EUR/h. The first is what such an hour is rented out for; the others are for sites where
# an hour of progress is worth a few times its electricity.
VALUES_PER_GPU_H: Final = (1.5, 0.1, 0.05)
LEVER_VALUE_PER_GPU_H: Final = 0.05  # where all levers have something to do
CLASS_FACTORS: Final = {"low": 1 / 3, "standard": 1.0, "high": 8 / 3}  # as in the defaults of the daemon


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Days of the trace, and the prices they meet: `start` is when the trace's second 0 is.

    Weeks are kept apart as wholes: what lies in a week that was looked at counts as tuning.
    """

    part: str  # `tuning`: of the weeks looked at while the policy was made; `held out`: of others
    start: datetime
    days: tuple[float, float]


SPRING: Final = datetime(2023, 3, 6, tzinfo=UTC)
SUMMER: Final = datetime(2023, 6, 5, tzinfo=UTC)
TUNING: Final = Window(part="tuning", start=SPRING, days=(0, 3))
HELD_OUT: Final = Window(part="held out", start=SPRING, days=(7, 10))
HELD_OUT_SUMMER: Final = Window(part="held out", start=SUMMER, days=(14, 17))
UNDER_BUDGETS: Final = Window(part="held out", start=SPRING, days=(7, 8))
WINDOWS: Final = (TUNING, HELD_OUT, HELD_OUT_SUMMER)
QUICK_DAYS: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scenario and the policies on it. `budget_share` is of the uncapped peak; None = no budget."""

    part: str
    value_per_gpu_h: float
    policies: tuple[str, ...]
    options: ScenarioOptions
    budget_share: float | None = None


def cases(data: Path, *, quick: bool = False) -> tuple[Case, ...]:
    """All cases of the page, in its order. `quick`: half a day of two windows, one value, one budget."""
    return (*_cost_cases(data, quick=quick), *_power_cases(data, quick=quick))


def without(lever: str) -> str:
    """Ours with one lever switched off, as a policy's name."""
    return f"{OURS}:{lever}=off"


def _cost_cases(data: Path, *, quick: bool) -> Iterator[Case]:
    """Policies of today look at no value, so all of them run where the levers do, and else `backfill`."""
    for window in map(_begin, WINDOWS[:2]) if quick else WINDOWS:
        for value in (LEVER_VALUE_PER_GPU_H,) if quick else VALUES_PER_GPU_H:
            policies: tuple[str, ...] = (BASELINE, OURS)
            if value == LEVER_VALUE_PER_GPU_H:
                policies = (*OTHERS, OURS, *_levers_off(window))
            yield _case(data, window, value, policies, MODEL)


def _levers_off(window: Window) -> tuple[str, ...]:
    """In one window of each part: every lever takes a simulation of its own."""
    return () if window.start == SUMMER else tuple(map(without, LEVERS))


def _power_cases(data: Path, *, quick: bool) -> Iterator[Case]:
    window = _begin(HELD_OUT) if quick else UNDER_BUDGETS
    for share in BUDGET_SHARES[1:2] if quick else BUDGET_SHARES:
        case = _case(data, window, VALUES_PER_GPU_H[0], BUDGET_POLICIES, MODEL_UNDER_BUDGETS)
        yield replace(case, budget_share=share)


def _begin(window: Window) -> Window:
    first, _ = window.days
    return replace(window, days=(first, first + QUICK_DAYS))


def _case(data: Path, window: Window, value: float, policies: tuple[str, ...], model: str) -> Case:
    options = ScenarioOptions(
        trace=data / TRACE,
        prices=data / PRICES,
        carbon=data / CARBON,
        cluster=uniform_cluster(gpus=GPUS, model=model),
        start=window.start,
        days=window.days,
        vc=VIRTUAL_CLUSTER,
        value_per_gpu_h={name: factor * value for name, factor in CLASS_FACTORS.items()},
        seed=SEED,
    )
    return Case(part=window.part, value_per_gpu_h=value, policies=policies, options=options)

"""What no policy can beat: the least cost, and the least mean completion time, known only in hindsight. Pure.

The bound knows every job, its true work and true power curve, and every price, and solves a problem that
contains every schedule of every policy. A schedule is described by how many seconds each job works in each
price slot, at which mix of caps. Every schedule that keeps its contracts satisfies, and so is contained:

- work: the seconds at each mix, times its throughput, sum to the job's work (here: at least to it);
- window: none before the submission, none after the latest end, and in each slot no more than the slot has
  of the window. Work may be broken and spread at will: real jobs, most of all those that cannot be paused,
  are more restricted;
- flex: work over running time is at least 1 - tier (the tier of any single hour is left out);
- caps: mean power and throughput in a slot are no better than the concave polygon around the true curve;
- GPUs: gangs use no more GPU-seconds in a slot than there are (gangs, nodes and places are left out);
- watts: the mean draw in a slot is within what all limits leave for GPUs (their caps are left out).

Its least cost is therefore no more than any schedule's. That problem is a linear programme, too large to be
written down for a month of a site; every price of shared GPUs and watts bounds it from below (`bound_dual`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from power.arrays import Floats, Ints
from power.curve_table import CurveTable
from power.tariff import JOULES_PER_KWH, JOULES_PER_MWH
from scheduler.simulation.bound_answers import Charge, answers, least_prices
from scheduler.simulation.bound_completion import least_mean_jct_s, least_mean_time_within
from scheduler.simulation.bound_dual import DualBound, Tariffed, dual_bound
from scheduler.simulation.bound_levels import Levels, levels_of
from scheduler.simulation.bound_problem import (
    FluidJobs,
    FluidSite,
    fluid_jobs,
    fluid_site,
    least_launch_s,
    windows_s,
)
from scheduler.simulation.model import BadInput, Scenario

STEPS = 20  # at most with all jobs, towards better prices of what is scarce


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """No policy at equal contracts is below any of these. Money in the currency of the prices.

    `cost` is of GPUs while they hold a job, at their boards; `site_cost` of the whole site at its meter, from
    the start to the common end; `energy_kwh` the least energy that `cost` could be of (not that of the
    cheapest schedule); `mean_jct_s` at any energy. `held_gain` is the most that a policy could earn below
    `cost` by holding GPUs frozen at prices below zero, which `cost` does not count (`site_cost` is not
    concerned: a frozen job's GPU draws what an idle one does).

    `gap` is how far `cost` is at most from the very optimum of the problem described above, as a share of it;
    None where scarce GPUs or watts leave that open. `notes` say in words what was left out.
    """

    cost: float
    site_cost: float
    energy_kwh: float
    mean_jct_s: float
    held_gain: float
    gap: float | None
    solve_s: float
    notes: tuple[str, ...]


def cost_bound(
    scenario: Scenario,
    curves: CurveTable,
    row: Ints,
    *,
    latest_end_s: Floats | None = None,
    until_s: float | None = None,
    tolerance_share: float = 0.0,
    idle_w: float | None = None,
    steps: int = STEPS,
) -> Bound:
    """The least cost of doing all work of the scenario within its contracts.

    Args:
        curves: true power curves; `row` is that of each job.
        latest_end_s: per job, seconds from the scenario's start, on top of its deadline. For policies that
            keep such ends alone; infinite (the default) = by `until_s`, which holds for all.
        until_s: the common end, for all policies that are compared: no job ended later, and the site's cost
            is counted until then. By default the end of the scenario's patience.
        tolerance_share: throughput beyond its tier that a job may lose and still count as kept.
        idle_w: draw of a GPU at rest. By default that of the curves.
        steps: at most, for more than a few thousand jobs, where GPUs or watts are scarce; more of them make
            the bound tighter, never less valid.

    A window in which a job cannot be done even at full speed, at once, is stretched to just that: no policy
    is better. Contracts that cannot be kept all together have no bound that means anything.

    Raises:
        BadInput: no jobs, several kinds of GPUs, a job wider than the cluster, or columns that do not fit.
    """
    began_s = time.perf_counter()
    if not scenario.jobs:
        raise BadInput("the bound needs at least one job")
    end_s = (scenario.end - scenario.start).total_seconds() + scenario.patience_s
    end_s = end_s if until_s is None else until_s
    latest_end_s = np.full(len(scenario.jobs), np.inf) if latest_end_s is None else latest_end_s
    jobs, levels = fluid_jobs(
        scenario, curves, row, latest_end_s, until_s=end_s, tolerance_share=tolerance_share
    )
    idle_w = float(curves.idle_w[row].min()) if idle_w is None else idle_w
    last_s = max(end_s, float(jobs.end_s.max()))
    site = fluid_site(scenario, idle_w=idle_w, until_s=end_s, last_s=last_s)
    held = dual_bound(jobs, levels, site, Tariffed(), steps=steps)
    above_idle = Tariffed(rate=site.pue, free_w=idle_w)
    whole = dual_bound(jobs, levels, site, above_idle, steps=steps, first=held.prices)
    launch = _Launches.of(jobs, levels, site, least_launch_s(scenario))
    return Bound(
        cost=held.value + launch.cost(Tariffed()),
        site_cost=whole.value + launch.cost(above_idle) + _unavoidable_cost(site, end_s),
        energy_kwh=_least_energy_kwh(jobs, levels, launch),
        mean_jct_s=completion_bound(scenario),
        held_gain=_held_gain(site),
        gap=held.gap,
        solve_s=time.perf_counter() - began_s,
        notes=_notes(site, held, end_s, tolerance_share),
    )


def completion_bound(
    scenario: Scenario,
    curves: CurveTable | None = None,
    row: Ints | None = None,
    *,
    energy_kwh: float | None = None,
) -> float:
    """The least mean completion time, submission to end, in seconds (see `bound_completion` for the proofs).

    With `energy_kwh` (of GPUs while they hold a job) that of policies which take no more; it needs the true
    curves. Infinite where that energy is not enough. Neither limits of power nor gangs count.

    Raises:
        BadInput: `energy_kwh` without curves.
    """
    start_s, _ = windows_s(scenario)
    submitted_s = np.array([(job.submitted_at - scenario.start).total_seconds() for job in scenario.jobs])
    work_s = np.array([job.work_s for job in scenario.jobs], dtype=np.float64)
    gpus = np.array([job.spec.gpus for job in scenario.jobs], dtype=np.float64)
    # Between its start and its end every job launches for this long, and does no work.
    launch_s = least_launch_s(scenario)
    least_s = launch_s + least_mean_jct_s(
        submitted_s=submitted_s,
        start_s=start_s,
        work_s=work_s,
        gpus=gpus,
        board_count=len(scenario.cluster.boards),
    )
    if energy_kwh is None or not len(work_s):
        return least_s
    if curves is None or row is None:
        raise BadInput("a completion time at equal energy needs the true curves and the row of each job")
    used, level = np.unique(row, return_inverse=True)
    levels = levels_of(curves, used, np.zeros(len(used), dtype=bool))
    within_s = least_mean_time_within(
        energy_kwh * JOULES_PER_KWH, levels=levels, level=level.reshape(-1), work_s=work_s, gpus=gpus
    )
    waited_s = float((start_s - submitted_s).mean())
    return max(least_s, waited_s + launch_s + within_s)


@dataclass(frozen=True)
class _Launches:
    """Every job launches once before it works: at no less than the least cap's draw, at best at the lowest
    price of its window (below zero: at the highest cap's draw)."""

    gpu_s: Floats  # per job
    least_w: Floats
    highest_w: Floats
    price_per_ws: Floats

    @classmethod
    def of(cls, jobs: FluidJobs, levels: Levels, site: FluidSite, launch_s: float) -> _Launches:
        lowest = least_prices(jobs.from_launch(launch_s), site.slots.edges_s, site.slots.price_per_ws)
        highest_w = levels.power_w[jobs.level, -1]
        return cls(launch_s * jobs.gpus, levels.least_w[jobs.level], highest_w, lowest)

    def cost(self, what: Tariffed) -> float:
        drawn_w = np.where(self.price_per_ws < 0, self.highest_w, self.least_w) - what.free_w
        return what.rate * float((self.gpu_s * self.price_per_ws * drawn_w).sum())


def _least_energy_kwh(jobs: FluidJobs, levels: Levels, launch: _Launches) -> float:
    """Of every job by itself, with all the time of its window."""
    all_time_s = np.array([0.0, float(jobs.end_s.max())])
    one = Charge(per_ws=np.ones(1), per_s=np.zeros(1))
    working_j = float((answers(jobs, levels, all_time_s, one).least_cost * jobs.gpus).sum())
    return (working_j + float((launch.gpu_s * launch.least_w).sum())) / JOULES_PER_KWH


def _unavoidable_cost(site: FluidSite, until_s: float) -> float:
    """Of all GPUs at rest, base loads and overhead, from the start until then."""
    slots = site.slots
    inside = slots.edges_s[1:] <= until_s
    seconds_price = float((slots.price_per_mwh * slots.seconds)[inside].sum())
    return site.pue * (site.gpus * site.idle_w + site.base_load_w) * seconds_price / JOULES_PER_MWH


def _held_gain(site: FluidSite) -> float:
    paid = np.maximum(-site.slots.price_per_ws, 0.0) * site.slots.seconds
    return float(paid.sum()) * site.gpus * site.idle_w


def _notes(site: FluidSite, held: DualBound, until_s: float, tolerance_share: float) -> tuple[str, ...]:
    slots = site.slots
    notes = [
        "work may be broken and spread over its window at will; gangs, nodes and places are left out, "
        "GPUs count as one pool",
        "prices are known in advance; stops cost nothing, each job launches once",
        "of the flex tier the mean over a job's running time counts, not that of any single hour",
        "price ceilings, longest pauses and dependencies are left out",
    ]
    if tolerance_share > 0:
        notes.append(
            f"each tier is taken as wider by {tolerance_share:.2%} of throughput, as when it is judged"
        )
    if np.isfinite(slots.room_w).any():
        notes.append("limits hold for the mean draw in a price slot, and for all GPUs of the site together")
    if held.gap is None:
        notes.append(
            "GPUs or watts are scarce: the bound is the best found by prices; at these the jobs, each on its "
            f"own, would use up to {held.excess_share:.1%} more than there is in a slot"
        )
    unpriced_h = float(slots.seconds[~slots.priced & (slots.edges_s[1:] <= until_s)].sum()) / 3600.0
    if unpriced_h > 0:
        notes.append(f"{unpriced_h:.1f} h until the common end have no price: energy then counts as free")
    gain = _held_gain(site)
    if gain > 0:
        notes.append(
            f"holding frozen GPUs at prices below zero is left out; it could earn at most {gain:.2f}"
        )
    return tuple(notes)

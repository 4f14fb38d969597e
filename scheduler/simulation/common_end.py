"""One end for all policies: a simulation ends with its last job, but the site goes on. Pure.

A policy that is done sooner would otherwise be billed for fewer hours of idle GPUs and hosts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from power.arrays import Floats, Ints
from scheduler.simulation.boards import Boards
from scheduler.simulation.model import Outcome, PowerTrace, Scenario
from scheduler.simulation.published import or_nan


def common_end_s(outcomes: Sequence[Outcome]) -> float:
    """When the last of these simulations ended, in seconds from the scenario's start; 0 for none."""
    return max((outcome.power.until_s for outcome in outcomes), default=0.0)


def to_common_end(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The same outcomes, each with an empty site from its own end to the last one's.

    Where jobs did not end the simulation went on for all of the scenario's patience, and nothing is added.
    """
    until_s = common_end_s(outcomes)
    return tuple(_empty_until(outcome, until_s) for outcome in outcomes)


def _empty_until(outcome: Outcome, until_s: float) -> Outcome:
    ended = bool(np.isfinite(outcome.jobs.ended_s).all())
    if not ended or until_s <= outcome.power.until_s:
        return outcome
    tail = _empty_site(outcome.scenario, outcome.power.until_s, until_s)
    trace = outcome.power
    columns = {
        name: np.concatenate([column, getattr(tail, name)])
        for name, column in vars(trace).items()
        if isinstance(column, np.ndarray)
    }
    return replace(outcome, power=replace(trace, until_s=until_s, **columns))


def _empty_site(scenario: Scenario, from_s: float, until_s: float) -> PowerTrace:
    """The site without jobs, in rows that end where a price, a carbon figure or a limit does."""
    boards = Boards(scenario.cluster, seed=scenario.seed)
    at_s = _borders_s(scenario, from_s, until_s)
    moments = [scenario.start + timedelta(seconds=second) for second in at_s.tolist()]
    limits_w = [_limits_w(scenario, moment) for moment in moments]
    rest_w, counted_w = float(boards.draw_w.sum()), boards.counted_w()
    none: Ints = np.zeros(len(at_s), dtype=np.int64)
    return PowerTrace(
        at_s=at_s,
        until_s=until_s,
        gpu_draw_w=np.full(len(at_s), rest_w),
        busy_draw_w=np.zeros(len(at_s)),
        meter_w=np.full(len(at_s), boards.site_w(rest_w)),
        caps_w=np.full(len(at_s), boards.site_w(float(counted_w.sum()))),
        limit_w=np.array([row[0] for row in limits_w]),
        excess_caps_w=np.array([boards.excess_w(counted_w, row) for row in limits_w]),
        excess_draw_w=np.array([boards.expected_excess_w(row) for row in limits_w]),
        price_per_mwh=np.array([or_nan(scenario.prices.at(moment)) for moment in moments]),
        carbon_g_per_kwh=np.array([or_nan(scenario.carbon.at(moment)) for moment in moments]),
        busy_gpus=none,
        waiting_jobs=none,
    )


def _borders_s(scenario: Scenario, from_s: float, until_s: float) -> Floats:
    edges = [
        edge for series in (scenario.prices, scenario.carbon) for s in series for edge in (s.start, s.end)
    ]
    edges += [edge for b in scenario.budgets for edge in (b.start, b.end) if edge is not None]
    seconds = {(edge - scenario.start).total_seconds() for edge in edges}
    return np.array([from_s, *sorted(second for second in seconds if from_s < second < until_s)])


def _limits_w(scenario: Scenario, moment: datetime) -> Floats:
    """Per column of the tree's index."""
    limits_w = scenario.cluster.tree.limits_at(moment, scenario.budgets)
    return np.array([limits_w[name] for name in scenario.cluster.tree.index.names])

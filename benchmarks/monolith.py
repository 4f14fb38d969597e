"""The obvious way: one CP-SAT model of everything, with the same time limit, on the same instance."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ortools.sat.python import cp_model

from benchmarks.baselines import Answer
from scheduler.placing.problem import ANY_SPLIT, Act, PlacementProblem

MONEY_STEPS = 1_000_000
WATT_STEPS = 10


class _OutOfTime(Exception):
    """The model was not even built within the limit."""


def monolithic_cp_sat(problem: PlacementProblem, *, time_limit_s: float) -> Answer:
    """One model of everything: an integer per (like jobs, pool, cap) and a choice per resident.

    `value` is None where the limit passed before the model was built or before a first answer.
    """
    began_s = time.perf_counter()
    try:
        model, objective, started = _monolith(problem, deadline_s=began_s + time_limit_s)
    except _OutOfTime:
        return Answer(None, time.perf_counter() - began_s)
    model.maximize(cp_model.LinearExpr.weighted_sum(*objective))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_time_in_seconds = max(0.01, time_limit_s - (time.perf_counter() - began_s))
    status = solver.solve(model)
    seconds = time.perf_counter() - began_s
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Answer(None, seconds)
    count = sum(int(solver.value(variable)) for variable in started)
    return Answer(solver.objective_value / MONEY_STEPS, seconds, count)


def _monolith(
    problem: PlacementProblem, *, deadline_s: float
) -> tuple[cp_model.CpModel, tuple[list[Any], list[int]], list[Any]]:
    model = cp_model.CpModel()
    worths: tuple[list[Any], list[int]] = ([], [])
    ranks = sorted(set(problem.groups.rank.tolist())) or [-1]  # nobody waits: limits hold all the same
    takes = _monolith_residents(model, problem, worths)
    rows = _monolith_starts(model, problem, worths, deadline_s)
    _monolith_gpus(model, problem, takes, rows, ranks)
    _monolith_watts(model, problem, takes, rows, ranks, deadline_s)
    return model, worths, [row[0] for row in rows.started]


@dataclass
class _Rows:
    """(variable, group, pool, GPUs per unit, cap) of every place a group may go; and starts per group."""

    places: list[tuple[Any, int, int, int, float]] = field(default_factory=list)
    started: list[tuple[Any, int]] = field(default_factory=list)


def _monolith_residents(
    model: cp_model.CpModel, problem: PlacementProblem, worths: tuple[list[Any], list[int]]
) -> list[Any]:
    takes = [model.new_bool_var("") for _ in range(len(problem.options))]
    bounds = np.searchsorted(problem.options.resident, np.arange(len(problem.residents) + 1))
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        model.add_exactly_one(takes[first:last])
    worths[0].extend(takes)
    worths[1].extend((problem.options.worth * MONEY_STEPS).round().astype(int).tolist())
    return takes


def _monolith_starts(
    model: cp_model.CpModel,
    problem: PlacementProblem,
    worths: tuple[list[Any], list[int]],
    deadline_s: float,
) -> _Rows:
    rows = _Rows()
    groups, pools, offers = problem.groups, problem.pools, problem.offers
    pools_of_kind = {kind: np.nonzero(pools.kind == kind)[0].tolist() for kind in set(pools.kind.tolist())}
    bounds = np.searchsorted(offers.group, np.arange(len(groups) + 1))
    for group in range(len(groups)):
        gpus, nodes, count = int(groups.gpus[group]), int(groups.nodes[group]), int(groups.count[group])
        unit = 1 if nodes == ANY_SPLIT else gpus // nodes
        units = []
        for offer in range(int(bounds[group]), int(bounds[group + 1])):
            for pool in pools_of_kind.get(int(offers.kind[offer]), ()):
                if (pools.reserved[pool] and not groups.backfill[group]) or not (
                    pools.settable[pool] or offers.top[offer]
                ):
                    continue
                most = min(int(pools.size[pool]) // unit, count * max(1, nodes))
                variable = model.new_int_var(0, most, "")
                units.append(variable)
                rows.places.append((variable, group, pool, unit, float(offers.cap_w[offer])))
                worths[0].append(variable)
                worths[1].append(round(float(offers.worth[offer]) * unit * MONEY_STEPS))
            if time.perf_counter() > deadline_s:
                raise _OutOfTime
        started = model.new_int_var(0, count, "")
        rows.started.append((started, group))
        model.add(cp_model.LinearExpr.sum(units) == started * (gpus // unit))
    return rows


def _monolith_gpus(
    model: cp_model.CpModel, problem: PlacementProblem, takes: list[Any], rows: _Rows, ranks: list[int]
) -> None:
    by_pool: dict[int, list[tuple[int, Any]]] = {}
    for variable, group, pool, unit, _ in rows.places:
        by_pool.setdefault(pool, []).append((int(problem.groups.rank[group]), unit * variable))
    freed: dict[int, list[tuple[int, Any]]] = {}
    stops = {
        int(problem.options.resident[o]): takes[o]
        for o in np.nonzero(problem.options.act == Act.PREEMPT)[0].tolist()
    }
    holds = problem.holds
    for resident, pool, count in zip(
        holds.resident.tolist(), holds.pool.tolist(), holds.freed.tolist(), strict=True
    ):
        if pool >= 0 and resident in stops:
            freed.setdefault(pool, []).append(
                (int(problem.residents.rank[resident]), count * stops[resident])
            )
    for pool, here in by_pool.items():
        ready = int(problem.pools.free[pool] + problem.pools.coming[pool])
        for rank in ranks:
            used = sum(term for own, term in here if own <= rank)
            model.add(used <= ready + sum(term for own, term in freed.get(pool, ()) if own < rank))


def _monolith_watts(
    model: cp_model.CpModel,
    problem: PlacementProblem,
    takes: list[Any],
    rows: _Rows,
    ranks: list[int],
    deadline_s: float,
) -> None:
    """One constraint per tight domain and rank: nobody profits from equals that stop or pause."""
    ancestors, options, holds = problem.index.ancestors, problem.options, problem.holds
    for domain in problem.tight.tolist():
        if time.perf_counter() > deadline_s:
            raise _OutOfTime
        under = (ancestors == domain).any(axis=1)
        watts_of: dict[int, list[float]] = {}
        here = np.nonzero(under[holds.leaf])[0]
        for row in here.tolist():
            entry = watts_of.setdefault(int(holds.resident[row]), [0.0, 0.0, 0.0])
            entry[0] += holds.steered[row]
            entry[1] += holds.fixed_w[row]
            entry[2] += holds.empty_w[row]
        for rank in ranks:
            terms, weights = [], []
            for option in range(len(options)):
                resident = int(options.resident[option])
                if resident not in watts_of:
                    continue
                steered, fixed_w, empty_w = watts_of[resident]
                stopped = options.act[option] == Act.PREEMPT
                watts = empty_w if stopped else fixed_w + steered * float(options.cap_w[option])
                if problem.residents.rank[resident] >= rank:
                    least = _least_cap_w(problem, resident)
                    watts = max(watts, fixed_w + steered * least)
                terms.append(takes[option])
                weights.append(int(np.ceil(watts * WATT_STEPS - 1e-6)))
            for variable, group, pool, unit, cap_w in rows.places:
                if under[problem.pools.leaf[pool]] and problem.groups.rank[group] <= rank:
                    one = problem.pools.loaded_w(np.array([pool]), np.array([cap_w]))[0]
                    terms.append(variable)
                    weights.append(int(np.ceil(unit * one * WATT_STEPS - 1e-6)))
            room = int(np.floor(problem.room_w[domain] * WATT_STEPS + 1e-6))
            model.add(cp_model.LinearExpr.weighted_sum(terms, weights) <= room)


def _least_cap_w(problem: PlacementProblem, resident: int) -> float:
    rows = np.nonzero((problem.options.resident == resident) & problem.options.least)[0]
    return float(problem.options.cap_w[rows[0]])

"""The relaxation as a linear programme: GPU-hours of each class, at each cap, in each merged slot.

It lets work be broken and spread, so it is easy; its duals are the prices of GPUs, watts, steps and the peak.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from ortools.math_opt import model_pb2
from ortools.math_opt.python import mathopt

from power.arrays import Floats, Ints
from scheduler.plan.classes import compressed, merged_slots
from scheduler.plan.prices import SlotPrices
from scheduler.plan.problem import PlanProblem
from scheduler.plan.runs import SLACK

LEAST_TIME_S = 0.02
MAX_CLASSES = 120
MAX_CAPS = 3


@dataclass(frozen=True)
class Relaxed:
    """Prices per slot of the problem (not merged), and by how many watts the month's peak rises."""

    prices: SlotPrices
    rise_w: float


@dataclass(frozen=True)
class _Cells:
    """The LP's variables: GPU-hours of a class by one offer in one merged slot; rates are per GPU-hour."""

    job: Ints  # standing for a class
    zone: Ints
    slot: Ints  # merged
    most: Floats
    gain: Floats
    share: Floats  # of an hour at full speed
    waste: Floats  # GPU-hours held per GPU-hour run: the rest of last slots is lost
    watts: Floats
    extra_w: Floats


@dataclass(frozen=True)
class _Rows:
    """Constraints `sum of coefficient x variable <= most`; `row` counts within the block."""

    most: Floats
    row: Ints
    column: Ints
    coefficient: Floats


def relax(problem: PlanProblem, *, time_limit_s: float) -> Relaxed | None:
    """Prices from the LP; None where it was not solved within the limit."""
    if time_limit_s < LEAST_TIME_S or not len(problem.offers):
        return None
    began_s = time.perf_counter()
    classes, begins = compressed(problem, MAX_CLASSES, caps=MAX_CAPS), merged_slots(problem)
    cells = _cells(classes, begins)
    if not len(cells.job):
        return None
    blocks = _blocks(classes, begins, cells)
    model = mathopt.Model.from_model_proto(_model(problem, cells, list(blocks.values())))
    left_s = max(LEAST_TIME_S, time_limit_s - (time.perf_counter() - began_s))
    limit = mathopt.SolveParameters(time_limit=timedelta(seconds=left_s), threads=1)
    rise = model.get_variable(len(cells.job))
    result = mathopt.solve(model, mathopt.SolverType.GLOP, params=limit, model_params=_asked_for([rise]))
    if result.termination.reason is not mathopt.TerminationReason.OPTIMAL:
        return None
    duals = np.maximum(np.array(result.dual_values(list(model.linear_constraints()))), 0.0)
    sizes = np.cumsum([len(block.most) for block in blocks.values()])[:-1]
    by_block = dict(zip(blocks, np.split(duals, sizes), strict=True))
    rise_w = result.variable_values([rise])[0]
    return Relaxed(_spread_out(problem, begins, by_block), rise_w)


def _asked_for(variables: list[mathopt.Variable]) -> mathopt.ModelSolveParameters:
    """Every dual, and of the variables only these: reading them all takes as long as the LP."""
    only = mathopt.VariableFilter(filtered_items=variables)
    return mathopt.ModelSolveParameters(variable_values_filter=only, reduced_costs_filter=only)


def _cells(problem: PlanProblem, begins: Ints) -> _Cells:
    """Every offer x merged slot in which it may run."""
    work, offers, slots, job = problem.work, problem.offers, problem.slots, problem.offers.job
    open_h = slots.hours[None, :] * (slots.market_per_mwh[None, :] <= work.ceiling_per_mwh[job][:, None])
    open_h = np.where(slots.known, open_h, 0.0)
    share = problem.gang_share[:, None]
    fits_alone = (problem.site.gpus[offers.zone] >= work.gpus[job][:, None] * share - SLACK) & (
        problem.site.zone_w[offers.zone] >= offers.watts[:, None] * share - SLACK
    )
    open_h = np.where(fits_alone, open_h, 0.0)
    left_h = np.clip(offers.latest_end_h[:, None] - slots.edges_h[:-1], 0.0, slots.hours)
    fits = offers.hours <= np.minimum(offers.latest_end_h, slots.edges_h[-1])
    allowed_h = np.add.reduceat(np.minimum(open_h, left_h) * fits[:, None], begins, axis=1)
    offer, slot = np.nonzero(allowed_h > 1e-9)
    job = job[offer]
    gpus, hours = work.gpus[job], offers.hours[offer]
    middle_h, price = _means(problem, begins)
    delay_h = np.maximum(0.0, middle_h[slot] + hours / 2 - work.full_h[job])
    money_h = (work.worth[job] - work.delay_per_h[job] * delay_h) / hours
    occupied = problem.occupied_h()[offer] / hours
    return _Cells(
        job=job,
        zone=offers.zone[offer],
        slot=slot,
        most=gpus * allowed_h[offer, slot],
        gain=(money_h - price[slot] * offers.extra_w[offer] / 1e6) / gpus,
        share=work.full_h[job] / hours,
        waste=occupied,
        watts=offers.watts[offer] / gpus * occupied,
        extra_w=offers.extra_w[offer] / gpus * occupied,
    )


def _means(problem: PlanProblem, begins: Ints) -> tuple[Floats, Floats]:
    """Per merged slot: its middle hour, and its mean price."""
    slots = problem.slots
    hours = np.add.reduceat(slots.hours, begins)
    price = np.where(slots.known, slots.price_per_mwh, 0.0) * slots.hours
    return slots.edges_h[begins] + hours / 2, np.add.reduceat(price, begins) / hours


def _blocks(problem: PlanProblem, begins: Ints, cells: _Cells) -> dict[str, _Rows]:
    """The constraints by what they bound."""
    site, slots = problem.site, problem.slots
    merged, columns = len(begins), np.arange(len(cells.job))
    free_gpu_h = np.add.reduceat(site.gpus * slots.hours, begins, axis=1)
    free_watt_h = np.add.reduceat(site.watts * slots.hours, begins, axis=1)
    inside, domain = np.nonzero(site.under[cells.zone])
    blocks = {
        "work": _Rows(problem.work.gpus * problem.work.full_h, cells.job, columns, cells.share),
        "gpu_h": _Rows(free_gpu_h.ravel(), cells.zone * merged + cells.slot, columns, cells.waste),
        "watt_h": _Rows(
            free_watt_h.ravel(), domain * merged + cells.slot[inside], inside, cells.watts[inside]
        ),
    }
    hours = np.add.reduceat(slots.hours, begins)
    mean_w = cells.extra_w / hours[cells.slot]
    if np.isfinite(site.ramp_w_per_min):
        up_w, down_w = (limit[begins] * _steps(begins, len(slots)) for limit in site.steps_w(slots))
        after = cells.slot + 1 < merged
        row = np.concatenate([cells.slot, cells.slot[after] + 1])
        column, step = np.concatenate([columns, columns[after]]), np.concatenate([mean_w, -mean_w[after]])
        blocks |= {"up_w": _Rows(up_w, row, column, step), "down_w": _Rows(down_w, row, column, -step)}
    if site.rise_price_per_w > 0:
        room_w = np.minimum.reduceat(site.peak_w - site.draw_w, begins)
        row = np.concatenate([cells.slot, np.arange(merged)])
        column = np.concatenate([columns, np.full(merged, len(columns))])
        blocks["peak_w"] = _Rows(room_w, row, column, np.concatenate([mean_w, np.full(merged, -1.0)]))
    return blocks


def _steps(begins: Ints, count: int) -> Ints:
    """Per merged slot: how many slots lie between the middle of the one before and its own, at least 1."""
    sizes = np.diff(np.append(begins, count))
    return np.asarray(np.maximum(1, (sizes + np.concatenate([sizes[:1], sizes[:-1]])) // 2))


def _model(problem: PlanProblem, cells: _Cells, blocks: list[_Rows]) -> model_pb2.ModelProto:
    """The LP with one more variable, the last: the watts by which the peak rises."""
    count = len(cells.job) + 1
    before = np.cumsum([0, *(len(block.most) for block in blocks)])
    rows = np.concatenate([block.row + at for block, at in zip(blocks, before[:-1], strict=True)])
    columns = np.concatenate([block.column for block in blocks])
    values = np.concatenate([block.coefficient for block in blocks])
    order = np.lexsort((columns, rows))
    model = model_pb2.ModelProto()
    model.variables.ids.extend(range(count))
    model.variables.lower_bounds.extend([0.0] * count)
    model.variables.upper_bounds.extend([*cells.most.tolist(), np.inf])
    model.variables.integers.extend([False] * count)
    model.linear_constraints.ids.extend(range(int(before[-1])))
    model.linear_constraints.lower_bounds.extend([-np.inf] * int(before[-1]))
    model.linear_constraints.upper_bounds.extend(np.concatenate([block.most for block in blocks]).tolist())
    matrix = model.linear_constraint_matrix
    matrix.row_ids.extend(rows[order].tolist())
    matrix.column_ids.extend(columns[order].tolist())
    matrix.coefficients.extend(values[order].tolist())
    model.objective.maximize = True
    model.objective.linear_coefficients.ids.extend(range(count))
    model.objective.linear_coefficients.values.extend([*cells.gain.tolist(), -problem.site.rise_price_per_w])
    return model


def _spread_out(problem: PlanProblem, begins: Ints, duals: dict[str, Floats]) -> SlotPrices:
    """Prices of the merged slots on the slots themselves; that of the peak is shared by hours."""
    site, count, merged = problem.site, len(problem.slots), len(begins)
    sizes = np.diff(np.append(begins, count))
    of_slot = np.repeat(np.arange(merged), sizes)
    hours = problem.slots.hours
    part = hours / np.add.reduceat(hours, begins)[of_slot]
    none = np.zeros(merged)
    return SlotPrices(
        gpu_h=duals["gpu_h"].reshape(len(site.zones), merged)[:, of_slot],
        watt_h=duals["watt_h"].reshape(len(site.domains), merged)[:, of_slot],
        up_w=_on_steps(duals.get("up_w", none), begins, count),
        down_w=_on_steps(duals.get("down_w", none), begins, count),
        peak_w=duals.get("peak_w", none)[of_slot] * part,
    )


def _on_steps(price: Floats, begins: Ints, count: int) -> Floats:
    """A merged step's price on every single step that it stands for, from middle to middle."""
    spread = np.zeros(count)
    for begin, steps, amount in zip(begins, _steps(begins, count), price, strict=True):
        first = max(0, begin - steps // 2)
        spread[first : first + steps] += amount
    return spread

"""An integer program with bounded columns: its bound by GLOP, its answer by CP-SAT among what is left open.

With the prices of its linear relaxation every column away from its better bound costs something. What costs
more than a budget is in no answer that loses less, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, floor

import numpy as np
from ortools.linear_solver.python.model_builder_helper import ModelBuilderHelper, ModelSolverHelper
from ortools.sat.python import cp_model

from power.arrays import Floats, Ints

MONEY_STEPS = 1_000_000  # integer steps per unit of money per hour
GLOP = "use_preprocessing: false"  # small as it is
ROUNDING = 1e-9


@dataclass
class Program:
    """Most worth, columns between 0 and `most`, rows `amounts @ columns <= limit` (or equal)."""

    worth: list[float] = field(default_factory=list)
    most: list[int] = field(default_factory=list)
    limit: list[int] = field(default_factory=list)
    equal: list[bool] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    amounts: list[int] = field(default_factory=list)

    def add_column(self, most: int, worth: float = 0.0) -> int:
        """The number of a new column."""
        self.most.append(most)
        self.worth.append(worth)
        return len(self.most) - 1

    def add_row(self, terms: Iterable[tuple[int, int]], limit: int, *, equal: bool = False) -> None:
        """A row of (column, amount); a column at most once."""
        row = len(self.limit)
        self.limit.append(limit)
        self.equal.append(equal)
        for column, amount in terms:
            self.rows.append(row)
            self.columns.append(column)
            self.amounts.append(amount)


@dataclass(frozen=True)
class Found:
    """What no answer of the columns that were left beats, and the amounts of all columns."""

    bound: float
    amounts: Ints


class Relaxation:
    """The program with fractions allowed: `bound`, and what a column earns at these prices."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.most = np.array(program.most, dtype=np.int64)
        price = self._prices()
        paid: Floats = np.bincount(
            self._columns, np.array(program.amounts) * price[self._rows], len(self.most)
        ).astype(np.float64)
        gain = np.array(program.worth) - paid
        self.gain: Floats = gain
        limits = np.array(program.limit, dtype=np.float64)
        self.bound = float(price @ limits + np.maximum(0.0, gain) @ self.most)

    @cached_property
    def _rows(self) -> Ints:
        return np.array(self.program.rows, dtype=np.int64)

    @cached_property
    def _columns(self) -> Ints:
        return np.array(self.program.columns, dtype=np.int64)

    def _prices(self) -> Floats:
        """Never below zero but where a row is an equation; any such prices give a valid bound."""
        program, linear = self.program, ModelBuilderHelper()
        for column, (worth, most) in enumerate(zip(program.worth, program.most, strict=True)):
            linear.add_var()
            linear.set_var_lower_bound(column, 0.0)
            linear.set_var_upper_bound(column, most)
            linear.set_var_objective_coefficient(column, worth)
        for row, (limit, equal) in enumerate(zip(program.limit, program.equal, strict=True)):
            linear.add_linear_constraint()
            linear.set_constraint_upper_bound(row, limit)
            if equal:
                linear.set_constraint_lower_bound(row, limit)
        for term in zip(program.rows, program.columns, program.amounts, strict=True):
            linear.add_term_to_constraint(*term)
        linear.set_maximize(True)
        solver = ModelSolverHelper("glop")
        solver.set_solver_specific_parameters(GLOP)
        solver.solve(linear)
        if not solver.has_solution():
            return np.zeros(len(program.limit))
        price = np.asarray(solver.dual_values(), dtype=np.float64)
        return np.where(program.equal, price, np.maximum(0.0, price))

    def solve(
        self, budget: float, hint: Ints | None, *, known: float, tolerance: float, time_limit_s: float
    ) -> Found | None:
        """The best answer among those that lose at most `budget`, to within `tolerance`; None without one.

        `known` is what no answer of the whole program is worth more than.
        """
        room = np.full(len(self.most), np.inf)
        np.divide(budget + ROUNDING, np.abs(self.gain), out=room, where=self.gain != 0.0)
        room = np.minimum(np.floor(room), self.most).astype(np.int64)
        least = np.where(self.gain > 0, self.most - room, 0)
        open_columns = np.nonzero(room)[0]
        model, variables = cp_model.CpModel(), {}
        for column in open_columns.tolist():
            low = int(least[column])
            variables[column] = model.new_int_var(low, low + int(room[column]), "")
        if hint is not None:
            for column, variable in variables.items():
                model.add_hint(variable, int(hint[column]))
        self._add_rows(model, variables, np.where(room > 0, 0, least), least + room)
        worths = [round(self.program.worth[column] * MONEY_STEPS) for column in variables]
        model.maximize(cp_model.LinearExpr.weighted_sum(list(variables.values()), worths))
        amounts = np.where(room > 0, 0, least)
        fixed = float(amounts @ np.array(self.program.worth))
        best = ceil((known - fixed) * MONEY_STEPS) + len(worths)  # each worth is rounded
        model.proto.objective.domain.extend([-best, np.iinfo(np.int64).max // 2])
        solver = _solver(tolerance, time_limit_s)
        if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return None
        amounts[open_columns] = [solver.value(variables[column]) for column in open_columns.tolist()]
        return Found(fixed + solver.best_objective_bound / MONEY_STEPS, amounts)

    def _add_rows(
        self, model: cp_model.CpModel, variables: dict[int, cp_model.IntVar], fixed: Ints, most: Ints
    ) -> None:
        """All rows that could still be broken."""
        program, amounts = self.program, np.array(self.program.amounts, dtype=np.int64)
        left = np.array(program.limit, dtype=np.int64)
        left -= np.bincount(self._rows, amounts * fixed[self._columns], len(left)).astype(np.int64)
        kept = np.array([column in variables for column in range(len(self.most))])[self._columns]
        highest = np.bincount(
            self._rows, np.maximum(0, amounts) * np.where(kept, most[self._columns], 0), len(left)
        )
        terms: dict[int, tuple[list[cp_model.IntVar], list[int]]] = {}
        for row, column, amount in zip(
            self._rows[kept].tolist(), self._columns[kept].tolist(), amounts[kept].tolist(), strict=True
        ):
            mine = terms.setdefault(row, ([], []))
            mine[0].append(variables[column])
            mine[1].append(amount)
        for row in range(len(left)):
            if not program.equal[row] and highest[row] <= left[row]:
                continue
            total = cp_model.LinearExpr.weighted_sum(*terms.get(row, ([], [])))
            model.add(total == int(left[row]) if program.equal[row] else total <= int(left[row]))


def _solver(tolerance: float, time_limit_s: float) -> cp_model.CpSolver:
    solver = cp_model.CpSolver()
    solver.parameters.random_seed = 0
    solver.parameters.num_workers = 1  # the same answer every time, and the jobs keep their cores
    solver.parameters.linearization_level = 1
    solver.parameters.cut_level = 0  # the rows of the program hold the cuts that count
    solver.parameters.add_lp_constraints_lazily = False
    solver.parameters.cp_model_presolve = False
    solver.parameters.symmetry_level = 0
    solver.parameters.cp_model_probing_level = 0
    solver.parameters.absolute_gap_limit = floor(tolerance * MONEY_STEPS)
    solver.parameters.max_time_in_seconds = max(0.0, time_limit_s)
    return solver

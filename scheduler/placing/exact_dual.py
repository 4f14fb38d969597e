"""Prices of the rows of a count model by linear programming: what one more of each would be worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ortools.linear_solver.python.model_builder_helper import ModelBuilderHelper, ModelSolverHelper

from power.arrays import Floats, Ints
from scheduler.placing.exact_model import CountModel


@dataclass(frozen=True)
class Relaxed:
    """The best that fractions of jobs could do: prices of rows (never negative) and starts per block."""

    price: Floats
    taken: Floats


class Linear:
    """The linear relaxation of one count model, posed once; only what blocks may take changes."""

    def __init__(self, model: CountModel) -> None:
        self.model, self.first, linear = model, len(model.rows.limit), ModelBuilderHelper()
        for column, worth in enumerate(model.worth.tolist()):
            linear.add_var()
            linear.set_var_lower_bound(column, 0.0)
            linear.set_var_objective_coefficient(column, worth)
        for row, limit in enumerate(model.rows.limit.tolist()):
            linear.add_linear_constraint()
            linear.set_constraint_upper_bound(row, limit)
        for _ in range(len(model.most)):
            linear.add_linear_constraint()
        rows, columns = np.nonzero(model.rows.use)
        amounts = model.rows.use[rows, columns].tolist()
        for row, column, amount in zip(rows.tolist(), columns.tolist(), amounts, strict=True):
            linear.add_term_to_constraint(row, column, amount)
        for column, block in enumerate(model.block.tolist()):
            linear.add_term_to_constraint(self.first + block, column, 1.0)
        linear.set_maximize(True)
        self.linear = linear

    def relax(self, least: Ints, most: Ints) -> Relaxed | None:
        """With so many taken per block, at least and at most; None where nothing is possible.

        Any prices give a valid bound (Lagrange), so no proof rests on the solver's exactness.
        """
        for block, (low, high) in enumerate(zip(least.tolist(), most.tolist(), strict=True)):
            self.linear.set_constraint_upper_bound(self.first + block, high)
            self.linear.set_constraint_lower_bound(self.first + block, low if low else -np.inf)
        solver = ModelSolverHelper("glop")
        solver.solve(self.linear)
        if not solver.has_solution():
            return None
        taken = np.asarray(solver.variable_values(), dtype=np.float64)
        return Relaxed(
            price=np.maximum(0.0, np.asarray(solver.dual_values(), dtype=np.float64)[: self.first]),
            taken=np.bincount(self.model.block, taken, len(most)).astype(np.float64),
        )

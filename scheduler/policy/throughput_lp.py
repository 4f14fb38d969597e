"""How much time each kind of job should have on each kind of GPU: Gavel's linear programmes.

Narayanan et al., `Heterogeneity-Aware Cluster Scheduling Policies for Deep Learning Workloads` (OSDI 2020),
sections 3.1 and 4.1, with jobs that are alike as one class.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from ortools.linear_solver.python.model_builder_helper import ModelBuilderHelper, ModelSolverHelper

from power.arrays import Floats, Ints

SPARE_WEIGHT: Final = 1e-3  # of the sum, where fairness leaves GPUs over


def shares(speed: Floats, gpus: Floats, count: Floats, there: Floats, *, fair: bool) -> Floats:
    """Classes x kinds: the fraction of time, 0..1, that each job of a class gets on a kind of GPU.

    Args:
        speed: classes x kinds, in any unit that all share; below 0 where the kind does not suit.
        gpus: of one job, per class.
        count: jobs, per class.
        there: GPUs, per kind.
        fair: maximise the least GPU time of a job, weighed by its speed against that of an even split,
            instead of the speeds of all GPUs together.

    Raises:
        RuntimeError: the solver has no answer, which no input of finite figures can cause.
    """
    job, kind = np.nonzero(speed >= 0.0)
    work = (speed * gpus[:, None])[job, kind]
    lp = _Lp(
        len(job) + 1
    )  # a variable per pair: jobs of the class there at a time; the last: the least share
    for row in range(len(count)):
        lp.at_most(float(count[row]), np.nonzero(job == row)[0], np.ones(int((job == row).sum())))
    for column in range(len(there)):
        pairs = np.nonzero(kind == column)[0]
        lp.at_most(float(there[column]), pairs, gpus[job[pairs]])
    if not fair:
        return _fractions(lp.maximised(np.append(work, 0.0)), speed, job, kind, count)
    even = np.maximum(np.maximum(speed, 0.0) @ there / max(1.0, float(there.sum())), 1e-9)
    for row in range(len(count)):
        pairs = np.nonzero(job == row)[0]
        own = np.append(-work[pairs] / (even[row] * count[row]), 1.0)
        lp.at_most(0.0, np.append(pairs, len(job)), own)  # the least share is no more than its own
    spare = SPARE_WEIGHT * work / max(1.0, float(work.max(initial=0.0) * there.sum()))
    return _fractions(lp.maximised(np.append(spare, 1.0)), speed, job, kind, count)


def _fractions(found: Floats, speed: Floats, job: Ints, kind: Ints, count: Floats) -> Floats:
    fraction = np.zeros(speed.shape)
    fraction[job, kind] = np.clip(found[:-1] / count[job], 0.0, 1.0)
    return fraction


class _Lp:
    """Variables of 0 and more under rows of `sum of coefficient x variable <= most`."""

    def __init__(self, variables: int) -> None:
        self._model, self._rows = ModelBuilderHelper(), 0
        for column in range(variables):
            self._model.add_var()
            self._model.set_var_lower_bound(column, 0.0)

    def at_most(self, most: float, columns: Ints, coefficients: Floats) -> None:
        self._model.add_linear_constraint()
        self._model.set_constraint_upper_bound(self._rows, most)
        for column, coefficient in zip(columns.tolist(), coefficients.tolist(), strict=True):
            self._model.add_term_to_constraint(self._rows, column, coefficient)
        self._rows += 1

    def maximised(self, worth: Floats) -> Floats:
        """The variables at the greatest sum of worth x variable."""
        for column, each in enumerate(worth.tolist()):
            self._model.set_var_objective_coefficient(column, each)
        self._model.set_maximize(True)
        solver = ModelSolverHelper("glop")
        solver.solve(self._model)
        if not solver.has_solution():
            raise RuntimeError(f"the throughput LP has no answer: {solver.status()}")
        return np.asarray(solver.variable_values(), dtype=np.float64)

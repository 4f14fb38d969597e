"""What the simulated silicon really does under a cap. No policy sees it: decisions go by `power.curve.prior`
and by what is learned from draws, as in the daemon.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from power.arrays import Floats, Ints
from power.curve import CapCurve, prior
from power.curve_table import CurveTable
from scheduler.gpu_table import GpuKind
from scheduler.simulation.model import Cluster, Scenario, SimulatedJob

VARIANTS: Final = 8  # kinds of jobs within one workload family: as many true curves for each
NOISE_SHARE: Final = 0.012  # standard deviation of a busy board's draw from second to second

# How far a job of a family is from the family's fitted curve, as shares either way. They are of the size of
# the fits' own errors (5.4 % throughput, 3 % power, left-one-workload-out, see `power/curve.py`).
_DEMAND, _KNEE, _STEEPNESS, _POWER = 0.10, 0.05, 0.10, 0.03


def kinds_of(cluster: Cluster) -> tuple[tuple[GpuKind, ...], Ints]:
    """(kinds of boards in the order of their first, per board: which of them it is)."""
    codes: dict[GpuKind, int] = {}
    kinds = (GpuKind(model=b.model, min_cap_w=b.min_cap_w, max_cap_w=b.max_cap_w) for b in cluster.boards)
    codes_of_boards = [codes.setdefault(kind, len(codes)) for kind in kinds]
    return tuple(codes), np.array(codes_of_boards, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Silicon:
    """True curves: `row[job, kind]` into `curves`, for each job of the scenario on each kind of board."""

    curves: CurveTable
    row: Ints
    kinds: tuple[GpuKind, ...]
    kind_of_board: Ints  # per board of the cluster

    @classmethod
    def of(cls, scenario: Scenario) -> Silicon:
        """Drawn from the scenario's seed: the same for every policy."""
        kinds, kind_of_board = kinds_of(scenario.cluster)
        chance = np.random.default_rng([scenario.seed, 1])
        variant = chance.integers(VARIANTS, size=len(scenario.jobs))
        truths = _Truths(scenario.seed)
        curves = [
            truths.curve(kind, job, int(number))
            for job, number in zip(scenario.jobs, variant, strict=True)
            for kind in kinds
        ]
        table, rows = CurveTable.of(curves)
        return cls(
            curves=table,
            row=rows.reshape(len(scenario.jobs), len(kinds)),
            kinds=kinds,
            kind_of_board=kind_of_board,
        )

    def throughput(self, rows: Ints, cap_w: Floats) -> Floats:
        """Work per second, 1 = uncapped; `rows` into `curves`."""
        return self.curves.throughput(rows, cap_w)

    def power_w(self, rows: Ints, cap_w: Floats) -> Floats:
        """Mean draw of one busy board."""
        return self.curves.power_w(rows, cap_w)


class _Truths:
    """One curve per (kind, workload, variant), made once."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._known: dict[tuple[GpuKind, str, int], CapCurve] = {}

    def curve(self, kind: GpuKind, job: SimulatedJob, variant: int) -> CapCurve:
        workload = job.spec.workload or ""
        key = (kind, workload, variant)
        if key not in self._known:
            self._known[key] = self._drawn(kind, workload, variant)
        return self._known[key]

    def _drawn(self, kind: GpuKind, workload: str, variant: int) -> CapCurve:
        believed = prior(
            kind.model, min_cap_w=kind.min_cap_w, max_cap_w=kind.max_cap_w, workload=workload or None
        )
        chance = np.random.default_rng([self._seed, 2, variant, *f"{kind.model}/{workload}".encode()])
        demand, knee, steepness, power = chance.uniform(-1.0, 1.0, size=4).tolist()
        return replace(
            believed,
            demand_w=believed.demand_w * (1.0 + _DEMAND * demand),
            t6_s=believed.t6_s * (1.0 + _KNEE * knee),
            t6_gamma=believed.t6_gamma * (1.0 + _STEEPNESS * steepness),
            p4_a=believed.p4_a * (1.0 + _POWER * power),
            throughput_error=0.0,
            power_error=0.0,
        )


def true_curves(scenario: Scenario) -> tuple[CurveTable, Ints]:
    """(true curves, the row of each job's) on the first kind of board of the cluster."""
    silicon = Silicon.of(scenario)
    return silicon.curves, silicon.row[:, 0]

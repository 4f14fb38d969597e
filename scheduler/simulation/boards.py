"""All boards of a simulated site as columns: limits, draws, and what a sensor shows of them."""

from __future__ import annotations

import math

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.curve import prior
from power.readings import Processes, Readings
from power.tree_index import OUTSIDE
from scheduler.gpu_table import GpuKind
from scheduler.simulation.model import Cluster
from scheduler.simulation.silicon import NOISE_SHARE, kinds_of

_BUSY_UTILIZATION = 0.98


class Boards:
    """A row per board, in the cluster's order. Limits hold at once; empty boards keep theirs."""

    def __init__(self, cluster: Cluster, *, seed: int) -> None:
        kinds, self.kind = kinds_of(cluster)
        self._index = cluster.tree.index
        leaf_of = dict(zip(self._index.gpu_uuids, self._index.leaf.tolist(), strict=True))
        self._leaf: Ints = np.array([leaf_of.get(b.uuid, OUTSIDE) for b in cluster.boards], dtype=np.int64)
        self.uuids = tuple(board.uuid for board in cluster.boards)
        self.row_of = {uuid: row for row, uuid in enumerate(self.uuids)}
        self.min_cap_w: Floats = np.array([b.min_cap_w for b in cluster.boards], dtype=np.float64)
        self.max_cap_w: Floats = np.array([b.max_cap_w for b in cluster.boards], dtype=np.float64)
        self.cap_w: Floats = self.max_cap_w.copy()
        self.idle_w: Floats = np.array([_idle_w(k) for k in kinds], dtype=np.float64)[self.kind]
        self.draw_w: Floats = self.idle_w.copy()
        self.busy: Bools = np.zeros(len(self.uuids), dtype=bool)
        self._chance = np.random.default_rng([seed, 3])

    def __len__(self) -> int:
        return len(self.uuids)

    def readings(self, now_s: float) -> Readings:
        """One look at all of them, with the noise of single seconds."""
        noise = 1.0 + NOISE_SHARE * self._chance.standard_normal(len(self))
        return Readings(
            read=np.ones(len(self), dtype=bool),
            at_s=np.full(len(self), now_s),
            power_w=np.where(self.busy, np.minimum(self.draw_w * noise, self.cap_w), self.draw_w),
            enforced_cap_w=self.cap_w.copy(),
            utilization=np.where(self.busy, _BUSY_UTILIZATION, 0.0),
            processes=np.where(self.busy, Processes.SOME, Processes.NONE).astype(np.int64),
        )

    def counted_w(self) -> Floats:
        """The most that each may draw: its cap where it is busy, its rest where it is not."""
        return np.where(self.busy, self.cap_w, self.idle_w)

    def site_w(self, board_w: float) -> float:
        """The site's meter when all its boards draw so much."""
        return float((board_w + self._index.base_under_w[0]) * self._index.pue[0])

    def metered_w(self, board_w: Floats) -> Floats:
        """Per domain: these watts of boards as its meter shows them, base loads and overhead included."""
        return self._index.metered_w(self._index.under(self._leaf, board_w))

    def excess_w(self, board_w: Floats, limit_w: Floats) -> float:
        """The largest excess over any domain's limit; 0 where all hold."""
        return max(0.0, float((self.metered_w(board_w) - limit_w).max()))

    def expected_excess_w(self, limit_w: Floats) -> float:
        """The largest expected excess of single seconds' draws over any limit: E[max(0, draw - limit)].

        A domain's draw is the sum of its boards', each with its own normal noise.
        """
        mean_w = self.metered_w(self.draw_w)
        noisy = np.where(self.busy, (NOISE_SHARE * self.draw_w) ** 2, 0.0)
        spread_w = np.sqrt(self._index.under(self._leaf, noisy)) * self._index.pue
        rows = np.nonzero(np.isfinite(limit_w))[0]
        return max((_excess_w(mean_w[r] - limit_w[r], spread_w[r]) for r in rows.tolist()), default=0.0)


def _excess_w(above_w: float, spread_w: float) -> float:
    """E[max(0, X)] of a normal X with this mean and standard deviation."""
    if spread_w <= 0:
        return max(0.0, above_w)
    z = above_w / spread_w
    density = math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return spread_w * density + above_w * 0.5 * math.erfc(-z / math.sqrt(2))


def _idle_w(kind: GpuKind) -> float:
    return prior(kind.model, min_cap_w=kind.min_cap_w, max_cap_w=kind.max_cap_w).idle_w

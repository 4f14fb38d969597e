"""What can never start here, or not before maintenance ends: with the nearest that could."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from power.arrays import Ints
from scheduler.model import WaitReason
from scheduler.placing.build import Posed
from scheduler.placing.levels import Terms, floor_w
from scheduler.placing.queue import NEVER

Reason = tuple[WaitReason, str]
FITS_W = 1e-6


def gpus_word(count: int) -> str:
    """`1 GPU`, `2 GPUs`."""
    return f"{count} GPU" if count == 1 else f"{count} GPUs"


class Never:
    """Looks at the whole hardware, in service or not; what jobs ask alike is looked up once."""

    def __init__(self, posed: Posed) -> None:
        self._posed = posed
        self._asks: dict[tuple[int, int, int], Reason | None] = {}
        self._told: dict[int, Reason | None] = {}  # by kin
        of = posed.queue.kin
        self._key = list(zip(of.gpus.tolist(), of.asked_nodes.tolist(), of.gpu_type.tolist(), strict=True))
        gpus = posed.snapshot.gpus
        kinds = max(1, len(gpus.kinds))
        self._of_kind: Ints = np.bincount(gpus.kind, minlength=kinds)

    def reason(self, kin: int) -> Reason | None:
        """None: it could start, were everything free."""
        if kin not in self._told:
            key = self._key[kin]
            if key not in self._asks:
                self._asks[key] = self._too_large(*key)
            self._told[kin] = self._asks[key] or self._too_few_watts(kin) or self._away(kin)
        return self._told[kin]

    def _too_large(self, gpus: int, nodes: int, gpu_type: int) -> Reason | None:
        suits = self._suits(gpu_type)
        name = self._posed.snapshot.jobs.gpu_types[gpu_type]
        if not len(suits) and name is None:
            return WaitReason.UNSATISFIABLE, f"asks for {gpus_word(gpus)}; there is none"
        if not len(suits):
            models = ", ".join(sorted({kind.model for kind in self._posed.snapshot.gpus.kinds})) or "none"
            return WaitReason.UNSATISFIABLE, f"asks for a GPU of type {name!r}; there is {models}"
        largest = int(self._of_kind[suits].max())
        if gpus > largest:
            of_type = f" of type {name!r}" if name else ""
            asks = f"asks for {gpus_word(gpus)}{of_type}"
            return WaitReason.UNSATISFIABLE, f"{asks}, the largest that can ever fit is {largest}"
        return self._too_wide(gpus, nodes, suits) if nodes > 1 else None

    def _too_wide(self, gpus: int, nodes: int, suits: Ints) -> Reason | None:
        sizes = self._sizes[:, suits]
        if int((sizes >= gpus // nodes).sum(axis=0).max()) >= nodes:
            return None
        return (
            WaitReason.UNSATISFIABLE,
            f"asks for {nodes} nodes with {gpus_word(gpus // nodes)} each, which no set of nodes has;"
            f" the largest single node has {int(sizes.max())}",
        )

    @cached_property
    def _sizes(self) -> Ints:
        """GPUs per node (domain column) and kind."""
        gpus, kinds = self._posed.snapshot.gpus, len(self._of_kind)
        code = (np.maximum(gpus.leaf, 0) * kinds + gpus.kind)[gpus.leaf >= 0]
        count = np.bincount(code, minlength=len(self._posed.problem.index.names) * kinds)
        return np.asarray(count.reshape(-1, kinds), dtype=np.int64)

    @cached_property
    def _usable(self) -> Ints:
        """GPUs in service per kind."""
        gpus = self._posed.snapshot.gpus
        return np.bincount(gpus.kind[gpus.usable], minlength=len(self._of_kind))

    def _too_few_watts(self, kin: int) -> Reason | None:
        """The root's configured limit against the job alone, everything else idle."""
        posed, of = self._posed, self._posed.queue.kin
        index, gpus = posed.problem.index, int(of.gpus[kin])
        root = posed.snapshot.tree.domains[index.names[0]]
        if math.isinf(root.limit_w):
            return None
        kind = int(self._suits(int(of.gpu_type[kin]))[0])
        cap_w = self._floor_w(kin, kind)
        left_w = root.limit_w / root.pue - float(index.base_under_w[0]) - self._idle_beside_w(gpus)
        need_w = cap_w * gpus
        if need_w <= left_w + FITS_W:
            return None
        fits = max(0, math.floor(left_w / cap_w))
        return (
            WaitReason.UNSATISFIABLE,
            f"needs {need_w:.0f} W at its contract floor; {root.name} is built for {left_w:.0f} W beside idle"
            f" GPUs: the largest that can ever fit is {gpus_word(fits)}",
        )

    def _floor_w(self, kin: int, kind: int) -> float:
        posed, of = self._posed, self._posed.queue.kin
        one = slice(kin, kin + 1)
        terms = Terms(
            board=posed.boards.row(of.curve[one], np.array([kind])),
            floor_share=of.floor_share[one],
            rule_share=of.rule_share[one],
            value=of.value[one],
        )
        return float(floor_w(posed.boards, terms)[0])

    def _idle_beside_w(self, gpus: int) -> float:
        """All GPUs but this many at rest, those that rest with the most watts being the ones in use."""
        idle_w = np.sort(self._posed.snapshot.gpus.idle_w)
        return float(idle_w[: len(idle_w) - gpus].sum())

    def _away(self, kin: int) -> Reason | None:
        of = self._posed.queue.kin
        if int(of.nodes[kin]) != NEVER:
            return None
        suits = self._suits(int(of.gpu_type[kin]))
        there, usable = int(self._of_kind[suits].sum()), int(self._usable[suits].sum())
        return (
            WaitReason.NODE_MAINTENANCE,
            f"needs {gpus_word(int(of.gpus[kin]))}; {there - usable} of {there} are cordoned, unhealthy or"
            f" used by others, {usable} left",
        )

    def _suits(self, gpu_type: int) -> Ints:
        kinds: Ints = np.nonzero(self._posed.queue.fits[gpu_type])[0]
        return kinds

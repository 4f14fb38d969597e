"""What the plan says GPUs and watts are worth in the present slot to work that it has put there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from power.arrays import Floats
from scheduler.placing.pools import PoolMap
from scheduler.snapshot import Snapshot
from scheduler.windows import Plan, ShadowPrice


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """Money per hour that a start takes from planned work: per GPU, and per watt of cap by kind of GPU."""

    per_gpu: float
    per_w: Floats


def shadow_of(snapshot: Snapshot, pools: PoolMap, plan: Plan | None) -> Shadow:
    """Zero without a plan. Where domains differ, the least that a kind's pools would take."""
    per_w = np.zeros(len(snapshot.gpus.kinds))
    slot = None if plan is None else _slot_at(plan, snapshot.now)
    if slot is None:
        return Shadow(per_gpu=0.0, per_w=per_w)
    index = snapshot.tree.index
    own = np.array([max(0.0, slot.watt_h.get(name, 0.0)) for name in index.names])
    over = index.ancestors
    path = np.sum(np.where(over >= 0, own[np.maximum(over, 0)], 0.0), axis=1)
    least = np.full(len(per_w), np.inf)
    np.minimum.at(least, pools.pools.kind, path[pools.pools.leaf])
    return Shadow(per_gpu=max(0.0, slot.gpu_h), per_w=np.where(np.isfinite(least), least, 0.0))


def _slot_at(plan: Plan, now: datetime) -> ShadowPrice | None:
    return next((slot for slot in plan.shadow if slot.start <= now < slot.end), None)

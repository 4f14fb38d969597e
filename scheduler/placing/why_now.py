"""Why a job that could run here does not start now: GPUs, watts, or others that come first."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Ints
from scheduler.model import WaitReason
from scheduler.placing.build import Posed
from scheduler.placing.priorities import starts_with
from scheduler.placing.problem import ANY_SPLIT
from scheduler.placing.scene import Scene, gang_fits
from scheduler.placing.why_never import Reason, gpus_word

NEARLY_W = 0.05

__all__ = ["Reason", "WhyNow"]


@dataclass(frozen=True)
class _Spot:
    """The pool with the most watts left of those that have the GPUs, and the domains over it."""

    pool: int
    kind: int
    empty_w: float
    settable: bool
    max_cap_w: float
    tightest: str
    before_w: float  # left at contract floors without the starts
    left_w: float  # and with them
    lefts: tuple[tuple[str, float], ...]  # by domain, nearest first
    short: bool

    def loaded_w(self, cap_w: float) -> float:
        """Watts that one more loaded GPU adds."""
        return max(0.0, (cap_w if self.settable else self.max_cap_w) - self.empty_w)


@dataclass(frozen=True)
class _Ask:
    """What jobs that ask for the same GPUs share: why they lack them, or where watts are looked at."""

    gpus: Reason | None
    spot: _Spot | None


class WhyNow:
    """The sentences of one scene; what jobs ask alike is looked up once."""

    def __init__(self, posed: Posed, scene: Scene) -> None:
        self._posed, self._scene = posed, scene
        self._pools = posed.problem.pools
        self._asks: dict[tuple[int, int, int], _Ask] = {}
        of = posed.queue.kin
        self._key = list(zip(of.gpus.tolist(), of.nodes.tolist(), of.gpu_type.tolist(), strict=True))
        self._raised = starts_with(posed, scene)
        terraces = posed.terraces
        self._pair = {
            pair: row
            for row, pair in enumerate(zip(terraces.kin.tolist(), terraces.kind.tolist(), strict=True))
        }

    def reason(self, kin: int) -> Reason:
        """For a kin that some set of pools could hold."""
        key = self._key[kin]
        if key not in self._asks:
            self._asks[key] = self._ask(*key)
        ask = self._asks[key]
        if ask.spot is None:
            assert ask.gpus is not None
            reason, text = ask.gpus
        else:
            reason, text = self._watts(kin, key[0], ask.spot)
        if reason is WaitReason.PRICE:
            return reason, text
        raised = self._raised[kin]
        return reason, text if raised is None else f"{text}; would start now with priority {raised}"

    # --- GPUs -----------------------------------------------------------------------------------------------

    def _ask(self, gpus: int, nodes: int, gpu_type: int) -> _Ask:
        kinds: Ints = np.nonzero(self._posed.queue.fits[gpu_type])[0]
        suits: Bools = self._posed.queue.fits[gpu_type][self._pools.kind]
        before, after = self._posed.pools.pools.free, self._scene.free_after
        if not gang_fits(before, self._pools.kind, kinds, gpus, nodes):
            return _Ask((WaitReason.GPUS, _missing(gpus, nodes, before[suits])), None)
        if not gang_fits(after, self._pools.kind, kinds, gpus, nodes):
            text = f"{_missing(gpus, nodes, after[suits])} after jobs of higher worth or age"
            return _Ask((WaitReason.LOWER_PRIORITY, text), None)
        kept = np.where(self._pools.reserved, 0, after)
        if not gang_fits(kept, self._pools.kind, kinds, gpus, nodes):
            text = f"{_missing(gpus, nodes, kept[suits])} beside the nodes kept for {self._heads()}"
            return _Ask((WaitReason.LOWER_PRIORITY, text), None)
        part = gpus // nodes if nodes != ANY_SPLIT else 1
        wide = np.nonzero(suits & (kept >= part))[0]
        return _Ask(None, self._spot(int(wide[np.argmax(self._scene.pool_left_w[wide])])))

    def _heads(self) -> str:
        ids, queue = self._posed.snapshot.jobs.ids, self._posed.queue
        return ", ".join(ids[int(queue.job[seat.entry])] for seat in self._posed.reservation.seats)

    # --- watts ----------------------------------------------------------------------------------------------

    def _spot(self, pool: int) -> _Spot:
        scene, pools, names = self._scene, self._pools, self._posed.problem.index.names
        path = scene.path(pool)
        lefts = tuple((names[column], float(scene.left_after_w[column])) for column in path)
        tightest, left_w = min(lefts, key=lambda left: left[1])
        return _Spot(
            pool=pool,
            kind=int(pools.kind[pool]),
            empty_w=float(pools.empty_w[pool]),
            settable=bool(pools.settable[pool]),
            max_cap_w=float(pools.max_cap_w[pool]),
            tightest=tightest,
            before_w=float(scene.pool_before_w[pool]),
            left_w=left_w,
            lefts=lefts,
            short=bool(self._posed.short[path].any()),
        )

    def _watts(self, kin: int, gpus: int, spot: _Spot) -> Reason:
        row = self._pair[kin, spot.kind]
        need_w = spot.loaded_w(float(self._posed.terraces.ladder.cap_w[row, 0])) * gpus
        if not spot.short and need_w <= spot.left_w + NEARLY_W:
            return self._not_worth_it(kin, spot, row)
        idle_w = spot.empty_w * gpus
        text = (
            f"needs {need_w + idle_w:.0f} W at its contract floor, {spot.tightest} has"
            f" {max(0.0, spot.left_w + idle_w):.0f} W left"
        )
        if spot.short:
            return WaitReason.POWER, text
        lacks = [(name, need_w - left_w) for name, left_w in spot.lefts if need_w > left_w + 1e-9]
        more = "would fit with " + " and ".join(f"{_watts_up(watts)} more in {name}" for name, watts in lacks)
        if need_w > spot.before_w + NEARLY_W:
            return WaitReason.POWER, f"{text}; {more}"
        return WaitReason.LOWER_PRIORITY, f"{text} after jobs of higher worth or age; {more}"

    def _not_worth_it(self, kin: int, spot: _Spot, row: int) -> Reason:
        posed, terraces = self._posed, self._posed.terraces
        ladder = terraces.ladder
        column = int(ladder.best[row] if spot.settable else terraces.top[row])
        if ladder.worth[row, column] > 0:
            return (
                WaitReason.LOWER_PRIORITY,
                "fits, but comes after jobs of higher worth; tried again next time",
            )
        value, price = float(posed.queue.kin.value[kin]), posed.snapshot.energy_price_per_mwh()
        if ladder.worth[row, column] + terraces.shadow[row, column] > 0:
            return (
                WaitReason.PRICE,
                f"planned work needs GPUs and watts now: they are worth {terraces.shadow[row, column]:.2f}"
                f" per GPU-hour to it, and its own work {value:.2f} before energy",
            )
        return (
            WaitReason.PRICE,
            f"at {price:.2f}/MWh its power costs more than its work is worth ({value:.2f} per GPU-hour)",
        )


def _missing(gpus: int, nodes: int, free: Ints) -> str:
    total, each = int(free.sum()), gpus if nodes == ANY_SPLIT else gpus // nodes
    where = f" on each of {nodes} nodes" if nodes > 1 else ""
    need = f"needs {gpus_word(each)}{where}"
    if total >= gpus:
        return f"{need}, the fullest node has {int(free.max())} free of {total} in all"
    return f"{need}, {total} {'is' if total == 1 else 'are'} free"


def _watts_up(watts: float) -> str:
    """`70 W`, `1.1 kW`: never less than it is."""
    if watts < 1000.0:
        return f"{math.ceil(watts - 1e-9)} W"
    return f"{math.ceil(watts / 100.0 - 1e-9) / 10:.1f} kW"

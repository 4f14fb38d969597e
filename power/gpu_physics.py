"""The physics of one simulated GPU: what it draws, how fast it works, how warm it gets.

The truth here is not the belief of `curve.prior`: each board and workload deviates from it a little.
"""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import dataclass
from typing import Final

from power.curve import CapCurve, prior
from power.device import GpuInfo
from power.throttle import GPU_IDLE, SW_POWER_CAP

# Two lags in a row: after one second 91 % of a step is done, after two seconds 99.7 %.
_SETTLE_TAU_S: Final = 0.25
_DRAW_TAU_S: Final = 0.25
_UTILIZATION_TAU_S: Final = 0.3
_NOISE_TAU_S: Final = 0.5
_NOISE_SHARE: Final = 0.012
_WARMING_TAU_S: Final = 25.0
_AMBIENT_C: Final = 28.0
_FULL_LOAD_RISE_C: Final = 48.0
_IDLE_CLOCK_HZ: Final = 210e6
_BOOST_CLOCK_HZ: Final = 1740e6
_CONTEXT_BYTES: Final = 420 * 2**20
# An open context keeps clocks and memory awake; share of the highest cap on top of idle.
_CONTEXT_DRAW_SHARE: Final = 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What runs on one GPU. `throughput` is the pace of the whole gang, which its slowest GPU sets."""

    workload: str
    busy: bool
    throughput: float
    process_count: int


@dataclass(slots=True)
class GpuState:
    """What the GPU shows."""

    settled_w: float
    power_w: float
    energy_j: float
    utilization: float = 0.0
    temperature_c: float = _AMBIENT_C
    sm_clock_hz: float = _IDLE_CLOCK_HZ
    memory_used_bytes: int = 0
    throttle_bits: int = GPU_IDLE
    demand: float = 0.0
    pace: float = 1.0


class GpuPhysics:
    """Moves one GPU's state through time."""

    def __init__(self, info: GpuInfo, *, seed: int, state: GpuState) -> None:
        self.info = info
        self.state = state
        self._seed = seed
        self._random = random.Random(f"{seed}:{info.uuid}:noise")
        self._noise = 0.0
        self._level_w = state.power_w  # the draw without its noise
        self._truths: dict[str, CapCurve] = {}

    def settle(self, limit_w: float, elapsed_s: float) -> None:
        """Let the silicon follow the limit in force."""
        self.state.settled_w += (limit_w - self.state.settled_w) * _share(elapsed_s, _SETTLE_TAU_S)

    def throughput(self, workload: str) -> float:
        """Pace of `workload` at the limit that the silicon has settled to, 0..1."""
        return self.truth(workload).throughput(self.state.settled_w)

    def truth(self, workload: str) -> CapCurve:
        """How this board really answers to a cap with this workload."""
        if workload not in self._truths:
            believed = prior(
                self.info.model,
                min_cap_w=self.info.min_cap_w,
                max_cap_w=self.info.max_cap_w,
                workload=workload or None,
            )
            board = random.Random(f"{self._seed}:{self.info.uuid}")
            job = random.Random(f"{self._seed}:{workload}")
            self._truths[workload] = dataclasses.replace(
                believed,
                idle_w=believed.idle_w * board.uniform(0.95, 1.05),
                demand_w=believed.demand_w * board.uniform(0.98, 1.02) * job.uniform(0.95, 1.05),
                t6_s=believed.t6_s * job.uniform(0.97, 1.03),
            )
        return self._truths[workload]

    def step(self, load: Load | None, elapsed_s: float) -> None:
        """Move the draw, its energy and everything that follows from it."""
        state = self.state
        busy = load is not None and load.busy
        state.utilization += (float(busy) - state.utilization) * _share(elapsed_s, _UTILIZATION_TAU_S)
        self._level_w += (self._target_w(load) - self._level_w) * _share(elapsed_s, _DRAW_TAU_S)
        fresh = _share(elapsed_s, _NOISE_TAU_S)
        self._noise += -self._noise * fresh + math.sqrt(fresh * (2 - fresh)) * self._random.gauss(
            0, _NOISE_SHARE
        )
        power_w = max(0.0, self._level_w * (1 + self._noise))
        state.energy_j += 0.5 * (state.power_w + power_w) * elapsed_s
        state.power_w = power_w
        self._follow(load, elapsed_s)

    def _target_w(self, load: Load | None) -> float:
        curve = self.truth("" if load is None else load.workload)
        if load is None:
            return curve.idle_w
        context_w = min(
            curve.idle_w + _CONTEXT_DRAW_SHARE * self.info.max_cap_w, curve.power_w(self.state.settled_w)
        )
        reached_w = self.state.settled_w
        if load.throughput < curve.throughput(reached_w):
            # A GPU that waits for a slower one of its gang draws as if it were capped to that pace.
            reached_w = min(reached_w, curve.cap_for(load.throughput))
        return context_w + (curve.power_w(reached_w) - context_w) * self.state.utilization

    def _follow(self, load: Load | None, elapsed_s: float) -> None:
        state = self.state
        warm_c = _AMBIENT_C + _FULL_LOAD_RISE_C * state.power_w / self.info.max_cap_w
        state.temperature_c += (warm_c - state.temperature_c) * _share(elapsed_s, _WARMING_TAU_S)
        state.pace = 1.0 if load is None else load.throughput
        state.demand = 0.0 if load is None else self.truth(load.workload).demand_w / self.info.max_cap_w
        if load is None or state.utilization < 0.02:
            state.sm_clock_hz, state.throttle_bits = _IDLE_CLOCK_HZ, GPU_IDLE
        else:
            # Clocks fall slower than throughput as the cap tightens.
            state.sm_clock_hz = _BOOST_CLOCK_HZ * (0.35 + 0.65 * load.throughput)
            state.throttle_bits = SW_POWER_CAP if self.throughput(load.workload) < 0.99 else 0
        processes = 0 if load is None else load.process_count
        working = int(0.35 * self.info.memory_bytes) if load is not None else 0
        state.memory_used_bytes = min(self.info.memory_bytes, processes * _CONTEXT_BYTES + working)


def _share(elapsed_s: float, tau_s: float) -> float:
    """How much of a first-order step is done after `elapsed_s`."""
    return 1.0 - math.exp(-elapsed_s / tau_s)

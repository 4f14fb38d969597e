"""One simulated GPU through time, without processes."""

from __future__ import annotations

import statistics
from itertools import pairwise

import pytest

from power.curve import prior
from power.device import GpuInfo
from power.gpu_physics import GpuPhysics, GpuState, Load
from power.throttle import GPU_IDLE, SW_POWER_CAP

INFO = GpuInfo(
    uuid="GPU-51-test",
    index=0,
    model="A40",
    min_cap_w=100,
    max_cap_w=300,
    default_cap_w=300,
    memory_bytes=48 * 2**30,
)
TICK_S = 0.05


def gpu(*, seed: int = 3) -> GpuPhysics:
    return GpuPhysics(INFO, seed=seed, state=GpuState(settled_w=300.0, power_w=31.0, energy_j=0.0))


def advance(
    physics: GpuPhysics,
    seconds: float,
    *,
    limit_w: float = 300.0,
    workload: str | None = None,
    busy: bool = True,
    gang_throughput: float = 1.0,
) -> list[float]:
    """Draw at each tick."""
    drawn = []
    for _ in range(round(seconds / TICK_S)):
        physics.settle(limit_w, TICK_S)
        load = None
        if workload is not None:
            pace = min(gang_throughput, physics.throughput(workload))
            load = Load(workload=workload, busy=busy, throughput=pace, process_count=1)
        physics.step(load, TICK_S)
        drawn.append(physics.state.power_w)
    return drawn


def test_an_empty_gpu_idles() -> None:
    physics = gpu()
    assert statistics.mean(advance(physics, 60)) == pytest.approx(31, rel=0.07)
    assert physics.state.throttle_bits == GPU_IDLE
    assert physics.state.utilization == 0
    assert physics.state.memory_used_bytes == 0


@pytest.mark.parametrize("limit_w", [100, 150, 200, 300])
@pytest.mark.parametrize("workload", ["bert", "resnet50", "shufflenet"])
def test_a_busy_gpu_draws_as_measured_at_every_limit(workload: str, limit_w: float) -> None:
    physics = gpu()
    advance(physics, 5, limit_w=limit_w, workload=workload)
    believed = prior("A40", min_cap_w=100, max_cap_w=300, workload=workload)
    mean_w = statistics.mean(advance(physics, 60, limit_w=limit_w, workload=workload))
    assert mean_w == pytest.approx(believed.power_w(limit_w), rel=0.08)
    assert mean_w <= limit_w * 1.005


def test_the_draw_follows_a_lower_limit_within_about_a_second() -> None:
    physics = gpu()
    before_w = statistics.mean(advance(physics, 10, workload="bert")[-40:])
    falling = advance(physics, 2, limit_w=150, workload="bert")
    assert falling[0] > 0.9 * before_w
    assert falling[19] < 150 + 0.15 * (before_w - 150)
    assert falling[-1] < 155


def test_the_energy_counter_is_the_integral_of_the_draw() -> None:
    physics = gpu()
    drawn = [31.0, *advance(physics, 20, limit_w=200, workload="bert"), *advance(physics, 10)]
    integral_j = sum((a + b) / 2 * TICK_S for a, b in pairwise(drawn))
    assert physics.state.energy_j == pytest.approx(integral_j, rel=1e-9)


def test_noise_is_there_and_has_no_mean() -> None:
    physics = gpu()
    advance(physics, 5, workload="bert")
    drawn = advance(physics, 200, workload="bert")
    spread = statistics.stdev(drawn) / statistics.mean(drawn)
    assert 0.006 < spread < 0.025


def test_a_process_that_waits_keeps_the_gpu_awake_but_not_busy() -> None:
    physics = gpu()
    advance(physics, 10, workload="bert")
    mean_w = statistics.mean(advance(physics, 20, workload="bert", busy=False)[200:])
    assert 35 < mean_w < 65


def test_a_gpu_that_waits_for_a_slower_one_draws_less() -> None:
    alone, held_back = gpu(), gpu()
    alone_w = statistics.mean(advance(alone, 20, workload="bert")[200:])
    held_back_w = statistics.mean(advance(held_back, 20, workload="bert", gang_throughput=0.6)[200:])
    assert held_back_w < 0.8 * alone_w


def test_a_binding_limit_is_named_as_the_reason() -> None:
    physics = gpu()
    advance(physics, 3, limit_w=150, workload="bert")
    assert physics.state.throttle_bits == SW_POWER_CAP
    assert physics.state.sm_clock_hz < 1.6e9
    advance(physics, 5, limit_w=300, workload="ncf")
    assert physics.state.throttle_bits == 0


def test_work_warms() -> None:
    physics = gpu()
    advance(physics, 120, workload="bert")
    assert 60 < physics.state.temperature_c < 80


def test_the_truth_is_near_the_belief_but_not_the_belief() -> None:
    believed = prior("A40", min_cap_w=100, max_cap_w=300, workload="bert")
    throughputs = {seed: gpu(seed=seed).truth("bert").throughput(150) for seed in range(20)}
    assert len(set(throughputs.values())) == 20
    for throughput in throughputs.values():
        assert throughput == pytest.approx(believed.throughput(150), rel=0.25)
    assert gpu(seed=5).truth("bert") == gpu(seed=5).truth("bert")

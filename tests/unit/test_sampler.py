"""Every GPU gets its sample in time, whatever the others do; joules are of grid time and never fall."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from power.clock import FakeClock
from power.simulated import SimulatedBackend, create_map
from telemetry.sampler import EnergyMark, Sampler
from tests.capd_builders import FakeBackend, FakeGpu

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_reads_all_in_the_backends_order() -> None:
    clock = FakeClock(START)
    clock.advance(5.0)
    sampler = Sampler(FakeBackend(FakeGpu(0), FakeGpu(1)), clock)
    samples = sampler.sample()
    assert [s.info.uuid for s in samples] == ["GPU-0", "GPU-1"]
    assert [(s.at, s.monotonic_s, s.error, s.energy_j) for s in samples] == [
        (clock.now(), 5.0, None, 0.0)
    ] * 2
    assert samples[0].reading is not None
    assert samples[0].reading.power_w == 60.0
    sampler.close()


def test_one_failing_and_one_hanging_gpu_cost_only_their_own_samples() -> None:
    lost, stuck, fine = FakeGpu(0), FakeGpu(1), FakeGpu(2)
    lost.lost = True
    stuck.go.clear()
    sampler = Sampler(FakeBackend(lost, stuck, fine), FakeClock(START), read_timeout_s=0.1)
    for _ in range(3):
        began_s = time.monotonic()
        first, second, third = sampler.sample()
        assert time.monotonic() - began_s < 1.0
        assert first.reading is None
        assert first.error == "GPU-0: the GPU is lost"
        assert second.reading is None
        assert second.error == "no answer within 0.1 s"
        assert third.reading is not None
    assert stuck.log == ["read"]  # it is not asked again while it hangs
    stuck.go.set()
    lost.lost = False
    time.sleep(0.1)
    assert all(sample.error is None for sample in sampler.sample())
    sampler.close()


def test_broken_driver_is_an_error_of_its_gpu() -> None:
    class Broken(FakeGpu):
        def read(self) -> None:  # type: ignore[override]
            raise ZeroDivisionError("in the driver")

    sampler = Sampler(FakeBackend(Broken(0), FakeGpu(1)), FakeClock(START))
    first, second = sampler.sample()
    assert first.error == "ZeroDivisionError: in the driver"
    assert second.error is None
    sampler.close()


@pytest.mark.parametrize("counts", [True, False], ids=["counter", "integral"])
def test_joules_are_of_grid_time(counts: bool) -> None:
    clock, gpu = FakeClock(START, rate=60.0), FakeGpu(0)
    gpu.power_w, gpu.energy_j = 100.0, 5000.0 if counts else None
    sampler = Sampler(FakeBackend(gpu), clock)
    sampler.sample()
    clock.advance(2.0)
    if gpu.energy_j is not None:
        gpu.energy_j += 200.0
    assert sampler.sample()[0].energy_j == pytest.approx(200.0 * 60.0)
    sampler.close()


def test_driver_reload_goes_on_from_where_it_was() -> None:
    clock, gpu = FakeClock(START), FakeGpu(0)
    gpu.power_w = 100.0
    sampler = Sampler(FakeBackend(gpu), clock)
    seen = []
    for counter in (5000.0, 5100.0, 30.0, 130.0):
        gpu.energy_j = counter
        seen.append(sampler.sample()[0].energy_j)
        clock.advance(1.0)
    assert seen == [0.0, 100.0, 200.0, 300.0]
    sampler.close()


def test_energy_stands_still_while_the_gpu_is_lost_and_is_whole_afterwards() -> None:
    clock, gpu = FakeClock(START), FakeGpu(0)
    sampler = Sampler(FakeBackend(gpu), clock)
    sampler.sample()
    gpu.lost = True
    clock.advance(10.0)
    gpu.energy_j = 600.0
    assert sampler.sample()[0].energy_j == 0.0
    gpu.lost = False
    assert sampler.sample()[0].energy_j == 600.0
    sampler.close()


def test_a_later_process_counts_what_happened_in_between() -> None:
    clock, gpu = FakeClock(START, rate=10.0), FakeGpu(0)
    gpu.energy_j = 1000.0
    first = Sampler(FakeBackend(gpu), clock)
    first.sample()
    gpu.energy_j = 1050.0
    clock.advance(1.0)
    first.sample()
    marks = first.marks()
    assert marks == {"GPU-0": EnergyMark(counter_j=1050.0, energy_j=500.0)}
    first.close()
    gpu.energy_j = 91050.0
    second = Sampler(FakeBackend(gpu), clock, resume=marks)
    assert second.sample()[0].energy_j == pytest.approx(500.0 + 900_000.0)
    second.close()


def test_a_counter_that_began_anew_in_between_tells_what_it_counted_since() -> None:
    clock, gpu = FakeClock(START), FakeGpu(0)
    gpu.energy_j = 40.0
    marks = {"GPU-0": EnergyMark(counter_j=1050.0, energy_j=500.0)}
    sampler = Sampler(FakeBackend(gpu), clock, resume=marks)
    assert sampler.sample()[0].energy_j == pytest.approx(540.0)
    sampler.close()


def test_simulated_gpus_are_sampled_too(tmp_path: Path) -> None:
    path = tmp_path / "gpus.map"
    create_map(path, 3, "A40", 0)
    backend = SimulatedBackend(path)
    sampler = Sampler(backend, FakeClock(START))
    assert [s.error for s in sampler.sample()] == [None] * 3
    sampler.close()
    backend.close()

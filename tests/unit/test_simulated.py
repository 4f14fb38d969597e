"""The mapped file and the GPUs that are seen through it, without a gpu-sim process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from power.backend import has_gpus, open_backend
from power.device import DeviceError, GpuBackend, GpuLost, LibraryMissing, NotPermitted, PowerCappable
from power.gpu_map import STALE_AFTER_S, Fault, GpuMap, Header, Word, create_map, lock_path
from power.simulated import SimulatedBackend, SimulatedGpu, reload_driver, set_fault
from tests.gpu_builders import gpu_sim


@pytest.fixture
def map_path(tmp_path: Path) -> Path:
    create_map(tmp_path / "gpus.map", 2, "A40", 1)
    return tmp_path / "gpus.map"


@pytest.fixture
def gpus(map_path: Path) -> Iterator[tuple[SimulatedGpu, ...]]:
    backend = SimulatedBackend(map_path)
    yield backend.gpus()
    backend.close()


def pretend_tick(map_path: Path, age_s: float = 0.0) -> None:
    gpu_map = GpuMap(map_path)
    gpu_map.set_header(Header.TICKS, 1)
    gpu_map.set_header(Header.TICKED_AT_NS, time.monotonic_ns() - int(age_s * 1e9))
    gpu_map.close()


def test_a_new_map_holds_boards_at_their_default_limit(gpus: tuple[SimulatedGpu, ...]) -> None:
    assert [gpu.info.index for gpu in gpus] == [0, 1]
    assert {gpu.info.model for gpu in gpus} == {"A40"}
    assert len({gpu.info.uuid for gpu in gpus}) == 2
    assert all(gpu.info.uuid.startswith("GPU-51") and len(gpu.info.uuid) == 40 for gpu in gpus)
    info = gpus[0].info
    assert (info.min_cap_w, info.max_cap_w, info.default_cap_w) == (100, 300, 300)
    assert info.memory_bytes == 48 * 2**30
    assert gpus[0].read().enforced_cap_w == 300


def test_the_backend_is_what_the_rest_of_the_project_expects(map_path: Path) -> None:
    backend: GpuBackend = open_backend("simulated", map_path)
    assert backend.name == "simulated"
    assert all(isinstance(gpu, PowerCappable) for gpu in backend.gpus())
    backend.close()


def test_two_installations_never_share_a_gpu(tmp_path: Path) -> None:
    for name in ("a", "b"):
        create_map(tmp_path / name, 4, "A40", 1)
    one, other = SimulatedBackend(tmp_path / "a"), SimulatedBackend(tmp_path / "b")
    assert {g.info.uuid for g in one.gpus()}.isdisjoint(g.info.uuid for g in other.gpus())
    one.close()
    other.close()


def test_a_limit_is_in_force_at_once_and_every_process_sees_it(
    gpus: tuple[SimulatedGpu, ...], map_path: Path
) -> None:
    assert gpus[0].set_cap_w(150.0) == 150.0
    other = SimulatedBackend(map_path)
    assert [gpu.read().enforced_cap_w for gpu in other.gpus()] == [150.0, 300.0]
    other.close()


@pytest.mark.parametrize("cap_w", [99.9, 300.1, 0.0, -5.0, float("nan"), float("inf")])
def test_a_limit_outside_the_board_is_refused_and_changes_nothing(
    gpus: tuple[SimulatedGpu, ...], cap_w: float
) -> None:
    with pytest.raises(ValueError, match="outside"):
        gpus[0].set_cap_w(cap_w)
    assert gpus[0].read().enforced_cap_w == 300


def test_without_a_gpu_sim_what_it_would_measure_is_unknown_never_zero(
    gpus: tuple[SimulatedGpu, ...], map_path: Path
) -> None:
    reading = gpus[0].read()
    assert reading.enforced_cap_w == 300
    assert (reading.power_w, reading.energy_j, reading.utilization, reading.pids) == (None, None, None, None)
    pretend_tick(map_path)
    assert gpus[0].read().pids == ()
    pretend_tick(map_path, age_s=STALE_AFTER_S + 1)
    assert gpus[0].read().power_w is None


def test_faults_can_be_switched_live(gpus: tuple[SimulatedGpu, ...], map_path: Path) -> None:
    pretend_tick(map_path)
    set_fault(map_path, 0, Fault.LOST, True)
    with pytest.raises(GpuLost):
        gpus[0].read()
    with pytest.raises(GpuLost):
        gpus[0].set_cap_w(150)
    assert gpus[1].read().power_w is not None
    set_fault(map_path, 0, Fault.LOST, False)

    set_fault(map_path, 0, Fault.NO_PERMISSION, True)
    with pytest.raises(NotPermitted):
        gpus[0].set_cap_w(150)
    set_fault(map_path, 0, Fault.NO_PERMISSION, False)

    set_fault(map_path, 0, Fault.SET_IS_NOOP, True)
    assert gpus[0].set_cap_w(150) == 300
    set_fault(map_path, 0, Fault.SET_IS_NOOP, False)
    assert gpus[0].set_cap_w(150) == 150

    set_fault(map_path, 0, Fault.POWER_NA | Fault.ENERGY_NA, True)
    reading = gpus[0].read()
    assert (reading.power_w, reading.energy_j) == (None, None)
    assert reading.utilization == 0.0


def test_a_driver_reload_forgets_every_limit(gpus: tuple[SimulatedGpu, ...], map_path: Path) -> None:
    for gpu in gpus:
        gpu.set_cap_w(120)
    reload_driver(map_path)
    assert [gpu.read().enforced_cap_w for gpu in gpus] == [300, 300]


def test_making_a_map_again_keeps_what_is_there(gpus: tuple[SimulatedGpu, ...], map_path: Path) -> None:
    gpus[1].set_cap_w(125)
    create_map(map_path, 2, "A40", 1)
    assert gpus[1].read().enforced_cap_w == 125


def test_another_count_replaces_the_map_and_carries_its_gpus_over(
    gpus: tuple[SimulatedGpu, ...], map_path: Path
) -> None:
    gpus[1].set_cap_w(125)
    create_map(map_path, 3, "A40", 1)
    backend = SimulatedBackend(map_path)
    assert [gpu.info.uuid for gpu in backend.gpus()][:2] == [gpu.info.uuid for gpu in gpus]
    assert [gpu.read().enforced_cap_w for gpu in backend.gpus()] == [300, 125, 300]
    backend.close()


def test_a_map_in_use_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "gpus.map"
    with gpu_sim(path, count=1):
        assert lock_path(path).exists()
        with pytest.raises(DeviceError, match="in use"):
            create_map(path, 2, "A40", 1)
    create_map(path, 2, "A40", 1)


@pytest.mark.parametrize("count", [0, -1, 4097])
def test_a_map_holds_1_to_4096_gpus(tmp_path: Path, count: int) -> None:
    with pytest.raises(ValueError, match="1 to 4096"):
        create_map(tmp_path / "gpus.map", count, "A40", 1)


@pytest.mark.parametrize(
    "content", [b"", b"x" * 128, b"WATTGPUS" + b"\0" * 120, b"WATTGPUS" + b"\1" + b"\0" * 200]
)
def test_a_file_that_is_no_map_is_a_missing_library(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "gpus.map").write_bytes(content)
    backend = SimulatedBackend(tmp_path / "gpus.map")
    with pytest.raises(LibraryMissing):
        backend.gpus()


def test_no_file_is_a_missing_library(tmp_path: Path) -> None:
    backend = SimulatedBackend(tmp_path / "gpus.map")
    with pytest.raises(LibraryMissing):
        backend.gpus()
    assert not has_gpus(backend)


def test_a_list_of_processes_survives_being_longer_than_its_room(map_path: Path) -> None:
    gpu_map = GpuMap(map_path)
    gpu_map.set_pids(0, tuple(range(1, 101)))
    assert gpu_map.pids(0) == tuple(range(1, 65))
    assert gpu_map.integer(0, Word.PID_COUNT) == 100
    gpu_map.set_pids(0, (7,))
    assert gpu_map.pids(0) == (7,)
    assert gpu_map.pids(1) == ()
    gpu_map.close()

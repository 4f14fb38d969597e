"""The real pynvml over the fake library, in a child process that does what it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from power.gpu_map import Fault, GpuMap, Header, Word, create_map
from power.simulated import SimulatedBackend, reload_driver, set_fault
from tests.fake_nvml_build import fake_nvml_env
from tests.gpu_builders import REPOSITORY, gpu_sim, process_on, wait_until

CHILD = """
import dataclasses, json, sys
from power.nvml import NvmlBackend
backend = NvmlBackend()
for line in sys.stdin:
    verb, *arguments = line.split()
    try:
        gpus = backend.gpus()
        if verb == "infos":
            answer = [dataclasses.asdict(gpu.info) for gpu in gpus]
        elif verb == "read":
            answer = dataclasses.asdict(gpus[int(arguments[0])].read())
        else:
            answer = gpus[int(arguments[0])].set_cap_w(float(arguments[1]))
    except Exception as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(answer), flush=True)
"""


class Child:
    """A process with the NVML backend; `infos`, `read INDEX`, `set INDEX WATTS`."""

    def __init__(self, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            cwd=REPOSITORY,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *command: object) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, command)) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate(timeout=10)


@pytest.fixture
def map_path(tmp_path: Path) -> Path:
    create_map(tmp_path / "gpus.map", 2, "A40", 1)
    return tmp_path / "gpus.map"


@pytest.fixture
def nvml(map_path: Path, fake_nvml_dir: Path) -> Iterator[Child]:
    child = Child(fake_nvml_env(fake_nvml_dir, map_path))
    yield child
    child.close()


def fill(map_path: Path) -> None:
    """Distinct values in every word that gpu-sim would write, on the second GPU."""
    gpu_map = GpuMap(map_path)
    gpu_map.set_header(Header.TICKS, 1)
    gpu_map.set_header(Header.TICKED_AT_NS, time.monotonic_ns())
    gpu_map.set_number(1, Word.POWER_W, 201.234)
    gpu_map.set_number(1, Word.ENERGY_J, 123456789.012)
    gpu_map.set_number(1, Word.UTILIZATION, 0.87)
    gpu_map.set_number(1, Word.TEMPERATURE_C, 61.0)
    gpu_map.set_number(1, Word.SM_CLOCK_HZ, 1605e6)
    gpu_map.set_integer(1, Word.MEMORY_USED_BYTES, 7 * 2**30 + 1)
    gpu_map.set_integer(1, Word.THROTTLE_BITS, 0x4 | 0x40 | 0x1000)
    gpu_map.set_pids(1, (11, 4_000_000, 12))
    gpu_map.close()


def test_both_sides_agree_on_every_word_of_the_layout(nvml: Child, map_path: Path) -> None:
    fill(map_path)
    backend = SimulatedBackend(map_path)
    direct = backend.gpus()[1]
    assert direct.set_cap_w(222.5) == 222.5
    seen, expected = nvml("read", 1), direct.read()
    for name in ("power_w", "energy_j", "enforced_cap_w", "utilization", "temperature_c", "sm_clock_hz"):
        assert seen[name] == pytest.approx(getattr(expected, name), rel=1e-9), name
    assert seen["memory_used_bytes"] == expected.memory_used_bytes == 7 * 2**30 + 1
    assert seen["throttle_reasons"] == list(expected.throttle_reasons)
    assert expected.throttle_reasons == ("sw_power_cap", "hw_thermal_slowdown", "unknown_0x1000")
    assert sorted(seen["pids"]) == sorted(expected.pids or ()) == [11, 12, 4_000_000]
    for info, gpu in zip(nvml("infos"), backend.gpus(), strict=True):
        assert info == {name: getattr(gpu.info, name) for name in info}
    backend.close()


def test_a_set_is_read_back_and_seen_by_everybody(nvml: Child, map_path: Path) -> None:
    assert nvml("set", 0, 150) == 150.0
    backend = SimulatedBackend(map_path)
    assert [gpu.read().enforced_cap_w for gpu in backend.gpus()] == [150.0, 300.0]
    backend.close()


def test_a_limit_outside_the_board_never_reaches_the_driver(nvml: Child) -> None:
    for cap_w in (99, 301, "nan"):
        assert nvml("set", 0, cap_w)["error"] == "ValueError"
    assert nvml("read", 0)["enforced_cap_w"] == 300.0


def test_a_refused_set_is_not_permitted_and_a_silent_one_shows_in_the_read_back(
    nvml: Child, map_path: Path
) -> None:
    set_fault(map_path, 0, Fault.NO_PERMISSION, True)
    assert nvml("set", 0, 150)["error"] == "NotPermitted"
    set_fault(map_path, 0, Fault.NO_PERMISSION, False)
    set_fault(map_path, 0, Fault.SET_IS_NOOP, True)
    assert nvml("set", 0, 150) == 300.0
    set_fault(map_path, 0, Fault.SET_IS_NOOP, False)
    assert nvml("set", 0, 150) == 150.0


def test_one_missing_reading_is_none_and_the_rest_is_there(nvml: Child, map_path: Path) -> None:
    fill(map_path)
    set_fault(map_path, 1, Fault.POWER_NA, True)
    reading = nvml("read", 1)
    assert reading["power_w"] is None
    assert reading["energy_j"] == pytest.approx(123456789.012)
    assert reading["enforced_cap_w"] == 300.0


def test_a_gpu_without_gpu_sim_has_limits_but_no_measurements(nvml: Child) -> None:
    reading = nvml("read", 0)
    assert reading["enforced_cap_w"] == 300.0
    assert reading["power_w"] is reading["pids"] is reading["energy_j"] is None


def test_a_lost_gpu_is_lost_alone_and_may_come_back(nvml: Child, map_path: Path) -> None:
    fill(map_path)
    assert nvml("read", 0)["power_w"] is not None
    set_fault(map_path, 0, Fault.LOST, True)
    for _ in range(3):
        answer = nvml("read", 0)
        assert answer["error"] == "GpuLost"
        assert nvml("infos")[0]["uuid"] in answer["message"]
        assert nvml("set", 0, 150)["error"] == "GpuLost"
        assert nvml("read", 1)["power_w"] == pytest.approx(201.234)
    set_fault(map_path, 0, Fault.LOST, False)
    assert nvml("read", 0)["enforced_cap_w"] == 300.0


def test_a_gpu_that_is_lost_from_the_start_leaves_the_others(nvml: Child, map_path: Path) -> None:
    set_fault(map_path, 0, Fault.LOST, True)
    assert [info["index"] for info in nvml("infos")] == [1]


def test_after_a_driver_reload_each_gpu_is_found_again_by_its_uuid(nvml: Child, map_path: Path) -> None:
    fill(map_path)
    before = nvml("infos")
    assert nvml("set", 1, 111) == 111.0
    assert nvml("read", 1)["power_w"] == pytest.approx(201.234)
    reload_driver(map_path)  # limits are back at default, old handles void, the order turned round
    reading = nvml("read", 1)
    assert reading["power_w"] == pytest.approx(201.234)
    assert reading["enforced_cap_w"] == 300.0
    assert nvml("set", 1, 122) == 122.0
    assert nvml("read", 0)["enforced_cap_w"] == 300.0
    assert nvml("infos") == before


def test_without_a_driver_the_library_is_missing(tmp_path: Path, fake_nvml_dir: Path) -> None:
    child = Child(fake_nvml_env(fake_nvml_dir, tmp_path / "none.map"))
    assert child("infos")["error"] == "LibraryMissing"
    child.close()


def test_auto_takes_nvml_where_it_has_gpus_and_simulated_ones_elsewhere(
    map_path: Path, fake_nvml_dir: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; from power.backend import open_backend; "
        "backend = open_backend('auto', Path(sys.argv[1])); print(backend.name, len(backend.gpus()))"
    )
    for env_map, expected in ((map_path, "nvml 2"), (map_path.with_name("none"), "simulated 2")):
        env = fake_nvml_env(fake_nvml_dir, env_map)
        command = [sys.executable, "-c", code, str(map_path)]
        done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_a_busy_process_draws_and_a_lower_limit_lowers_it(nvml: Child, map_path: Path) -> None:
    uuid = nvml("infos")[0]["uuid"]
    with gpu_sim(map_path), process_on(uuid) as process:
        wait_until("the process draws power", lambda: (nvml("read", 0)["power_w"] or 0) > 200)
        assert nvml("read", 0)["pids"] == [process.pid]
        assert nvml("read", 1)["pids"] == []
        assert nvml("set", 0, 150) == 150.0
        wait_until("the draw settles", lambda: nvml("read", 0)["power_w"] < 155, timeout_s=5)
        assert "sw_power_cap" in nvml("read", 0)["throttle_reasons"]


def test_the_fake_is_only_seen_by_those_who_ask_for_it(fake_nvml_dir: Path) -> None:
    assert str(fake_nvml_dir) not in os.environ.get("LD_LIBRARY_PATH", "")

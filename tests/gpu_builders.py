"""Simulated hardware for tests: a gpu-sim process, and jobs that burn CPU on its GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from power.gpu_load import read_stat
from power.gpu_map import GpuMap
from power.simulated import create_map

REPOSITORY = Path(__file__).resolve().parent.parent
BURN = "while True: sum(i * i for i in range(10000))"
DOZE = "import time\nwhile True: time.sleep(0.5)"


def wait_until(what: str, holds: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Poll until `holds`; fail naming `what` when it never does."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


def start_gpu_sim(
    map_path: Path, *, count: int = 2, model: str = "A40", seed: int = 1
) -> subprocess.Popen[bytes]:
    """Start gpu-sim on a map, making the map where it is missing."""
    create_map(map_path, count, model, seed)
    return subprocess.Popen(gpu_sim_command(map_path, count, model, seed), cwd=REPOSITORY)


def gpu_sim_command(map_path: Path, count: int, model: str = "A40", seed: int = 1) -> list[str]:
    options = {"map": map_path, "count": count, "model": model, "seed": seed}
    return [sys.executable, "-m", "power.gpu_sim", *(f"--{name}={value}" for name, value in options.items())]


@contextmanager
def gpu_sim(map_path: Path, *, count: int = 2, model: str = "A40", seed: int = 1) -> Iterator[GpuMap]:
    """A gpu-sim that has ticked; stopped by SIGTERM at the end."""
    process = start_gpu_sim(map_path, count=count, model=model, seed=seed)
    gpu_map = GpuMap(map_path)
    try:
        wait_until("gpu-sim ticks", gpu_map.moving)
        yield gpu_map
    finally:
        process.terminate()
        assert process.wait(timeout=10) == 0
        gpu_map.close()


@contextmanager
def process_on(
    *uuids: str, code: str = BURN, workload: str = "resnet50", run_dir: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose environment says that it is on these GPUs; killed at the end."""
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(uuids), "WATTMILL_WORKLOAD": workload}
    if run_dir is not None:
        env["WATTMILL_RUN_DIR"] = str(run_dir)
    process = subprocess.Popen([sys.executable, "-c", code], env=env)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def stopped(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and stat.state == "T"

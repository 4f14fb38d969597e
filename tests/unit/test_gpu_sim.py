"""The gpu-sim process and real processes on its GPUs.

Throttling is judged by the share of time in which a process may run, which does not depend on how busy
the machine is.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from power.curve import prior
from power.gpu_load import read_stat
from power.gpu_map import GpuMap, Header, Word
from tests.gpu_builders import (
    DOZE,
    REPOSITORY,
    gpu_sim,
    gpu_sim_command,
    process_on,
    start_gpu_sim,
    stopped,
    wait_until,
)


def uuid(gpu_map: GpuMap, index: int) -> str:
    return gpu_map.info(index).uuid


def states_of(pids: Sequence[int], seconds: float) -> list[tuple[bool, ...]]:
    """Whether each process is stopped, seen every few milliseconds."""
    seen = []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        seen.append(tuple(stopped(pid) for pid in pids))
        time.sleep(0.01)
    return seen


def running_share(pid: int, seconds: float = 3.0) -> float:
    seen = states_of([pid], seconds)
    return sum(not state[0] for state in seen) / len(seen)


def wait_on_gpu(gpu_map: GpuMap, index: int, count: int = 1) -> None:
    wait_until(f"{count} processes on GPU {index}", lambda: len(gpu_map.pids(index)) == count)


def wait_settled(gpu_map: GpuMap, index: int) -> None:
    limit_w = gpu_map.number(index, Word.LIMIT_W)
    wait_until("the limit settles", lambda: abs(gpu_map.number(index, Word.SETTLED_W) - limit_w) < 0.5)


@pytest.mark.slow
def test_half_the_limit_slows_a_process_to_the_curves_throughput_and_back(tmp_path: Path) -> None:
    believed = prior("A40", min_cap_w=100, max_cap_w=300, workload="resnet50")
    with gpu_sim(tmp_path / "gpus.map") as gpu_map, process_on(uuid(gpu_map, 0)) as process:
        wait_on_gpu(gpu_map, 0)
        assert running_share(process.pid, 1.5) == 1.0
        gpu_map.set_number(0, Word.LIMIT_W, 150.0)
        wait_settled(gpu_map, 0)
        before, started_s = read_stat(process.pid), time.monotonic()
        share = running_share(process.pid, 4.0)
        after, wall_s = read_stat(process.pid), time.monotonic() - started_s
        pace = gpu_map.number(0, Word.PACE)
        assert pace == pytest.approx(believed.throughput(150), rel=0.2)
        assert share == pytest.approx(pace, abs=0.08)
        assert before is not None
        assert after is not None
        # It has one thread, so its CPU time cannot exceed the time that it was let run.
        assert (after.cpu_s - before.cpu_s) / wall_s <= pace + 0.08
        gpu_map.set_number(0, Word.LIMIT_W, 300.0)
        wait_until("it is let go", lambda: gpu_map.number(0, Word.PACE) == 1.0)
        assert running_share(process.pid, 1.0) == 1.0


@pytest.mark.slow
def test_the_energy_counter_agrees_with_the_integral_of_the_draw(tmp_path: Path) -> None:
    with gpu_sim(tmp_path / "gpus.map") as gpu_map, process_on(uuid(gpu_map, 0)):
        wait_until("it draws", lambda: gpu_map.number(0, Word.POWER_W) > 200)
        energy_j, integral_j = gpu_map.number(0, Word.ENERGY_J), 0.0
        last_w, last_s = gpu_map.number(0, Word.POWER_W), time.monotonic()
        end_s = last_s + 4.0
        gpu_map.set_number(0, Word.LIMIT_W, 150.0)
        while last_s < end_s:
            time.sleep(0.02)
            now_w, now_s = gpu_map.number(0, Word.POWER_W), time.monotonic()
            integral_j += (last_w + now_w) / 2 * (now_s - last_s)
            last_w, last_s = now_w, now_s
        # Either end may be half a tick or so off.
        assert gpu_map.number(0, Word.ENERGY_J) - energy_j == pytest.approx(integral_j, rel=0.04)
        assert last_w < 160


def test_a_gang_is_stopped_together_at_the_pace_of_its_slowest_gpu(tmp_path: Path) -> None:
    with (
        gpu_sim(tmp_path / "gpus.map") as gpu_map,
        process_on(uuid(gpu_map, 0), uuid(gpu_map, 1), run_dir=tmp_path) as both,
        process_on(uuid(gpu_map, 0), run_dir=tmp_path) as rank_0,
        process_on(uuid(gpu_map, 1), run_dir=tmp_path) as rank_1,
    ):
        gpu_map.set_number(1, Word.LIMIT_W, 140.0)
        wait_on_gpu(gpu_map, 0, 2)
        wait_on_gpu(gpu_map, 1, 2)
        wait_settled(gpu_map, 1)
        assert gpu_map.pids(0) == tuple(sorted((both.pid, rank_0.pid)))
        seen = states_of([both.pid, rank_0.pid, rank_1.pid], 3.0)
        together = sum(len(set(states)) == 1 for states in seen) / len(seen)
        assert together > 0.9
        pace = gpu_map.number(1, Word.PACE)
        assert gpu_map.number(0, Word.PACE) == pace < 0.8
        assert sum(not states[0] for states in seen) / len(seen) == pytest.approx(pace, abs=0.1)
        assert gpu_map.number(0, Word.POWER_W) < 180  # it waits for the other


def test_sigterm_leaves_nothing_stopped(tmp_path: Path) -> None:
    sim = start_gpu_sim(tmp_path / "gpus.map")
    gpu_map = GpuMap(tmp_path / "gpus.map")
    with process_on(uuid(gpu_map, 0)) as process:
        gpu_map.set_number(0, Word.LIMIT_W, 100.0)
        wait_until("it is held", lambda: stopped(process.pid))
        sim.terminate()
        assert sim.wait(timeout=10) == 0
        assert running_share(process.pid, 0.5) == 1.0
        assert gpu_map.integer(0, Word.HELD) == 0
    gpu_map.close()


@pytest.mark.slow
def test_after_sigkill_the_next_one_lets_go_what_was_held(tmp_path: Path) -> None:
    path = tmp_path / "gpus.map"
    first = start_gpu_sim(path)
    gpu_map = GpuMap(path)
    with process_on(uuid(gpu_map, 0)) as process:
        gpu_map.set_number(0, Word.LIMIT_W, 100.0)
        wait_until("it draws", lambda: gpu_map.number(0, Word.POWER_W) > 80)
        standby = start_gpu_sim(path)
        wait_until("it is held", lambda: stopped(process.pid))
        first.kill()
        first.wait()
        ticks_before, energy_j = gpu_map.header(Header.TICKS), gpu_map.number(0, Word.ENERGY_J)
        wait_until("the standby takes over", lambda: gpu_map.header(Header.TICKS) > ticks_before)
        wait_settled(gpu_map, 0)
        assert running_share(process.pid) == pytest.approx(gpu_map.number(0, Word.PACE), abs=0.1)
        assert gpu_map.number(0, Word.ENERGY_J) > energy_j
        gpu_map.set_number(0, Word.LIMIT_W, 300.0)
        wait_until("it is let go", lambda: gpu_map.number(0, Word.PACE) == 1.0)
        assert running_share(process.pid, 0.5) == 1.0
        standby.terminate()
        assert standby.wait(timeout=10) == 0
    gpu_map.close()


@pytest.mark.slow
def test_a_frozen_run_is_never_continued_and_draws_little(tmp_path: Path) -> None:
    frozen = tmp_path / "frozen"
    sim = start_gpu_sim(tmp_path / "gpus.map")
    gpu_map = GpuMap(tmp_path / "gpus.map")
    with process_on(uuid(gpu_map, 0), run_dir=tmp_path) as process:
        gpu_map.set_number(0, Word.LIMIT_W, 150.0)
        wait_until("it draws", lambda: gpu_map.number(0, Word.POWER_W) > 120)
        frozen.touch()
        process.send_signal(signal.SIGSTOP)
        wait_until("it is stopped", lambda: stopped(process.pid))
        assert running_share(process.pid, 2.0) == 0.0
        wait_until("it draws little", lambda: gpu_map.number(0, Word.POWER_W) < 60)
        frozen.unlink()
        process.send_signal(signal.SIGCONT)
        wait_until("it draws again", lambda: gpu_map.number(0, Word.POWER_W) > 120)
        assert running_share(process.pid) == pytest.approx(gpu_map.number(0, Word.PACE), abs=0.1)
        frozen.touch()
        process.send_signal(signal.SIGSTOP)
        sim.terminate()
        assert sim.wait(timeout=10) == 0
        assert running_share(process.pid, 0.3) == 0.0
    gpu_map.close()


def test_what_somebody_else_stopped_stays_stopped(tmp_path: Path) -> None:
    with gpu_sim(tmp_path / "gpus.map") as gpu_map, process_on(uuid(gpu_map, 0)) as process:
        wait_on_gpu(gpu_map, 0)
        process.send_signal(signal.SIGSTOP)
        gpu_map.set_number(0, Word.LIMIT_W, 200.0)
        time.sleep(0.1)
        assert running_share(process.pid, 1.0) == 0.0


def test_a_waiting_process_holds_the_gpu_without_using_it(tmp_path: Path) -> None:
    with gpu_sim(tmp_path / "gpus.map") as gpu_map, process_on(uuid(gpu_map, 0), code=DOZE) as process:
        wait_on_gpu(gpu_map, 0)
        wait_until("start-up is over", lambda: gpu_map.number(0, Word.UTILIZATION) < 0.05)
        wait_until("it draws little", lambda: gpu_map.number(0, Word.POWER_W) < 60)
        assert gpu_map.pids(0) == (process.pid,)
        assert gpu_map.pids(1) == ()
        process.kill()
        process.wait()
        wait_on_gpu(gpu_map, 0, 0)
        wait_until("it idles", lambda: gpu_map.number(0, Word.POWER_W) < 35)


def test_a_process_that_becomes_a_job_later_is_found(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; time.sleep(0.8); env = {'CUDA_VISIBLE_DEVICES': sys.argv[1]}; "
        "os.execve(sys.executable, [sys.executable, '-c', 'import time; time.sleep(60)'], env)"
    )
    with gpu_sim(tmp_path / "gpus.map") as gpu_map:
        process = subprocess.Popen([sys.executable, "-c", code, uuid(gpu_map, 0)])
        wait_until("it is found", lambda: gpu_map.pids(0) == (process.pid,))
        process.kill()
        process.wait()


def test_without_its_parent_it_stays_while_a_process_needs_it(tmp_path: Path) -> None:
    path = tmp_path / "gpus.map"
    command = gpu_sim_command(path, 2)
    code = (
        "import subprocess, sys, time; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, *command], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    sim_pid = int(parent.stdout.readline())
    parent.stdout.close()
    wait_until("the map is made", path.exists)
    gpu_map = GpuMap(path)
    wait_until("it ticks", gpu_map.moving)
    with process_on(uuid(gpu_map, 0)):
        wait_on_gpu(gpu_map, 0)
        parent.kill()
        parent.wait()
        time.sleep(0.6)
        ticks = gpu_map.header(Header.TICKS)
        wait_until("it goes on", lambda: gpu_map.header(Header.TICKS) > ticks)
    wait_until("it ends", lambda: (stat := read_stat(sim_pid)) is None or stat.state == "Z")
    gpu_map.close()

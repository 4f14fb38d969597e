"""The local engine when its daemon or its shims are killed at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.engines import process_identity as identity
from scheduler.engines.engine import RunPhase, Wanted
from scheduler.engines.local import LocalEngine
from tests.engine_builders import (
    REPOSITORY,
    ended,
    engine_that_leaves_nothing,
    frozen,
    log_of,
    python,
    running,
    shell,
    wait_for,
    wait_until,
)

DAEMON = """
import sys
from pathlib import Path
from scheduler.engines.local import LocalEngine
from tests.engine_builders import shell
tmp_path, script, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
engine = LocalEngine(tmp_path / "runs")
print("up", flush=True)
for index in range(count):
    engine.launch(shell(tmp_path, script, run_id=f"run_{index}", grace_s=0.2))
print("launched", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    yield from engine_that_leaves_nothing(tmp_path)


def start_daemon(tmp_path: Path, script: str, count: int = 1) -> subprocess.Popen[str]:
    """Another process with an engine of its own on the same folder; returns when it is up."""
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(tmp_path), script, str(count)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == "up\n"
    return daemon


def kill(daemon: subprocess.Popen[str]) -> None:
    daemon.kill()
    daemon.communicate()


def shim_record(tmp_path: Path, run_id: str = "run_1") -> dict[str, int]:
    record: dict[str, int] = json.loads((tmp_path / "runs" / run_id / "shim.json").read_text())
    return record


def gone(pid: int) -> bool:
    process = identity.read_process(pid)
    return process is None or process.gone


# The daemon dies


def test_a_run_outlives_its_daemon_and_is_adopted(engine: LocalEngine, tmp_path: Path) -> None:
    counting = "i=0; trap 'echo saved; exit 85' TERM; while :; do i=$((i+1)); echo $i; sleep 0.05; done"
    daemon = start_daemon(tmp_path, counting)
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == "launched\n"
    before = wait_for(engine, running, "run_0")
    kill(daemon)
    size = len(log_of(engine, "run_0"))
    wait_until(lambda: len(log_of(engine, "run_0")) > size + 10, "the run goes on")
    adopter = LocalEngine(tmp_path / "runs")
    after = wait_for(adopter, running, "run_0")
    assert min(after.pids) == min(before.pids)
    assert after.started_at == before.started_at
    adopter.want("run_0", Wanted.FREEZE)
    wait_for(adopter, frozen, "run_0")
    adopter.want("run_0", Wanted.STOP)
    assert wait_for(adopter, ended, "run_0").exit_code == 85
    lines = [int(line) for line in log_of(engine, "run_0").split() if line.isdigit()]
    assert lines == list(range(1, len(lines) + 1))  # the log is whole


def test_a_run_that_ended_while_no_daemon_looked_keeps_its_exit_code(
    engine: LocalEngine, tmp_path: Path
) -> None:
    daemon = start_daemon(tmp_path, "sleep 0.4; exit 7")
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == "launched\n"
    kill(daemon)
    time.sleep(0.6)
    status = wait_for(LocalEngine(tmp_path / "runs"), ended, "run_0")
    assert (status.phase, status.exit_code) == (RunPhase.EXITED, 7)


def test_a_daemon_killed_at_any_moment_of_a_launch_leaves_no_run_in_doubt(
    engine: LocalEngine, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    for index in range(8):
        folder = tmp_path / str(index)
        mark = folder / "started"
        folder.mkdir()
        daemon = start_daemon(folder, f"echo $WATTMILL_RUN >> {mark}; exec sleep 600", count=50)
        time.sleep(chance.uniform(0.0, 0.4))
        kill(daemon)
        heir = LocalEngine(folder / "runs")
        wait_until(
            lambda heir=heir: all(s.phase is not RunPhase.STARTING for s in heir.observe().values()),  # type: ignore[misc]
            "every run is running or ended",
        )
        statuses = heir.observe()
        for run_id, status in statuses.items():
            assert status.phase in (RunPhase.RUNNING, RunPhase.LOST), status
            heir.want(run_id, Wanted.STOP)
        wait_until(
            lambda heir=heir: all(ended(s) for s in heir.observe().values()),  # type: ignore[misc]
            "all ended",
        )
        started = mark.read_text().split() if mark.exists() else []
        assert len(started) == len(set(started)), "a run was started twice"
        assert set(started) <= set(statuses), "a run nobody knows"
        assert not set(identity.processes_by_run(str(folder / "runs"))) & set(statuses)


def test_a_launch_that_never_got_a_shim_is_lost_and_stays_fenced(engine: LocalEngine, tmp_path: Path) -> None:
    folder = tmp_path / "runs/run_1"  # as a daemon leaves it that was killed between record and start
    folder.mkdir()
    (folder / "launch.json").write_text("{}")
    (folder / "shim.lock").touch()
    status = wait_for(engine, ended)
    assert (status.phase, status.error) == (RunPhase.LOST, "its shim never came up")


# The shim dies


ESCAPING = """
import os, time
if os.fork() == 0:
    os.setsid()
print("up", flush=True)
while True:
    time.sleep(0.05)
"""


def test_a_run_without_its_shim_is_lost_only_when_nothing_of_it_lives(
    engine: LocalEngine, tmp_path: Path
) -> None:
    engine.launch(python(tmp_path, ESCAPING))
    wait_until(lambda: log_of(engine).count("up") == 2, "both are up")
    pids = wait_for(engine, lambda status: len(status.pids) == 2).pids
    os.kill(shim_record(tmp_path)["pid"], signal.SIGKILL)
    wait_until(lambda: gone(shim_record(tmp_path)["pid"]), "the shim is gone")
    assert not any(gone(pid) for pid in pids)
    first = engine.observe()["run_1"]
    assert (first.phase, set(first.pids)) == (RunPhase.RUNNING, set(pids))
    status = wait_for(engine, ended)
    assert (status.phase, status.exit_code) == (RunPhase.LOST, None)
    assert all(gone(pid) for pid in pids)
    assert status.ended_at is not None
    again = LocalEngine(tmp_path / "runs").observe()["run_1"]  # and lost it stays
    assert (again.phase, again.ended_at) == (RunPhase.LOST, status.ended_at)


def test_daemon_and_shim_die_while_frozen(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(python(tmp_path, ESCAPING))
    wait_until(lambda: log_of(engine).count("up") == 2, "both are up")
    engine.want("run_1", Wanted.FREEZE)
    pids = wait_for(engine, frozen).pids
    os.kill(shim_record(tmp_path)["pid"], signal.SIGKILL)
    heir = LocalEngine(tmp_path / "runs")
    assert wait_for(heir, ended).phase is RunPhase.LOST
    assert all(gone(pid) for pid in pids)


def test_a_job_that_hides_its_environment_is_still_found(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(shell(tmp_path, "exec env -i /bin/sh -c 'sleep 600; true'"))
    pids = wait_for(engine, lambda status: len(status.pids) == 2).pids
    os.kill(shim_record(tmp_path)["pid"], signal.SIGKILL)
    assert wait_for(engine, ended).phase is RunPhase.LOST
    assert all(gone(pid) for pid in pids)


@pytest.mark.parametrize("change", [{"start_time": 1}, {"boot_id": "the boot before"}])
def test_who_has_the_pids_of_a_dead_run_is_left_alone(
    engine: LocalEngine, tmp_path: Path, change: dict[str, object]
) -> None:
    with subprocess.Popen(["sleep", "600"]) as innocent:
        now = identity.read_process(innocent.pid)
        assert now is not None
        folder = tmp_path / "runs/run_1"
        folder.mkdir()
        (folder / "launch.json").write_text("{}")
        record = {
            "boot_id": identity.boot_id(),
            "pid": innocent.pid,
            "start_time": now.start_time,
            "run_id": "run_1",
        }
        record |= {"child_pid": innocent.pid, "child_start_time": now.start_time - 1, "started_at": None}
        (folder / "shim.json").write_text(json.dumps(record | change))
        status = wait_for(engine, ended)
        assert (status.phase, status.pids) == (RunPhase.LOST, ())
        assert innocent.poll() is None
        innocent.kill()


def test_a_shim_told_to_end_by_the_system_stops_its_job_properly(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(shell(tmp_path, "trap 'echo saved; exit 85' TERM; echo up; while :; do sleep 0.05; done"))
    wait_until(lambda: "up" in log_of(engine), "the trap is set")
    os.kill(shim_record(tmp_path)["pid"], signal.SIGTERM)
    assert wait_for(engine, ended).exit_code == 85

"""The local engine with real processes: start, environment, stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.engines import process_identity as identity
from scheduler.engines.engine import Engine, EngineError, RunPhase, Wanted
from scheduler.engines.local import LocalEngine
from tests.engine_builders import (
    a_run,
    ended,
    engine_that_leaves_nothing,
    log_of,
    python,
    running,
    shell,
    wait_for,
    wait_until,
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    yield from engine_that_leaves_nothing(tmp_path)


# Start and end


def test_it_is_an_engine(engine: LocalEngine) -> None:
    anything: Engine = engine
    assert anything.observe() == {}


def test_a_run_starts_and_its_exit_code_is_told(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(shell(tmp_path, "echo out; echo err >&2; sleep 0.3; exit 3"))
    status = wait_for(engine, running)
    assert status.started_at is not None
    status = wait_for(engine, ended)
    assert (status.phase, status.exit_code, status.error) == (RunPhase.EXITED, 3, None)
    assert status.ended_at is not None
    assert status.started_at is not None
    assert 0.2 < (status.ended_at - status.started_at).total_seconds() < 10
    assert log_of(engine) == "out\nerr\n"


def test_the_shim_is_nobodys_child_and_has_an_empty_environment(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(shell(tmp_path, "sleep 30", grace_s=0.1))
    wait_for(engine, running)
    pid = json.loads((tmp_path / "runs/run_1/shim.json").read_text())["pid"]
    process = identity.read_process(pid)
    assert process is not None
    assert process.parent != os.getpid()
    assert os.getsid(pid) == pid
    names = {
        entry.split(b"=")[0] for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if entry
    }
    assert names <= {b"PATH", b"LANG"}


def test_a_run_starts_at_most_once(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(shell(tmp_path, "echo once"))
    with pytest.raises(EngineError, match="launched before"):
        engine.launch(shell(tmp_path, "echo twice"))
    wait_for(engine, ended)
    with pytest.raises(EngineError, match="launched before"):
        engine.launch(shell(tmp_path, "echo thrice"))
    assert log_of(engine) == "once\n"


def test_of_many_launching_at_once_one_wins(engine: LocalEngine, tmp_path: Path) -> None:
    won: list[int] = []

    def launch(index: int) -> None:
        try:
            engine.launch(shell(tmp_path, f"echo {index}"))
            won.append(index)
        except EngineError:
            pass

    threads = [threading.Thread(target=launch, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(engine, ended)
    assert len(won) == 1
    assert log_of(engine) == f"{won[0]}\n"


@pytest.mark.parametrize("run_id", ["", ".", "..", "a/b", "../x", "a\0b", "x" * 200, "-x"])
def test_a_run_id_is_never_a_path(engine: LocalEngine, tmp_path: Path, run_id: str) -> None:
    with pytest.raises(EngineError, match="not a run id"):
        engine.launch(a_run(tmp_path, "true", run_id=run_id))
    with pytest.raises(EngineError, match="not a run id"):
        engine.read_log(run_id, 0, 10)


@pytest.mark.parametrize(
    ("argv", "cwd", "env", "exit_code", "says"),
    [
        (("no-such-program",), None, {}, 127, "cannot start 'no-such-program': No such file or directory"),
        (("/etc/passwd",), None, {}, 126, "cannot start '/etc/passwd': Permission denied"),
        (("true",), "/no/such/folder", {}, 127, "cannot enter the working directory '/no/such/folder'"),
        (("true",), None, {"A": "x\0y"}, 126, "embedded null byte"),
    ],
)
def test_what_cannot_start_ends_with_a_clear_error(
    engine: LocalEngine,
    tmp_path: Path,
    argv: tuple[str, ...],
    cwd: str | None,
    env: dict[str, str],
    exit_code: int,
    says: str,
) -> None:
    engine.launch(a_run(tmp_path, *argv, cwd=cwd, env=env))
    status = wait_for(engine, ended)
    assert (status.phase, status.exit_code) == (RunPhase.EXITED, exit_code)
    assert says in (status.error or "")
    assert says in log_of(engine)


def test_arguments_arrive_as_they_were_given(engine: LocalEngine, tmp_path: Path) -> None:
    nasty = ["; rm -rf /", "$(id)", "`id`", "a\nb", "--", "*", "'\"", "", "ü€😀", " "]
    engine.launch(
        a_run(tmp_path, sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))", *nasty)
    )
    wait_for(engine, ended)
    assert json.loads(log_of(engine)) == nasty


def test_a_job_does_not_inherit_the_daemons_environment(
    engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH", "DATABASE_PASSWORD", "WATTMILL_TOKEN"):
        monkeypatch.setenv(name, "of-the-daemon")
    engine.launch(a_run(tmp_path, "/usr/bin/env", gpus=1, env={"PYTHONPATH": "/mine", "LD_PRELOAD": ""}))
    wait_for(engine, ended)
    env = dict(line.split("=", 1) for line in log_of(engine).splitlines())
    assert "of-the-daemon" not in env.values()
    assert env["WATTMILL_RUN"] == "run_1"
    assert env["WATTMILL_JOB_ID"] == "job_1"
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-5100"
    assert env["WATTMILL_RUN_DIR"] == str(tmp_path / "runs/run_1")
    assert "WATTMILL_RESUME_FROM" not in env
    user, wattjob = env["PYTHONPATH"].split(":")
    assert user == "/mine"
    assert (Path(wattjob) / "wattjob/__init__.py").is_file()
    assert {path.parent.name for path in Path(wattjob).glob("*/__init__.py")} == {"wattjob"}
    assert Path(env["WATTMILL_CHECKPOINT_DIR"]).is_dir()


# Stop


def test_a_stop_lets_a_job_finish_its_work(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(shell(tmp_path, "trap 'echo saved; exit 85' TERM; echo up; while :; do sleep 0.05; done"))
    wait_until(lambda: "up" in log_of(engine), "the trap is set")
    engine.want("run_1", Wanted.STOP)
    status = wait_for(engine, ended)
    assert (status.phase, status.exit_code, status.pids) == (RunPhase.EXITED, 85, ())
    assert log_of(engine).endswith("saved\n")


ESCAPE = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for generation in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        if generation == 2:
            os.execve("/bin/sleep", ["sleep", "600"], {})  # forgets even its environment
        time.sleep(600)
print("up", flush=True)
time.sleep(600)
"""


def test_what_ignores_the_stop_is_killed_wherever_it_hid(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(python(tmp_path, ESCAPE, grace_s=0.5))
    wait_until(lambda: "up" in log_of(engine), "the job has forked")
    status = wait_for(engine, lambda status: len(status.pids) == 4)
    before_s = time.monotonic()
    engine.want("run_1", Wanted.STOP)
    after = wait_for(engine, ended)
    assert time.monotonic() - before_s >= 0.5
    assert after.exit_code == -signal.SIGKILL
    for pid in status.pids:
        process = identity.read_process(pid)
        assert process is None or process.gone


def test_what_a_job_leaves_behind_ends_with_it(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(shell(tmp_path, "setsid sleep 600 & sleep 0.2; exit 0"))
    status = wait_for(engine, lambda status: len(status.pids) >= 2)
    after = wait_for(engine, ended)
    assert (after.exit_code, after.error) == (0, None)
    for pid in status.pids:
        process = identity.read_process(pid)
        assert process is None or process.gone


def test_what_escaped_the_group_hears_the_stop_too(engine: LocalEngine, tmp_path: Path) -> None:
    child = "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    engine.launch(shell(tmp_path, f'setsid sh -c "{child}" & exec sleep 600', grace_s=30.0))
    wait_until(lambda: "up" in log_of(engine), "the trap is set")
    engine.want("run_1", Wanted.STOP)
    wait_for(engine, ended)
    assert log_of(engine).endswith("saved\n")


def test_a_child_may_use_the_grace_that_its_wrapper_did_not(engine: LocalEngine, tmp_path: Path) -> None:
    child = "trap 'sleep 0.5; echo saved; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    engine.launch(shell(tmp_path, f'sh -c "{child}" & exec sleep 600'))
    wait_until(lambda: "up" in log_of(engine), "the trap is set")
    engine.want("run_1", Wanted.STOP)
    assert wait_for(engine, ended).exit_code == -signal.SIGTERM
    assert log_of(engine).endswith("saved\n")


def test_a_stop_is_final_and_before_the_first_step_is_a_stop_too(engine: LocalEngine, tmp_path: Path) -> None:
    for index in range(6):  # the stop meets the shim at a different point each time
        run_id = f"run_{index}"
        engine.launch(shell(tmp_path, "sleep 600", run_id=run_id, grace_s=0.2))
        time.sleep(0.01 * index)
        engine.want(run_id, Wanted.STOP)
        engine.want(run_id, Wanted.RUN)
        status = wait_for(engine, ended, run_id)
        assert status.phase is RunPhase.EXITED
        assert status.exit_code in (None, -signal.SIGTERM)


def test_a_wish_for_an_unknown_run_is_an_error_and_for_an_ended_one_is_nothing(
    engine: LocalEngine, tmp_path: Path
) -> None:
    with pytest.raises(EngineError):
        engine.want("run_0", Wanted.STOP)
    engine.launch(shell(tmp_path, "true"))
    wait_for(engine, ended)
    engine.want("run_1", Wanted.STOP)


def test_a_run_whose_folder_is_gone_ends(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(shell(tmp_path, "sleep 600"))
    pids = wait_for(engine, running).pids
    shutil.rmtree(tmp_path / "runs/run_1")
    wait_until(lambda: all(identity.read_process(pid) is None for pid in pids), "its processes are gone")

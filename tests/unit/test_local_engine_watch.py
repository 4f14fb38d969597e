"""The local engine with real processes: freeze, reports, logs, many runs."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.engines.engine import EngineError, RunPhase, Wanted
from scheduler.engines.local import LocalEngine
from tests.engine_builders import (
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


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    yield from engine_that_leaves_nothing(tmp_path)


# Freeze


def test_a_frozen_run_stands_still_even_if_another_lets_it_continue(
    engine: LocalEngine, tmp_path: Path
) -> None:
    engine.launch(shell(tmp_path, "setsid sh -c 'while :; do echo x; sleep 0.02; done' & sleep 600"))
    wait_until(lambda: log_of(engine).count("x") > 3, "it writes")
    engine.want("run_1", Wanted.FREEZE)
    pids = wait_for(engine, frozen).pids
    assert len(pids) >= 3
    assert (tmp_path / "runs/run_1/frozen").exists()
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    time.sleep(0.5)
    wait_for(engine, frozen)
    size = len(log_of(engine))
    time.sleep(0.5)
    assert len(log_of(engine)) == size
    engine.want("run_1", Wanted.RUN)
    wait_for(engine, running)
    assert not (tmp_path / "runs/run_1/frozen").exists()
    wait_until(lambda: len(log_of(engine)) > size, "it writes again")


def test_a_frozen_run_hears_its_stop(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(shell(tmp_path, "trap 'echo saved; exit 85' TERM; echo up; while :; do sleep 0.05; done"))
    wait_until(lambda: "up" in log_of(engine), "the trap is set")
    engine.want("run_1", Wanted.FREEZE)
    wait_for(engine, frozen)
    engine.want("run_1", Wanted.STOP)
    assert wait_for(engine, ended).exit_code == 85
    assert not (tmp_path / "runs/run_1/frozen").exists()


# Reports


REPORTING = """
import time, wattjob
for step in range(1, 400):
    time.sleep(0.02)
    wattjob.progress(step, 400, samples=step * 8)
    if wattjob.should_checkpoint():
        wattjob.saved(f"/checkpoints/{step}")
        print("saved", flush=True)
"""


def test_progress_and_a_checkpoint_without_a_stop(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(python(tmp_path, REPORTING))
    status = wait_for(engine, lambda status: status.progress is not None and status.progress.step > 30)
    assert status.progress is not None
    assert status.progress.samples == status.progress.step * 8
    assert 40 < (status.progress.samples_per_s or 0) <= 440
    engine.want("run_1", Wanted.RUN, checkpoint_now=True)
    status = wait_for(engine, lambda status: status.checkpoint_path is not None)
    assert (status.checkpoint_path or "").startswith("/checkpoints/")
    assert status.phase is RunPhase.RUNNING
    assert status.checkpoint_at is not None
    assert status.answered_request == 1
    assert 0 < (status.answer_s or 0) < 5
    time.sleep(0.5)
    assert log_of(engine) == "saved\n"  # one request, one checkpoint


def test_a_job_with_wattjob_alone_stops_with_a_checkpoint(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(python(tmp_path, REPORTING))
    wait_for(engine, lambda status: status.progress is not None)
    engine.want("run_1", Wanted.STOP)
    status = wait_for(engine, ended)
    assert status.exit_code == -signal.SIGTERM
    assert status.checkpoint_path is not None
    assert status.answered_request == 1  # what its stop asked for
    assert status.progress is not None


# Logs and many runs


def test_a_flood_of_output_is_capped(tmp_path: Path) -> None:
    for engine in engine_that_leaves_nothing(tmp_path, log_cap_bytes=100_000):
        engine.launch(shell(tmp_path, "yes | head -c 30000000; echo done >&2"))
        wait_for(engine, ended)
        assert len(log_of(engine)) < 101_000
        size = json.loads((tmp_path / "runs/run_1/log.json").read_text())
        assert size == {"bytes": 30_000_005, "kept_bytes": 100_000, "truncated": True}


def test_a_log_is_read_in_pieces(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(shell(tmp_path, "printf 0123456789"))
    wait_for(engine, ended)
    assert engine.read_log("run_1", 0, 4) == (b"0123", 4)
    assert engine.read_log("run_1", 4, 100) == (b"456789", 10)
    assert engine.read_log("run_1", 10, 100) == (b"", 10)
    assert engine.read_log("run_1", 99, 100) == (b"", 99)
    with pytest.raises(EngineError, match="run_2"):
        engine.read_log("run_2", 0, 1)


def test_a_job_cannot_make_us_read_another_file(engine: LocalEngine, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("SECRET" * 100)
    log = "$WATTMILL_RUN_DIR/job.log"
    swap = f"while :; do ln -sf {secret} {log}.l; mv {log}.l {log}; rm -f {log}; mkfifo {log}; rm {log}; done"
    engine.launch(shell(tmp_path, swap, grace_s=0.1))
    wait_for(engine, running)
    until_s, refused = time.monotonic() + 1.0, 0
    while time.monotonic() < until_s:
        try:
            assert b"SECRET" not in engine.read_log("run_1", 0, 1000)[0]
        except EngineError:
            refused += 1
    assert refused


def test_a_job_cannot_declare_itself_ended(engine: LocalEngine, tmp_path: Path) -> None:
    forged = '{"exit_code": 0, "reason": "exited"}'
    engine.launch(
        shell(tmp_path, f"echo '{forged}' > $WATTMILL_RUN_DIR/exit.json; echo up; sleep 600", grace_s=0.1)
    )
    wait_until(lambda: "up" in log_of(engine), "it has written")
    time.sleep(0.3)
    assert engine.observe()["run_1"].phase is RunPhase.RUNNING


def test_ended_runs_cost_nothing_to_watch_and_can_be_forgotten(engine: LocalEngine, tmp_path: Path) -> None:
    for index in range(200):
        folder = tmp_path / f"runs/old_{index}"
        folder.mkdir(parents=True)
        (folder / "launch.json").write_text("{}")
        (folder / "exit.json").write_text('{"exit_code": 0, "reason": "exited", "error": null}')
    assert len(engine.observe()) == 200
    before_s = time.process_time()
    for _ in range(10):
        engine.observe()
    assert (time.process_time() - before_s) / 10 < 0.02
    engine.forget("old_7")
    assert "old_7" not in engine.observe()
    assert not (tmp_path / "runs/old_7").exists()


def test_a_live_run_cannot_be_forgotten(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(shell(tmp_path, "sleep 600", grace_s=0.1))
    wait_for(engine, running)
    with pytest.raises(EngineError):
        engine.forget("run_1")


def test_the_same_run_id_in_a_copied_data_directory_is_another_run(tmp_path: Path) -> None:
    engines = [LocalEngine(tmp_path / name / "runs") for name in ("live", "copied")]
    for engine in engines:
        engine.launch(shell(tmp_path, "sleep 600", grace_s=0.1))
        wait_for(engine, running)
    engines[1].want("run_1", Wanted.STOP)
    wait_for(engines[1], ended)
    assert running(engines[0].observe()["run_1"])
    engines[0].want("run_1", Wanted.STOP)
    wait_for(engines[0], ended)

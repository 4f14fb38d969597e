"""The example scripts, as a user runs them and as wattmill does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.engines.engine import LaunchSpec, RunPhase, Wanted
from scheduler.engines.local import LocalEngine
from tests.engine_builders import (
    REPOSITORY,
    a_run,
    ended,
    engine_that_leaves_nothing,
    frozen,
    log_of,
    running,
    wait_for,
)

pytest.importorskip("torch", reason="the examples need torch")
pytestmark = pytest.mark.slow

SINGLE, DDP = REPOSITORY / "examples/train_char_transformer.py", REPOSITORY / "examples/train_ddp.py"
SMALL = ("--batch", "4", "--dim", "16", "--layers", "1", "--samples-per-report", "16")
STOPPED_EXIT_CODE = 85


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    yield from engine_that_leaves_nothing(tmp_path)


def by_hand(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Without wattmill and without wattjob."""
    command = [sys.executable, str(SINGLE), *SMALL, *options]
    env = {"PATH": os.environ["PATH"]}
    return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)


def losses(text: str) -> dict[int, str]:
    return {
        int(step): loss for step, loss in re.findall(r"step (\d+) loss ([0-9.]+) samples/s [0-9.]+", text)
    }


def training(tmp_path: Path, script: Path, steps: int, **fields: object) -> LaunchSpec:
    return a_run(tmp_path, sys.executable, str(script), *SMALL, "--steps", str(steps), **fields)  # type: ignore[arg-type]


def test_it_learns_without_wattmill(tmp_path: Path) -> None:
    done = by_hand(tmp_path, "--steps", "120")
    assert (done.returncode, done.stderr) == (0, "")
    by_step = losses(done.stdout)
    assert list(by_step) == list(range(4, 121, 4))
    assert float(by_step[120]) < float(by_step[4])
    assert not (tmp_path / "checkpoints").exists()


def test_it_stops_with_a_checkpoint_and_goes_on_as_if_it_had_not(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(training(tmp_path, SINGLE, 100_000, run_id="run_a", grace_s=60))
    status = wait_for(engine, lambda status: status.progress is not None, "run_a", 60)
    assert status.progress is not None
    assert status.progress.total_steps == 100_000
    engine.want("run_a", Wanted.FREEZE)
    wait_for(engine, frozen, "run_a")
    engine.want("run_a", Wanted.RUN, checkpoint_now=True)
    first = wait_for(engine, lambda status: status.checkpoint_path is not None, "run_a")
    assert first.phase is RunPhase.RUNNING
    engine.want("run_a", Wanted.STOP)
    status = wait_for(engine, ended, "run_a", 60)
    assert status.exit_code == STOPPED_EXIT_CODE
    assert status.checkpoint_path is not None
    saved = int(re.findall(r"step-(\d+)\.pt", status.checkpoint_path)[0])
    goal = saved + 8
    engine.launch(training(tmp_path, SINGLE, goal, run_id="run_b", resume_from=status.checkpoint_path))
    assert wait_for(engine, ended, "run_b", 60).exit_code == 0, log_of(engine, "run_b")
    assert f"resumed at step {saved}\n" in log_of(engine, "run_b")
    resumed = losses(log_of(engine, "run_b"))
    assert min(resumed) > saved
    assert max(resumed) == goal


def test_two_ranks_stop_together_and_resume(engine: LocalEngine, tmp_path: Path) -> None:
    engine.launch(training(tmp_path, DDP, 100_000, run_id="run_a", gpus=2, grace_s=60))
    status = wait_for(
        engine, lambda status: status.progress is not None and running(status), "run_a", timeout_s=90
    )
    assert len(status.pids) == 3  # torchrun and two ranks
    engine.want("run_a", Wanted.FREEZE)
    wait_for(engine, frozen, "run_a")
    engine.want("run_a", Wanted.STOP)
    status = wait_for(engine, ended, "run_a", 90)
    assert status.phase is RunPhase.EXITED
    assert status.exit_code not in (0, None)
    assert status.checkpoint_path is not None
    saved = int(re.findall(r"step-(\d+)\.pt", status.checkpoint_path)[0])
    engine.launch(training(tmp_path, DDP, saved + 10, run_id="run_b", gpus=2))
    assert wait_for(engine, ended, "run_b", 90).exit_code == 0, log_of(engine, "run_b")
    assert f"resumed at step {saved}\n" in log_of(engine, "run_b")

"""What a job writes into its run folder is judged before anything of ours takes it over."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scheduler.engines import run_status
from scheduler.engines.engine import RunPhase, RunStatus, Wanted
from scheduler.engines.local import LocalEngine
from scheduler.model import Job, JobSpec, JobState, Run
from scheduler.reconcile import reconcile

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield handle
    os.close(handle)


def ended(folder: int, path: Path, **files: object) -> RunStatus:
    last_word = {"exit_code": 0, "reason": "exited", "error": None, "ended_at": NOW.isoformat()}
    for name, content in {"exit": last_word, **files}.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return run_status.unsupervised(folder, "run_1", [])


@pytest.mark.parametrize("path", ["/data/\udc80x", "/data/\0x"])
def test_a_checkpoint_path_that_no_database_takes_is_not_taken_over(
    folder: int, tmp_path: Path, path: str
) -> None:
    assert ended(folder, tmp_path, checkpoint={"path": path}).checkpoint_path is None


@pytest.mark.parametrize(
    ("ack", "answered", "answer_s"),
    [
        ({"answered": 2, "answer_s": 4.5}, 2, 4.5),
        ({"answered": 0, "answer_s": None}, 0, None),
        ({}, 0, None),
        ({"answered": 2, "answer_s": None}, 0, None),
        ({"answered": 2, "answer_s": float("nan")}, 0, None),
        ({"answered": 2, "answer_s": 1e999}, 0, None),
        ({"answered": 2, "answer_s": -3}, 2, 0.0),
        ({"answered": 10**30, "answer_s": 1}, 0, None),
        ({"answered": "2", "answer_s": 1}, 0, None),
    ],
)
def test_an_answer_to_a_request_counts_with_the_seconds_that_it_took(
    folder: int, tmp_path: Path, ack: dict[str, object], answered: int, answer_s: float | None
) -> None:
    status = ended(folder, tmp_path, checkpoint={"path": "/c/1", "at": NOW.isoformat(), **ack})
    assert (status.checkpoint_at, status.answered_request, status.answer_s) == (NOW, answered, answer_s)


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_progress_that_is_no_number_is_dropped(folder: int, tmp_path: Path, number: float) -> None:
    report = {"at": NOW.isoformat(), "step": 1, "total_steps": None, "samples": 1.0, "samples_per_s": number}
    assert ended(folder, tmp_path, progress=report).progress is None
    assert ended(folder, tmp_path, progress=report | {"samples": number, "samples_per_s": 1}).progress is None


def test_an_exit_code_that_no_process_has_is_dropped(folder: int, tmp_path: Path) -> None:
    last_word = {"exit_code": 10**30, "reason": "exited", "error": None, "ended_at": NOW.isoformat()}
    assert ended(folder, tmp_path, exit=last_word).exit_code is None


@pytest.mark.parametrize(
    ("reason", "checkpoint", "exit_code", "state"),
    [
        ("stopped", None, 143, JobState.QUEUED),
        ("stopped", "/data/step-7", 0, JobState.QUEUED),
        ("stopped", None, 0, JobState.SUCCEEDED),
        ("exited", None, 143, JobState.FAILED),
        ("exited", "/data/step-7", 0, JobState.SUCCEEDED),
    ],
)
def test_a_job_that_goes_down_with_its_machine_is_queued_again(
    folder: int, tmp_path: Path, reason: str, checkpoint: str | None, exit_code: int, state: JobState
) -> None:
    last_word = {"exit_code": exit_code, "reason": reason, "error": None, "ended_at": NOW.isoformat()}
    status = ended(folder, tmp_path, exit=last_word, checkpoint={"path": checkpoint})
    assert status.phase is RunPhase.EXITED
    run = Run(id="run_1", job_id="job_1", attempt=1, gpu_uuids=("GPU-0",), cap_w=200, created_at=NOW)
    job = Job(
        id="job_1",
        spec=JobSpec(argv=("train",), gpus=1),
        owner="ada",
        submitted_at=NOW,
        state=JobState.RUNNING,
        state_since=NOW,
        run=run,
        attempts=1,
    )
    assert reconcile(job, status, NOW, freeze_limit_s=300).moves[-1].state is state


def test_a_job_without_requeue_that_was_never_launched_waits_again(tmp_path: Path) -> None:
    run = Run(id="run_1", job_id="job_1", attempt=1, gpu_uuids=("GPU-0",), cap_w=200, created_at=NOW)
    job = Job(
        id="job_1",
        spec=JobSpec(argv=("train",), gpus=1, requeue=False),
        owner="ada",
        submitted_at=NOW,
        state=JobState.STARTING,
        state_since=NOW,
        run=run,
        attempts=1,
    )
    step = reconcile(job, None, NOW, freeze_limit_s=300)
    assert [moved.state for moved in step.moves] == [JobState.STOPPING, JobState.QUEUED]


def test_a_wish_file_that_the_job_spoilt_does_not_save_it_from_its_stop(tmp_path: Path) -> None:
    run_dir = tmp_path / "run_1"
    run_dir.mkdir()
    (run_dir / "launch.json").write_text('{"grace_s": null}')
    (run_dir / "wanted.json").write_text('{"wanted": "run", "checkpoint_seq": "x"}')
    LocalEngine(tmp_path).want("run_1", Wanted.STOP)
    assert json.loads((run_dir / "wanted.json").read_text())["wanted"] == "stop"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads what is locked")
def test_a_run_that_locked_its_folder_is_not_taken_for_over(tmp_path: Path) -> None:
    run_dir = tmp_path / "run_1"
    run_dir.mkdir()
    (run_dir / "launch.json").write_text("{}")
    run_dir.chmod(0)
    assert LocalEngine(tmp_path).observe()["run_1"].phase is RunPhase.RUNNING
    run_dir.chmod(0o700)

"""The shim's end of the control socket: what a job may say, and that it can do no harm."""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.engines import run_folder
from scheduler.engines.job_control import JobControl, ProgressRecord


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    handle = run_folder.open_folder(tmp_path)
    yield handle
    os.close(handle)


class Job:
    """A job's end of the socket, as rude as a job can be."""

    def __init__(self, tmp_path: Path, folder: int) -> None:
        self.poller = select.poll()
        self.control = JobControl(folder, self.poller)
        self.socket = self.connect(tmp_path)

    def connect(self, tmp_path: Path) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        handle = os.open(tmp_path, os.O_RDONLY)
        connection.connect(f"/proc/self/fd/{handle}/control.sock")
        os.close(handle)
        self.turn()
        return connection

    def turn(self) -> None:
        for _ in range(3):
            for descriptor, _event in self.poller.poll(20):
                self.control.handle(descriptor)

    def say(self, *lines: object) -> None:
        for line in lines:
            self.socket.sendall((line if isinstance(line, str) else json.dumps(line)).encode() + b"\n")
        self.turn()


@pytest.fixture
def job(tmp_path: Path, folder: int) -> Iterator[Job]:
    job = Job(tmp_path, folder)
    yield job
    job.socket.close()
    job.turn()
    job.control._listener.close()


def test_a_report_becomes_progress(job: Job, folder: int) -> None:
    job.say({"type": "progress", "step": 1, "total": 9, "samples": 32})
    time.sleep(0.05)
    job.say({"type": "progress", "step": 2, "total": 9, "samples": 64})
    job.control.write_progress()
    progress = run_folder.read_json(folder, run_folder.PROGRESS)
    assert progress is not None
    assert (progress["step"], progress["total_steps"], progress["samples"]) == (2, 9, 64.0)
    assert 32 / 0.5 < progress["samples_per_s"] < 32 / 0.04


NONSENSE = [
    "{",
    "[]",
    "null",
    '"x"',
    '{"type": "progress"}',
    '{"type": "saved", "path": 7}',
    "\x00",
    "[" * 9999,
]
NONSENSE += [
    f'{{"type": "progress", "step": {step}, "samples": {samples}}}'
    for step, samples in (
        ("true", 1),
        (-1, 1),
        (1.5, 1),
        (10**30, 1),
        (1, "NaN"),
        (1, "1e999"),
        (1, -5),
        (1, '"x"'),
    )
]


def test_nonsense_from_a_job_is_dropped(job: Job, folder: int) -> None:
    job.say(*NONSENSE)
    job.control.write_progress(now=True)
    assert run_folder.read_json(folder, run_folder.PROGRESS) is None
    assert run_folder.read_json(folder, run_folder.CHECKPOINT) is None
    job.say({"type": "progress", "step": 3})  # and the next good line is heard
    job.control.write_progress(now=True)
    assert (run_folder.read_json(folder, run_folder.PROGRESS) or {})["step"] == 3


def test_an_endless_line_ends_the_connection(job: Job) -> None:
    job.socket.settimeout(5)

    def send_without_end() -> None:
        for _ in range(64):
            job.socket.sendall(b"x" * 16384)
            job.turn()

    with pytest.raises(OSError):
        send_without_end()


def test_too_many_connections_are_refused(job: Job, tmp_path: Path) -> None:
    more = [job.connect(tmp_path) for _ in range(20)]
    job.control.ask_checkpoint(1, stop=False)
    answered = 0
    for connection in more:
        connection.settimeout(0.2)
        answered += bool(connection.recv(100))
        connection.close()
    assert answered == 7
    job.turn()


def test_a_request_reaches_who_is_there_and_who_comes_until_it_is_answered(job: Job, tmp_path: Path) -> None:
    job.control.ask_checkpoint(4, stop=False)
    assert json.loads(job.socket.recv(100)) == {"checkpoint": 4, "stop": False}
    late = job.connect(tmp_path)
    assert json.loads(late.recv(100)) == {"checkpoint": 4, "stop": False}
    late.sendall(b'{"type": "saved", "path": "/c/4", "request": 4}\n')
    job.turn()
    assert json.loads((tmp_path / "checkpoint.json").read_text())["path"] == "/c/4"
    later = job.connect(tmp_path)
    later.setblocking(False)
    with pytest.raises(BlockingIOError):
        later.recv(100)
    late.close()
    later.close()
    job.turn()


def test_samples_go_on_when_a_launcher_restarts_the_ranks() -> None:
    record = ProgressRecord()
    for step, samples in ((1, 100), (2, 200), (2, 0), (3, 50)):
        record.take({"step": step, "samples": samples})
    report = record.due(at_once=True)
    assert report is not None
    assert report["samples"] == 250


def test_without_samples_a_step_counts_as_one() -> None:
    record = ProgressRecord()
    for step in (500, 501, 504):
        record.take({"step": step})
    assert (record.due(at_once=True) or {})["samples"] == 4


def ack(tmp_path: Path) -> tuple[object, object]:
    """The newest request that was answered, and what that took."""
    written = json.loads((tmp_path / "checkpoint.json").read_text())
    return written["answered"], written["answer_s"]


def test_the_seconds_from_a_request_to_its_answer_are_kept(job: Job, tmp_path: Path) -> None:
    job.say({"type": "saved", "path": "/c/1", "request": 0})
    assert ack(tmp_path) == (0, None)  # a save of its own answers nothing
    job.control.ask_checkpoint(1, stop=False)
    job.say({"type": "saved", "path": "/c/2", "request": 0})
    assert ack(tmp_path) == (0, None)
    time.sleep(0.05)
    job.say({"type": "saved", "path": "/c/3", "request": 1})
    answered, answer_s = ack(tmp_path)
    assert answered == 1
    assert isinstance(answer_s, float)
    assert 0.05 <= answer_s < 5
    job.say({"type": "saved", "path": "/c/4", "request": 1})  # saved again, asked for nothing
    assert ack(tmp_path) == (1, answer_s)
    job.say({"type": "saved", "path": "/c/5", "request": 7})  # never asked
    assert ack(tmp_path) == (1, answer_s)

"""`wattjob`: what a job reports and hears, and that it never hurts the job."""

from __future__ import annotations

import ast
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine_builders import REPOSITORY
from wattjob.channel import Channel
from wattjob.session import Session

INJOB = REPOSITORY / "scheduler/injob"


class Shim:
    """The other end of the socket."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.path = str(folder / "control.sock")
        self._listener = socket.socket(socket.AF_UNIX)
        handle = os.open(folder, os.O_RDONLY)
        self._listener.bind(f"/proc/self/fd/{handle}/control.sock")
        os.close(handle)
        self._listener.listen()
        self._listener.settimeout(20)
        self._job: socket.socket | None = None
        self._unread = b""

    def accept(self) -> None:
        self._job, _ = self._listener.accept()
        self._job.settimeout(20)

    def ask(self, request: int, *, stop: bool = False) -> None:
        assert self._job is not None
        self._job.sendall(json.dumps({"checkpoint": request, "stop": stop}).encode() + b"\n")

    def hear(self) -> dict[str, object]:
        assert self._job is not None
        while b"\n" not in self._unread:
            data = self._job.recv(65536)
            if not data:
                raise EOFError
            self._unread += data
        line, self._unread = self._unread.split(b"\n", 1)
        message: dict[str, object] = json.loads(line)
        return message

    def close(self) -> None:
        self._listener.close()
        if self._job is not None:
            self._job.close()


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Shim]:
    shim = Shim(tmp_path / ("x" * 120))  # longer than a socket address may be
    yield shim
    shim.close()


@pytest.fixture
def session(shim: Shim) -> Iterator[Session]:
    channel = Channel(shim.path)
    shim.accept()
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # these sessions live in the test's own process
    yield Session(active=True, channel=channel)
    signal.signal(signal.SIGTERM, before)
    channel.close()


def test_outside_wattmill_nothing_happens() -> None:
    script = "import wattjob; wattjob.progress(1); wattjob.saved('x'); print(wattjob.should_checkpoint())"
    env = {"PYTHONPATH": str(INJOB), "PATH": os.defpath}
    for control in ({}, {"WATTMILL_CONTROL": "/nowhere/control.sock"}):
        done = subprocess.run(
            [sys.executable, "-c", script], env=env | control, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_a_report_arrives(session: Session, shim: Shim) -> None:
    session.progress(7, 100, 224)
    assert shim.hear() == {"type": "progress", "step": 7, "total": 100, "samples": 224}


def test_frequent_reports_are_thinned_and_the_last_is_kept(session: Session, shim: Shim) -> None:
    for step in range(1, 1001):
        session.progress(step, 1000, None)
    heard = [shim.hear()]
    while heard[-1]["step"] != 1000:
        heard.append(shim.hear())
    assert len(heard) < 100


def test_one_request_is_one_checkpoint(session: Session, shim: Shim) -> None:
    assert not session.should_checkpoint()
    shim.ask(1)
    shim.ask(2)
    time.sleep(0.05)
    assert session.should_checkpoint()
    assert not session.should_checkpoint()
    session.saved("/c/1")
    assert shim.hear() == {"type": "saved", "path": "/c/1", "request": 2}
    shim.ask(2)  # told again, as after a reconnect
    time.sleep(0.05)
    assert not session.should_checkpoint()


def test_a_listener_that_sleeps_never_blocks_a_step(session: Session) -> None:
    before_s = time.monotonic()
    for step in range(20_000):
        session.progress(step, step, None)  # the last of all: sent at once
        session.should_checkpoint()
    assert time.monotonic() - before_s < 10


def test_a_listener_that_is_gone_never_hurts(session: Session, shim: Shim) -> None:
    shim.close()
    for step in range(100):
        session.progress(step, step, None)
        assert not session.should_checkpoint()
    session.saved("/c/1")


def test_lines_arrive_whole_when_the_listener_was_slow(session: Session, shim: Shim) -> None:
    for step in range(20_000):
        session.progress(step, step, None)
    steps: list[int] = []
    session.progress(99_999, 99_999, None)
    while not steps or steps[-1] < 19_000:
        steps.append(int(str(shim.hear()["step"])))  # raises if a line is torn
        session.flush()
        if len(steps) > 5000:
            session.progress(19_500, 19_500, None)
    assert steps == sorted(steps)


STOPPING = """
import sys, time, wattjob
print("up", wattjob.should_checkpoint(), flush=True)
while True:
    time.sleep(0.01)
    if wattjob.should_checkpoint():
        print("saving", flush=True)
        time.sleep(0.2)
        wattjob.saved("/c/9")
        print("not reached", flush=True)
"""


def test_sigterm_waits_for_the_checkpoint(shim: Shim) -> None:
    env = {"PYTHONPATH": str(INJOB), "PATH": os.defpath, "WATTMILL_CONTROL": shim.path}
    with subprocess.Popen(
        [sys.executable, "-c", STOPPING], env=env, stdout=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout is not None
        shim.accept()
        assert job.stdout.readline() == "up False\n"
        shim.ask(1, stop=True)
        job.terminate()
        assert shim.hear() == {"type": "saved", "path": "/c/9", "request": 1}
        assert job.stdout.read() == "saving\n"
        assert job.wait(20) == -signal.SIGTERM


def test_a_scripts_own_handler_is_left_alone(shim: Shim) -> None:
    script = (
        "import signal, sys, time, wattjob\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(85))\n"
        "wattjob.should_checkpoint()\nprint('up', flush=True)\ntime.sleep(60)"
    )
    env = {"PYTHONPATH": str(INJOB), "PATH": os.defpath, "WATTMILL_CONTROL": shim.path}
    with subprocess.Popen([sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "up\n"
        job.terminate()
        assert job.wait(20) == 85


def test_a_forked_data_loader_does_not_speak_for_the_job(session: Session, shim: Shim) -> None:
    if (child := os.fork()) == 0:
        session.progress(1, 1, None)
        os._exit(0)
    os.waitpid(child, 0)
    session.progress(2, 2, None)
    assert shim.hear()["step"] == 2


@pytest.mark.parametrize("path", sorted((INJOB / "wattjob").glob("*.py")), ids=lambda path: path.name)
def test_it_is_written_in_python_3_9_and_stands_alone(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    roots = {str(name).split(".")[0] for name in imported}
    own = {"huggingface.py": {"transformers"}, "lightning.py": {"lightning"}}.get(path.name, set())
    assert roots - own - {"wattjob", "__future__"} <= set(sys.stdlib_module_names)


FAKE_TRANSFORMERS = "class TrainerCallback:\n    pass\n"
HUGGINGFACE = """
from types import SimpleNamespace as N
from wattjob.huggingface import WattmillCallback
args = N(train_batch_size=4, gradient_accumulation_steps=2, world_size=1, output_dir="/out")
state, control = N(global_step=10, max_steps=99), N(should_save=False)
callback = WattmillCallback()
callback.on_train_begin(args, state, control)
while not control.should_save:
    state.global_step += 1
    callback.on_step_end(args, state, control, model=None)
callback.on_save(args, state, control)
"""


def test_the_trainer_of_huggingface_saves_when_asked(shim: Shim, tmp_path: Path) -> None:
    (tmp_path / "transformers.py").write_text(FAKE_TRANSFORMERS)
    env = {"PYTHONPATH": f"{INJOB}:{tmp_path}", "PATH": os.defpath, "WATTMILL_CONTROL": shim.path}
    with subprocess.Popen([sys.executable, "-c", HUGGINGFACE], env=env) as job:
        shim.accept()
        assert shim.hear() == {"type": "progress", "step": 11, "total": 99, "samples": 8}
        shim.ask(1)
        while (message := shim.hear())["type"] == "progress":
            pass
        assert str(message["path"]).startswith("/out/checkpoint-")
        assert job.wait(20) == 0

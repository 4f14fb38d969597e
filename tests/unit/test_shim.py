"""The parts of a shim, each by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.engines import process_identity as identity
from scheduler.engines import run_folder
from scheduler.engines.job_log import JobLog
from scheduler.engines.run_wish import RunWish


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    handle = run_folder.open_folder(tmp_path)
    yield handle
    os.close(handle)


# Processes


def test_a_recycled_pid_is_never_signalled() -> None:
    with subprocess.Popen(["sleep", "60"]) as innocent:
        now = identity.read_process(innocent.pid)
        assert now is not None
        assert not identity.send(now._replace(start_time=now.start_time - 1), signal.SIGKILL)
        assert innocent.poll() is None
        assert identity.send(now, signal.SIGKILL)
        assert innocent.wait() == -signal.SIGKILL


def test_a_zombie_counts_as_gone() -> None:
    child = subprocess.Popen(["true"])
    deadline_s = time.monotonic() + 5
    while (seen := identity.read_process(child.pid)) is None or seen.state != "Z":
        assert time.monotonic() < deadline_s
    assert seen.gone
    child.wait()
    assert identity.read_process(child.pid) is None
    assert not identity.send(seen, signal.SIGKILL)


def test_a_parent_in_vfork_whose_child_is_stopped_counts_as_stopped(tmp_path: Path) -> None:
    """Otherwise a job frozen while it starts a program would never be seen frozen."""
    code = "import ctypes, os, signal; libc = ctypes.CDLL(None)\n"
    code += "child = libc.vfork() == 0 and os.kill(os.getpid(), signal.SIGSTOP); os._exit(0)"
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        deadline_s = time.monotonic() + 10
        while not (children := identity.descendants(identity.all_processes(), [parent.pid])) or not all(
            child.stopped for child in children
        ):
            assert time.monotonic() < deadline_s
        waiting = identity.read_process(parent.pid)
        assert waiting is not None
        assert not waiting.stopped
        assert identity.send(waiting, signal.SIGSTOP)
        waiting = identity.read_process(parent.pid)
        assert waiting is not None
        assert waiting.stopped
        for process in (waiting, *children):
            assert identity.send(process, signal.SIGCONT)


def test_descendants_are_found_through_every_generation() -> None:
    table = {
        pid: identity.Process(pid, parent, pid, "S", 0, 1)
        for pid, parent in ((2, 1), (3, 2), (4, 3), (5, 1), (1, 0))
    }
    assert {process.pid for process in identity.descendants(table, [2])} == {3, 4}


@pytest.mark.parametrize(
    ("names", "ours"),
    [("runs/run_77", True), ("copied/run_77", False), ("moved_away/run_77", True), (None, True)],
)
def test_a_process_names_its_run_by_its_environment(tmp_path: Path, names: str | None, ours: bool) -> None:
    for installation in ("runs", "copied"):
        (tmp_path / installation / "run_77").mkdir(parents=True)
    env = {"X": "1", "WATTMILL_RUN": "run_77"}
    if names is not None:
        env["WATTMILL_RUN_DIR"] = str(tmp_path / names)
    with subprocess.Popen(["sleep", "60"], env=env) as process:
        deadline_s = time.monotonic() + 5
        while identity.environment_claim(process.pid) is None:  # until exec
            assert time.monotonic() < deadline_s
        found = identity.processes_by_run(str(tmp_path / "runs"))
        assert [p.pid for p in found.get("run_77", [])] == [process.pid] * ours
        process.kill()


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({}, True),
        ({"boot_id": "another-boot"}, False),
        ({"start_time": 1}, False),
        ({"run_id": "run_2"}, False),
        ({"pid": 2**22 + 1}, False),
    ],
)
def test_only_a_full_match_is_the_shim(change: dict[str, object], holds: bool) -> None:
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, "/x/run_1"], stdin=subprocess.PIPE) as process:
        now = identity.read_process(process.pid)
        assert now is not None
        shim = identity.ShimIdentity(identity.boot_id(), process.pid, now.start_time, "run_1")
        deadline_s = time.monotonic() + 5
        while not shim.holds() and time.monotonic() < deadline_s:  # until exec
            pass
        assert shim._replace(**change).holds() is holds  # type: ignore[arg-type]
        process.communicate()


# Files


def test_a_link_or_fifo_in_place_of_a_file_is_not_followed(tmp_path: Path, folder: int) -> None:
    (tmp_path / "secret").write_text('{"a": 1}')
    (tmp_path / "exit.json").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "progress.json")
    assert run_folder.read_json(folder, run_folder.EXIT) is None
    assert run_folder.read_json(folder, run_folder.PROGRESS) is None  # and does not wait for a writer
    run_folder.write_json(folder, run_folder.EXIT, {"b": 2})
    assert (tmp_path / "secret").read_text() == '{"a": 1}'
    assert run_folder.read_json(folder, run_folder.EXIT) == {"b": 2}


@pytest.mark.parametrize("content", ["", "[1]", "{", "\x00", "[" * 100_000])
def test_nonsense_reads_as_nothing(tmp_path: Path, folder: int, content: str) -> None:
    (tmp_path / "wanted.json").write_text(content)
    assert run_folder.read_json(folder, run_folder.WANTED) is None


def test_a_file_is_created_once(folder: int) -> None:
    run_folder.create_json(folder, run_folder.LAUNCH, {"first": True})
    with pytest.raises(FileExistsError):
        run_folder.create_json(folder, run_folder.LAUNCH, {"first": False})
    assert run_folder.read_json(folder, run_folder.LAUNCH) == {"first": True}
    assert os.listdir(folder) == [run_folder.LAUNCH]


def test_a_wish_stands_until_a_sensible_new_one(folder: int) -> None:
    wish = RunWish(folder, grace_s=30.0)
    wish.read()
    assert (wish.wanted, wish.grace_s, wish.checkpoint_seq) == ("run", 30.0, 0)
    run_folder.write_json(folder, run_folder.WANTED, {"wanted": "freeze", "grace_s": 2, "checkpoint_seq": 1})
    wish.read()
    run_folder.write_json(folder, run_folder.WANTED, {"wanted": "explode", "grace_s": None})
    wish.read()
    assert (wish.wanted, wish.grace_s, wish.checkpoint_seq) == ("freeze", 2.0, 1)


# The log


def log_with(folder: int, *, cap_bytes: int, file: int | None = None) -> tuple[JobLog, int]:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    target = run_folder.open_append(folder, run_folder.LOG) if file is None else file
    return JobLog(folder, read_end, target, cap_bytes), write_end


def test_output_beyond_the_cap_is_counted_not_kept(tmp_path: Path, folder: int) -> None:
    log, job = log_with(folder, cap_bytes=10)
    for _ in range(3):
        os.write(job, b"12345678")
        log.pump()
    os.close(job)
    log.pump()
    log.write_size()
    kept, note = (tmp_path / "job.log").read_bytes()[:10], (tmp_path / "job.log").read_bytes()[10:]
    assert kept == b"1234567812"
    assert b"log truncated after 10 bytes" in note
    assert note.count(b"[wattmill]") == 1
    assert run_folder.read_json(folder, run_folder.LOG_SIZE) == {
        "bytes": 24,
        "kept_bytes": 10,
        "truncated": True,
    }
    assert log.pipe is None


def test_a_full_disk_never_blocks_the_job(folder: int) -> None:
    log, job = log_with(folder, cap_bytes=10**9, file=os.open("/dev/full", os.O_WRONLY))
    for _ in range(100):
        os.write(job, b"x" * 50_000)  # raises BlockingIOError if nobody reads
        log.pump()
    log.write_size()
    size = run_folder.read_json(folder, run_folder.LOG_SIZE)
    assert size == {"bytes": 5_000_000, "kept_bytes": 0, "truncated": True}
    os.close(job)

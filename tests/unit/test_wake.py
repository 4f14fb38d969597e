"""The tap on the shoulder: never blocks, never fails, several count as one."""

from __future__ import annotations

from pathlib import Path

from scheduler.wake import Sleeper, Waker


def test_a_wake_ends_the_sleep_and_several_count_as_one(tmp_path: Path) -> None:
    sleeper = Sleeper(tmp_path / "wake.sock")
    waker = Waker(tmp_path / "wake.sock")
    for _ in range(500):
        waker.wake()
    assert sleeper.wait(5.0)
    assert not sleeper.wait(0.0)
    sleeper.close()


def test_waking_nobody_is_no_error(tmp_path: Path) -> None:
    Waker(tmp_path / "wake.sock").wake()
    Waker(tmp_path / "no" / "folder.sock").wake()


def test_a_deep_folder_is_no_problem(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    sleeper = Sleeper(deep / "wake.sock")
    Waker(deep / "wake.sock").wake()
    assert sleeper.wait(5.0)
    sleeper.close()

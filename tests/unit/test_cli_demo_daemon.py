"""The demonstration's own processes are found by the folder they carry, and nobody else's are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from api.demo.daemon import MARK, DemoDaemon, processes_of, remove_folder
from api.demo.machine import SIMULATED
from api.demo.runner import Stage


def test_own_processes_are_found_and_a_reader_is_not(tmp_path: Path) -> None:
    log = tmp_path / "serve.log"
    log.write_text("")
    clean = {k: v for k, v in os.environ.items() if k != MARK}
    sleep = "import time; time.sleep(60)"
    inherits = subprocess.Popen([sys.executable, "-c", sleep], env={**clean, MARK: str(tmp_path)})
    argument = subprocess.Popen([sys.executable, "-c", sleep, str(tmp_path / "shim")], env=clean)
    reader = subprocess.Popen(["tail", "-f", str(log)], env=clean, stdout=subprocess.DEVNULL)
    started = [inherits, argument, reader]
    try:
        for process in (inherits, argument):
            while process.pid not in set(processes_of(tmp_path)):
                assert process.poll() is None
        assert set(processes_of(tmp_path)) == {inherits.pid, argument.pid}
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert list(processes_of(tmp_path)) == []


def test_stopping_what_never_started_is_nothing(tmp_path: Path) -> None:
    daemon = DemoDaemon(tmp_path / "demo", SIMULATED, 300.0)
    assert daemon.stop(Stage(unattended=True).tell) == []
    assert not daemon.alive


def test_the_folder_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    (folder / "data" / "runs").mkdir(parents=True)
    (folder / "data" / "token").write_text("x")
    remove_folder(folder)
    assert not folder.exists()

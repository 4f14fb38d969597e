"""capd as a process, killed in every way: limits stay, and it looks before it sets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from power.capd.client import CapClient, CapdUnavailable
from power.simulated import SimulatedBackend, create_map
from power.unix_path import short_path
from tests.conftest import REPOSITORY

PATIENCE_S = 15.0


class Site:
    """Two simulated GPUs and the files of their capd."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        create_map(folder / "gpus.map", 2, "A40", 0)
        self.backend = SimulatedBackend(folder / "gpus.map")
        self.uuids = [gpu.info.uuid for gpu in self.backend.gpus()]
        self.started: list[subprocess.Popen[bytes]] = []

    def caps_w(self) -> list[float | None]:
        return [gpu.read().enforced_cap_w for gpu in self.backend.gpus()]

    def start_capd(self, *, lease_s: float = 30.0) -> subprocess.Popen[bytes]:
        fail_safe = ",".join(f"{uuid}=120000" for uuid in self.uuids)
        argv = [sys.executable, "-m", "power.capd.server", "--backend", "simulated", "--fail-safe", fail_safe]
        for name, file in (
            ("socket", "capd.sock"),
            ("lock", "capd.lock"),
            ("journal", "j"),
            ("map", "gpus.map"),
        ):
            argv += [f"--{name}", str(self.folder / file)]
        argv += ["--allow", ",".join(self.uuids), "--lease-s", str(lease_s)]
        process = subprocess.Popen(argv, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
        self.started.append(process)
        return process

    @contextmanager
    def client(self) -> Iterator[CapClient]:
        client = CapClient(self.folder / "capd.sock")
        try:
            yield client
        finally:
            client.close()

    def answering_pid(self) -> int | None:
        with self.client() as client:
            try:
                return client.hello().pid
            except CapdUnavailable:
                return None

    def until_answers(self, process: subprocess.Popen[bytes]) -> None:
        eventually(lambda: self.answering_pid() == process.pid)

    def journal(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.folder / "j").read_text().splitlines() if line]


def eventually(holds: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up_s, "did not come about in time"
        time.sleep(0.02)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    for process in site.started:
        process.kill()
        process.wait()
    site.backend.close()


def test_sigterm_keeps_the_limits(site: Site) -> None:
    process = site.start_capd()
    site.until_answers(process)
    with site.client() as client:
        client.renew()
        assert all(result.confirmed for result in client.set_caps([(uuid, 150.0) for uuid in site.uuids]))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert site.caps_w() == [150.0, 150.0]
    assert not (site.folder / "capd.sock").exists()


def test_sigkill_keeps_the_limits_and_the_next_one_looks_before_it_sets(site: Site) -> None:
    first = site.start_capd()
    site.until_answers(first)
    with site.client() as client:
        client.renew()
        client.set_caps([(site.uuids[0], 170.0)])
        first.kill()
        first.wait()
        with pytest.raises(CapdUnavailable):
            client.renew()
    assert site.caps_w()[0] == 170.0

    second = site.start_capd()
    site.until_answers(second)
    assert site.caps_w()[0] == 170.0
    start = site.journal()[-1]
    assert start["event"] == "start"
    assert start["gpus"][site.uuids[0]]["cap"] == 170_000  # type: ignore[index]
    with site.client() as client:
        client.renew()
        assert client.epoch == 2  # no epoch is ever given twice


def test_dead_controller_brings_the_limits_down(site: Site) -> None:
    site.until_answers(site.start_capd(lease_s=1.0))
    with site.client() as client:
        client.renew()
        client.set_caps([(site.uuids[0], 250.0), (site.uuids[1], 110.0)])
        renewed_s = time.monotonic()
    eventually(lambda: site.caps_w() == [120.0, 110.0])
    assert time.monotonic() - renewed_s < 1.0 + 5.0
    assert [line["who"] for line in site.journal() if line["event"] == "set"][-1] == "fail_safe"


def test_stopped_and_continued_capd_lowers_at_once(site: Site) -> None:
    process = site.start_capd(lease_s=1.0)
    site.until_answers(process)
    with site.client() as client:
        client.renew()
        client.set_caps([(site.uuids[0], 250.0)])
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        assert site.caps_w()[0] == 250.0
        process.send_signal(signal.SIGCONT)
        eventually(lambda: site.caps_w()[0] == 120.0)


def test_a_new_capd_takes_over_from_one_that_was_left_behind(site: Site) -> None:
    old = site.start_capd()
    site.until_answers(old)
    with site.client() as client:
        client.renew()
        client.set_caps([(site.uuids[0], 170.0)])
    new = site.start_capd()
    site.until_answers(new)
    assert old.wait(PATIENCE_S) == 0
    assert site.caps_w()[0] == 170.0


def test_killed_again_and_again_while_caps_move(site: Site) -> None:
    """No limit outside the range, no torn socket, no epoch twice, however the moments fall."""
    epochs: list[int] = []
    for turn in range(5):
        process = site.start_capd()
        site.until_answers(process)
        with site.client() as client:
            epochs.append(client.take_epoch())
            end_s = time.monotonic() + 0.02 * turn
            while time.monotonic() < end_s:
                client.set_caps([(uuid, 100.0 + turn * 10) for uuid in site.uuids])
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert all(cap is not None and 100.0 <= cap <= 300.0 for cap in site.caps_w())
    assert epochs == sorted(set(epochs))


def test_a_flood_of_garbage_and_vanishing_clients_changes_nothing(site: Site) -> None:
    site.until_answers(site.start_capd())
    before = site.caps_w()
    for _ in range(50):
        sock = socket.socket(socket.AF_UNIX)
        with short_path(site.folder / "capd.sock") as name:
            sock.connect(name)
        sock.sendall(os.urandom(3000) + b'\n{"verb":"set"')
        sock.close()
    eventually(lambda: site.answering_pid() is not None)
    assert site.caps_w() == before

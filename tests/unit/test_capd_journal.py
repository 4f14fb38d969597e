"""Every set leaves a line; a bad disk is noticed and never raises."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from power.capd.journal import Journal


def test_lines_are_whole_and_stamped(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    assert journal.append({"event": "set", "epoch": 2})
    entry = json.loads((tmp_path / "j").read_text())
    assert entry["epoch"] == 2
    assert entry["at_ms"] > 1_600_000_000_000
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


def test_threads_never_mix_their_lines(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    threads = [
        threading.Thread(target=lambda n=n: [journal.append({"epoch": n}) for _ in range(50)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([json.loads(line) for line in (tmp_path / "j").read_text().splitlines()]) == 200


def test_epoch_is_found_again_past_a_torn_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    assert journal.last_epoch() == 0
    journal.append({"event": "take", "epoch": 7})
    with (tmp_path / "j").open("ab") as file:
        file.write(b'{"event":"take","epo')
    assert Journal(tmp_path / "j").last_epoch() == 7


def test_rotation_keeps_the_epoch(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", max_bytes=200)
    for epoch in range(1, 40):
        journal.append({"event": "take", "epoch": epoch})
    assert journal.last_epoch() == 39
    assert sorted(p.name for p in tmp_path.iterdir()) in (["j", "j.1"], ["j.1"])
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 600


def test_refusing_disk_is_reported_and_recovers(tmp_path: Path) -> None:
    (tmp_path / "j").mkdir()
    journal = Journal(tmp_path / "j")
    assert not journal.append({"epoch": 1})
    assert not journal.healthy
    (tmp_path / "j").rmdir()
    assert journal.append({"epoch": 2})
    assert journal.healthy
    assert journal.last_epoch() == 2

"""Two processes on one SQLite file: server and controller at once, and a writer that is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from scheduler.model import JobState
from scheduler.store import Store, StoreUnavailable, open_store
from tests.conftest import REPOSITORY
from tests.store_builders import NOON, a_spec, running, submitted

CONTROLLER = """
    import sys
    from scheduler.lifecycle import move
    from scheduler.model import JobState
    from scheduler.store import Event, open_store
    from tests.store_builders import after

    with open_store(sys.argv[1], upgrade=False) as store:
        done = 0
        while done < int(sys.argv[2]):
            for job in store.jobs.active():
                event = Event(kind="job.state", at=after(1), job_id=job.id)
                store.jobs.save(move(job, JobState.CANCELLED, after(1)), job.state, events=[event])
                done += 1
"""

SUBMITTER = """
    import sys
    from scheduler.store import open_store
    from tests.store_builders import NOON, a_spec

    with open_store(sys.argv[1]) as store:
        while True:
            job, _ = store.jobs.submit(a_spec(), "ada", NOON)
            print(job.id, flush=True)
"""


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'wattmill.db'}"


def test_two_processes_write_at_once(url: str) -> None:
    with open_store(url) as store, python(CONTROLLER, url, "60") as controller:
        ids = [submitted(store).id for _ in range(60)]
        assert controller.wait(60) == 0
        assert set(store.jobs.states(ids).values()) == {JobState.CANCELLED}
        assert len(store.events.after(0)) == 60


def test_what_was_acknowledged_outlives_a_kill(url: str) -> None:
    acknowledged: list[str] = []
    for _ in range(3):
        with python(SUBMITTER, url) as submitter:
            assert submitter.stdout is not None
            acknowledged += [submitter.stdout.readline().strip() for _ in range(15)]
            submitter.send_signal(signal.SIGKILL)
            acknowledged += submitter.stdout.read().split("\n")[:-1]
    with open_store(url) as store:
        found = store.jobs.states(acknowledged)
        assert set(found) == set(acknowledged)
        assert len(store.jobs.active()) <= len(acknowledged) + 3
        with store.database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


def test_commits_are_synchronous_and_without_wal(url: str) -> None:
    with open_store(url) as store, store.database.read() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert values == {"journal_mode": "truncate", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


def test_a_wal_database_is_turned_back(url: str, tmp_path: Path) -> None:
    open_store(url).close()
    raw = sqlite3.connect(tmp_path / "wattmill.db")
    raw.execute("PRAGMA journal_mode = WAL").close()
    raw.close()
    with open_store(url) as store, store.database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "truncate"


def test_the_file_belongs_to_its_owner_alone(url: str, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        open_store(url).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "wattmill.db").stat().st_mode) == 0o600


def test_a_locked_database_is_unavailable_and_nothing_is_written(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.store.database.BUSY_TIMEOUT_S", 0.1)
    with open_store(url) as store:
        job = running(store)
        raw = sqlite3.connect(tmp_path / "wattmill.db", isolation_level=None)
        raw.execute("BEGIN EXCLUSIVE").close()
        with pytest.raises(StoreUnavailable, match="locked"):
            store.jobs.submit(a_spec(), "ada", NOON)
        raw.execute("ROLLBACK").close()
        raw.close()
        assert store.jobs.active() == [job]


def test_a_failed_transaction_leaves_nothing(url: str) -> None:
    def fail(store: Store) -> None:
        with store.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM jobs")
            raise RuntimeError("in the middle")

    with open_store(url) as store:
        job = submitted(store)
        with pytest.raises(RuntimeError):
            fail(store)
        assert store.jobs.active() == [job]


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("nonsense", "not a database address"),
        ("mysql://x/y", "not supported"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:////proc/none/wattmill.db", "cannot open"),
        ("postgresql://app:sesame@/none?host=/nonexistent", "nonexistent"),
    ],
)
def test_a_bad_address_is_explained_without_its_password(address: str, says: str) -> None:
    with pytest.raises(StoreUnavailable, match=says) as caught:
        open_store(address)
    assert "sesame" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(url: str, tmp_path: Path) -> None:
    (tmp_path / "wattmill.db").write_bytes(b"these are not the tables you are looking for" * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        open_store(url)

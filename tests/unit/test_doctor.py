"""What `wattmill doctor` concludes from what it finds; and that looking changes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.commands.client import Target
from api.doctor import (
    ClockFacts,
    DatabaseFacts,
    Facts,
    FeedFacts,
    FolderFacts,
    GpuFacts,
    Level,
    checks,
    worst,
)
from api.doctor_probes import gather, without_password
from scheduler.config import Config, FeedConfig, Gpus, Signal, Storage

A100 = GpuFacts(model="NVIDIA A100", cap_w=400.0, min_cap_w=100.0, max_cap_w=400.0)
GOOD = Facts(
    uid=1000,
    backend="auto",
    gpus=(A100, A100),
    simulated="8 x A40",
    capd_user=0,
    daemon_url="http://127.0.0.1:8787",
    database=DatabaseFacts(url="sqlite:////d/wattmill.db", sqlite_version=(3, 51, 3)),
    feeds=(
        FeedFacts(signal="price", name="energy_charts", took_s=0.4, points=48),
        FeedFacts(signal="carbon", name="energy_charts", took_s=0.4, points=48),
    ),
    folder=FolderFacts(path="/d", mode=0o700, free_bytes=1 << 34, token_mode=0o600),
    clock=ClockFacts(now=datetime(2026, 5, 1, 12, tzinfo=UTC), ntp_synchronised=True),
    package_homes=("/opt/wattmill",) * 4,
)


def test_a_good_machine_has_nothing_to_do() -> None:
    findings = checks(GOOD)
    assert worst(findings) is Level.OK
    assert [f.todo for f in findings if f.todo] == []


@pytest.mark.parametrize(
    ("change", "check", "level", "says"),
    [
        ({"gpus": (), "nvml_error": "no driver"}, "gpus", Level.WARN, "8 x A40 simulated instead"),
        ({"gpus": (), "backend": "nvml"}, "gpus", Level.FAIL, "the config wants NVML"),
        ({"gpus": (), "backend": "simulated"}, "gpus", Level.OK, "because the config says so"),
        ({"gpus": (A100, replace(A100, cap_w=None))}, "power limits", Level.WARN, "1 of 2 GPUs"),
        ({"capd_user": None}, "right to set limits", Level.WARN, "user 1000 may read"),
        ({"capd_user": None, "uid": 0}, "right to set limits", Level.OK, "may still refuse"),
        ({"capd_user": 0}, "right to set limits", Level.OK, "enforcer runs as root"),
        ({"uid": 0}, "users", Level.WARN, "every job runs as root"),
        ({"daemon_error": "nobody answers"}, "daemon", Level.WARN, "nobody answers"),
        ({"package_homes": ("/opt/wattmill", "/usr/lib")}, "code", Level.FAIL, "/usr/lib"),
        ({"feeds": ()}, "price", Level.WARN, "price-blind"),
        ({"feeds": ()}, "carbon", Level.OK, "no feed"),
    ],
)
def test_each_finding(change: dict[str, object], check: str, level: Level, says: str) -> None:
    found = [f for f in checks(replace(GOOD, **change)) if f.check == check]  # type: ignore[arg-type]
    assert [f.level for f in found] == [level]
    assert says in found[0].found
    assert bool(found[0].todo) == (level is not Level.OK)


@pytest.mark.parametrize(
    ("folder", "level", "check"),
    [
        (FolderFacts(path="/d", mode=None), Level.OK, "data folder"),
        (FolderFacts(path="/d", mode=None, writable=False), Level.FAIL, "data folder"),
        (FolderFacts(path="/d", mode=0o700, writable=False), Level.FAIL, "data folder"),
        (FolderFacts(path="/d", mode=0o755, free_bytes=1 << 34), Level.WARN, "data folder"),
        (FolderFacts(path="/d", mode=0o700, owned=False, free_bytes=1 << 34), Level.WARN, "data folder"),
        (FolderFacts(path="/d", mode=0o700, free_bytes=1000), Level.WARN, "data folder"),
        (FolderFacts(path="/d", mode=0o700, free_bytes=1 << 34, token_mode=0o644), Level.FAIL, "token"),
    ],
)
def test_folders_and_tokens(folder: FolderFacts, level: Level, check: str) -> None:
    findings = checks(replace(GOOD, folder=folder))
    assert [f.level for f in findings if f.check == check] == [level]


@pytest.mark.parametrize(
    ("database", "level", "says"),
    [
        (DatabaseFacts(url="u", error="refused"), Level.FAIL, "u: refused"),
        (DatabaseFacts(url="u", outdated="u is at 0001"), Level.WARN, "u is at 0001"),
        (DatabaseFacts(url="u", exists=False), Level.OK, "will be made"),
    ],
)
def test_databases(database: DatabaseFacts, level: Level, says: str) -> None:
    found = next(f for f in checks(replace(GOOD, database=database)) if f.check == "database")
    assert (found.level, says in found.found) == (level, True)


def test_an_old_sqlite_is_named_with_what_is_done_about_it() -> None:
    old = replace(GOOD, database=DatabaseFacts(url="u", sqlite_version=(3, 40, 1)))
    found = next(f for f in checks(old) if f.check == "sqlite")
    assert (found.level, found.found.startswith("3.40.1")) == (Level.OK, True)
    assert "not used" in found.found


@pytest.mark.parametrize(
    ("clock", "level"),
    [
        (ClockFacts(now=datetime(1970, 1, 1, tzinfo=UTC)), Level.FAIL),
        (ClockFacts(now=datetime(2026, 5, 1, tzinfo=UTC)), Level.OK),
        (ClockFacts(now=datetime(2026, 5, 1, tzinfo=UTC), ntp_synchronised=False), Level.WARN),
        (ClockFacts(now=datetime(2026, 5, 1, tzinfo=UTC), ntp_synchronised=True, rate=300.0), Level.WARN),
    ],
)
def test_clocks(clock: ClockFacts, level: Level) -> None:
    found = next(f for f in checks(replace(GOOD, clock=clock)) if f.check == "clock")
    assert found.level is level


def test_a_feed_that_fails_says_who_answers_instead() -> None:
    down = FeedFacts(signal="price", name="first", took_s=10.0, error="timed out")
    second = FeedFacts(signal="price", name="second", took_s=9.0, points=24)
    found = [f for f in checks(replace(GOOD, feeds=(down, second))) if f.check == "price"]
    assert [f.level for f in found] == [Level.WARN, Level.WARN]
    assert found[0].todo == "the next feed answers instead"
    assert "slow" in found[1].todo


def test_looking_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTMILL_URL", "http://127.0.0.1:9")
    folder = tmp_path / "data"
    config = Config(
        gpus=Gpus(backend="simulated"),
        storage=Storage(data_dir=folder),
        price=Signal(feeds=[FeedConfig(type="fixed", value=80.0)]),
        carbon=Signal(feeds=[FeedConfig(type="csv", path=tmp_path / "none.csv")]),
    )
    facts = gather(config, Target())
    assert not folder.exists()
    assert facts.daemon_error == "nobody answers at http://127.0.0.1:9"
    assert [(f.signal, bool(f.error)) for f in facts.feeds] == [("price", False), ("carbon", True)]
    assert facts.database.exists is False
    assert worst(checks(replace(facts, uid=1000))) is Level.WARN


def test_no_password_is_shown() -> None:
    assert without_password("postgresql://ada:secret@db:5432/w") == "postgresql://ada:***@db:5432/w"
    assert without_password("sqlite:////d/w.db") == "sqlite:////d/w.db"

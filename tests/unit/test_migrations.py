"""The tables come from the migrations, on both databases, from a checkout and from a wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from scheduler.model import JobSpec
from scheduler.store import DatabaseTooNew, DatabaseTooOld, SchemaMismatch, open_store
from scheduler.store import upgrade as schema
from scheduler.store.database import Database
from scheduler.store.tables import metadata
from tests.conftest import REPOSITORY
from tests.store_builders import NOON

SUBMIT = """
import sys
from datetime import UTC, datetime
import scheduler
from scheduler.model import JobSpec
from scheduler.store import open_store
from scheduler.store.upgrade import migrations_folder

with open_store(sys.argv[1]) as store:
    job, _ = store.jobs.submit(JobSpec(argv=("true",), gpus=1), "ada", datetime.now(UTC))
    assert store.jobs.get(job.id) == job
print(migrations_folder())
"""


def execute(url: str, statement: str) -> None:
    database = Database(url)
    with database.write() as connection:
        connection.execute(text(statement))
    database.close()


def table_names(url: str) -> set[str]:
    database = Database(url)
    with database.read() as connection:
        names = set(inspect(connection).get_table_names())
    database.close()
    return names


def test_migrations_and_tables_agree(database_url: str) -> None:
    with open_store(database_url) as store, store.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_opening_twice_changes_nothing(database_url: str) -> None:
    open_store(database_url).close()
    open_store(database_url).close()
    open_store(database_url, upgrade=False).close()


def test_a_database_without_tables_is_not_opened_without_upgrade(database_url: str) -> None:
    with pytest.raises(DatabaseTooOld, match="this program needs"):
        open_store(database_url, upgrade=False)
    assert table_names(database_url) == set()


@pytest.mark.parametrize("upgrade", [True, False])
def test_a_newer_database_is_refused_and_left_alone(database_url: str, upgrade: bool) -> None:
    open_store(database_url).close()
    execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    before = table_names(database_url)
    with pytest.raises(
        DatabaseTooNew, match="version 9999, which this program does not know: a newer wattmill"
    ):
        open_store(database_url, upgrade=upgrade)
    assert table_names(database_url) == before


def test_somebody_elses_database_is_refused(database_url: str) -> None:
    execute(database_url, "CREATE TABLE recipes (id INTEGER)")
    with pytest.raises(SchemaMismatch, match="tables that wattmill did not make"):
        open_store(database_url)
    assert table_names(database_url) == {"recipes"}


def test_many_that_open_at_once_upgrade_once(database_url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: open_store(database_url), range(8)))
    for store in stores:
        assert store.jobs.active() == []
        store.close()


def test_processes_that_open_at_once_upgrade_once(database_url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SUBMIT, database_url],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.DEVNULL,
        )
        for _ in range(3)
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    with open_store(database_url) as store:
        assert len(store.jobs.active()) == 3


def test_a_step_that_fails_leaves_the_old_version_whole(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(REPOSITORY / "migrations", folder)
    open_store(database_url).close()
    head = max(path.name for path in (folder / "versions").glob("[0-9]*.py"))[:4]
    (folder / "versions" / "9999_broken.py").write_text(
        "from alembic import op\n"
        "import sqlalchemy as sa\n"
        f"revision, down_revision = '9999', '{head}'\n"
        "def upgrade():\n"
        "    op.create_table('half', sa.Column('id', sa.Integer))\n"
        "    op.drop_table('curves')\n"
        "    raise RuntimeError('in the middle')\n"
    )
    monkeypatch.setattr(schema, "migrations_folder", lambda: folder)
    before = table_names(database_url)
    with pytest.raises(RuntimeError, match="in the middle"):
        open_store(database_url)
    assert table_names(database_url) == before
    monkeypatch.undo()
    open_store(database_url, upgrade=False).close()


def steps() -> list[str]:
    """Every version, the first one first."""
    scripts = ScriptDirectory.from_config(alembic_config())
    return [script.revision for script in scripts.walk_revisions()][::-1]


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(REPOSITORY / "migrations"))
    return config


def go(url: str, version: str, *, back: bool = False) -> None:
    database, config = Database(url), alembic_config()
    with database.write() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if back else command.upgrade)(config, version)
    database.close()


@pytest.mark.parametrize("version", steps()[:-1])
def test_an_older_database_is_brought_up_with_all_it_holds(database_url: str, version: str) -> None:
    go(database_url, version)
    execute(database_url, "INSERT INTO policies (name, rule) VALUES ('peak', '{}')")
    open_store(database_url).close()
    assert table_names(database_url) == {*metadata.tables, "alembic_version"}
    with open_store(database_url) as store, store.database.read() as connection:
        assert connection.execute(text("SELECT name FROM policies")).scalars().all() == ["peak"]


def test_every_step_can_be_taken_back_and_again(database_url: str) -> None:
    with open_store(database_url) as store:
        store.jobs.submit(JobSpec(argv=("true",), gpus=1), "ada", NOON)
    for version in steps()[-2::-1]:
        go(database_url, version, back=True)
    assert "stop_costs" not in table_names(database_url)
    with open_store(database_url) as store:
        assert len(store.jobs.active()) == 1
    assert table_names(database_url) == {*metadata.tables, "alembic_version"}


def test_a_damaged_installation_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(schema, "__file__", str(tmp_path / "scheduler" / "store" / "upgrade.py"))
    with pytest.raises(SchemaMismatch, match="installation is damaged"):
        schema.migrations_folder()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy so that nothing is left behind in it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("api", "power", "scheduler", "telemetry", "migrations", "examples"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(REPOSITORY / name, source / name)
    (source / "README.md").write_text("The wheel's front page.\n")
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", target, source],
        check=True,
        capture_output=True,
    )
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_carries_every_migration(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (REPOSITORY / "migrations").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert f"scheduler/_migrations/{path.relative_to(REPOSITORY / 'migrations')}" in names
    assert not any(name.startswith("migrations/") for name in names)


def test_an_unpacked_wheel_finds_its_migrations(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
    assert runs_from(tmp_path / "unpacked", tmp_path) == tmp_path / "unpacked" / "scheduler" / "_migrations"


@pytest.mark.slow
def test_an_installed_wheel_upgrades_a_database(wheel: Path, tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index")
    subprocess.run(
        [*pip, "--target", str(tmp_path / "site"), str(wheel)],
        check=True,
        capture_output=True,
    )
    assert runs_from(tmp_path / "site", tmp_path) == tmp_path / "site" / "scheduler" / "_migrations"


def runs_from(packages: Path, tmp_path: Path) -> Path:
    """Open a new database with the packages in that folder; the migrations folder that they used."""
    answer = subprocess.run(
        [sys.executable, "-P", "-c", SUBMIT, f"sqlite:///{tmp_path / 'from-wheel.db'}"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(packages)},
    )
    return Path(answer.stdout.strip())

"""Bring the tables to the version of this program: one process at a time, all steps or none."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text

from scheduler.store.database import Database
from scheduler.store.errors import DatabaseTooNew, DatabaseTooOld, SchemaMismatch, StoreUnavailable

LOCK_TIMEOUT_S = 60.0
POSTGRESQL_LOCK = 0x77617474_6D696C6C  # "wattmill"


def migrations_folder() -> Path:
    """Where the migrations are: inside an installed wheel, else beside the packages of a checkout.

    Raises:
        SchemaMismatch: neither is there; the installation is damaged.
    """
    scheduler = Path(__file__).resolve().parent.parent
    for folder in (scheduler / "_migrations", scheduler.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise SchemaMismatch(f"no migrations beside {scheduler}: the installation is damaged")


def upgrade(database: Database) -> None:
    """Apply what is missing. Two processes that open at once: the second waits, then finds nothing to do.

    Raises:
        DatabaseTooNew: a newer program wrote this database.
        SchemaMismatch: the database holds something else, or a step failed; nothing was changed.
        StoreUnavailable: unreachable, or another upgrade takes longer than a minute.
    """
    config = _alembic_config()
    with _only_one(database), database.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL lock_timeout = '60s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": POSTGRESQL_LOCK})
        scripts = ScriptDirectory.from_config(config)
        revision = _revision(connection, scripts, database.name)
        if revision == scripts.get_current_head():
            return
        if revision is None and _occupied(connection):
            raise SchemaMismatch(
                f"{database.name} holds tables that wattmill did not make: use an empty database"
            )
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise SchemaMismatch(f"{database.name} could not be upgraded: {error}") from error


def check(database: Database) -> None:
    """Raises DatabaseTooOld or DatabaseTooNew unless the tables are those of this program."""
    scripts = ScriptDirectory.from_config(_alembic_config())
    with database.read() as connection:
        revision = _revision(connection, scripts, database.name)
    if revision != scripts.get_current_head():
        raise DatabaseTooOld(
            f"{database.name} is at {revision or 'no version'}, this program needs"
            f" {scripts.get_current_head()}: run `wattmill serve`, or open it once with upgrade"
        )


def _alembic_config() -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return config


def _revision(connection: Connection, scripts: ScriptDirectory, name: str) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    if revision is not None and revision not in known:
        raise DatabaseTooNew(
            f"{name} is at version {revision}, which this program does not know: a newer wattmill wrote it."
            " Install that version again, or restore a backup from before its upgrade"
        )
    return revision


def _occupied(connection: Connection) -> bool:
    return any(name != "alembic_version" for name in inspect(connection).get_table_names())


@contextmanager
def _only_one(database: Database) -> Iterator[None]:
    """A lock file beside an SQLite database; PostgreSQL has its own lock."""
    if database.sqlite_path is None:
        yield
        return
    descriptor = os.open(f"{database.sqlite_path}.upgrade.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, database.name)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, name: str) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    f"{name}: another process has been upgrading it for a minute"
                ) from error
            time.sleep(0.05)

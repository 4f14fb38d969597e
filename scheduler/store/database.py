"""Connections and transactions: the one place that knows which database lies below.

Foreign exceptions end here: whatever the driver raises leaves as a StoreError.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from scheduler.store.errors import DriverMissing, StoreUnavailable

BUSY_TIMEOUT_S = 10.0
WRITES = "wattmill_writes"


class Database:
    """A pool of connections to one database. Safe for threads; not for use across fork()."""

    def __init__(self, url: str) -> None:
        self.url = _parsed(url)
        self.engine = _engine(self.url)

    @property
    def name(self) -> str:
        """The address without its password, for messages."""
        return self.url.render_as_string(hide_password=True)

    @property
    def sqlite_path(self) -> Path | None:
        return Path(str(self.url.database)) if self.engine.dialect.name == "sqlite" else None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only reads: everything in it is seen at one moment (SQLite)."""
        with self._errors(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that writes; on leaving without an exception it is on the disk."""
        with (
            self._errors(),
            self.engine.connect().execution_options(**{WRITES: True}) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise StoreUnavailable(f"{self.name}: no free connection: {error}") from error
        except DBAPIError as error:
            raise StoreUnavailable(f"{self.name}: {error.orig}") from error
        except StatementError as error:
            if isinstance(error.orig, ValueError):
                raise ValueError(str(error.orig)) from error
            raise

    def close(self) -> None:
        self.engine.dispose()


def upsert(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, only_new: bool = False
) -> int:
    """Insert rows; where the primary key exists, replace every other column (or leave it: `only_new`)."""
    if not rows:
        return 0
    keys = [column.name for column in table.primary_key]
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    others = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    if only_new or not others:
        statement = statement.on_conflict_do_nothing()
    else:
        statement = statement.on_conflict_do_update(index_elements=keys, set_=others)
    return connection.execute(statement, [dict(row) for row in rows]).rowcount


def insert_if_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert one row unless any unique key is taken; waits for a writer of the same key to decide."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(**row).on_conflict_do_nothing()
    return connection.execute(statement.returning(*table.primary_key)).first() is not None


def take_turns(connection: Connection, name: str) -> None:
    """Writers that name the same thing go one after the other, until their transactions end.

    SQLite has one writer anyway; PostgreSQL's would not see each other's new rows.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"wattmill {name}", 0))))


def _parsed(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise StoreUnavailable(f"database_url is not a database address: {error}") from error
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise StoreUnavailable(f"database_url: {url.drivername} is not supported; use sqlite or postgresql")
    if url.drivername == "sqlite" and (not url.database or url.database.startswith(":")):
        raise StoreUnavailable("database_url: SQLite needs a file, because several processes share it")
    return url


def _engine(url: URL) -> Engine:
    try:
        if url.drivername == "sqlite":
            return _sqlite_engine(url)
        return _postgresql_engine(url)
    except (ImportError, NoSuchModuleError) as error:
        raise DriverMissing(
            f"no driver for {url.drivername}: install the extra, pip install 'wattmill[postgres]' ({error})"
        ) from error


def _sqlite_engine(url: URL) -> Engine:
    path = Path(str(url.database))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Token hashes and commands of jobs lie in it: nobody else may read it, whatever the umask.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreUnavailable(f"cannot open the database file {path}: {error.strerror}") from error
    engine = create_engine(url, pool_size=8, max_overflow=24, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    """Durability and waiting, per connection.

    journal_mode TRUNCATE and not WAL: server and controller share the file, and SQLite before 3.51.3 can
    corrupt a WAL database that two connections use. synchronous FULL: a commit that was acknowledged
    survives a power cut.
    """
    connection.isolation_level = None  # we say BEGIN ourselves: the driver would do it too late
    for pragma in (
        f"busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}",
        "journal_mode = TRUNCATE",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes its lock first: upgrading a read lock later fails at once when two try it."""
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql_engine(url: URL) -> Engine:
    engine = create_engine(
        url, pool_size=8, max_overflow=24, pool_pre_ping=True, connect_args={"connect_timeout": 10}
    )
    event.listen(engine, "connect", _set_up_postgresql)
    return engine


def _set_up_postgresql(connection: Any, _record: object) -> None:
    """A commit is on the disk when it returns, even where the server's default is laxer."""
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO on")
        cursor.execute("SET lock_timeout TO '10s'")
    connection.commit()

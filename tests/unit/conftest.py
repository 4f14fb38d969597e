"""The same store tests run on SQLite and on PostgreSQL: ask for `store`, or for a `database_url`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from scheduler.store import Store, open_store
from scheduler.store.tables import metadata
from tests.postgres_server import BINARIES, PostgresServer, available

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    if not available():
        message = f"no PostgreSQL server in {BINARIES}; set WATTMILL_POSTGRES_BIN"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database that nobody has opened yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'wattmill.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.new_database()


@pytest.fixture(scope="session")
def reused_postgres_url(postgres_server: PostgresServer) -> str:
    """One upgraded database for all tests of this process: emptying it is ten times faster than a new one."""
    url = postgres_server.new_database()
    open_store(url).close()
    return url


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'wattmill.db'}"
    else:
        url = request.getfixturevalue("reused_postgres_url")
    with open_store(url) as opened:
        if request.param != "sqlite":
            _empty(opened)
        yield opened


def _empty(store: Store) -> None:
    names = ", ".join(table.name for table in metadata.sorted_tables)
    with store.database.write() as connection:
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))

"""What is true of PostgreSQL alone. That both databases behave alike is shown by every other store test."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from scheduler.model import Intent
from scheduler.store import IdempotencyConflict, Store, StoreUnavailable, open_store
from tests.postgres_server import PostgresServer
from tests.store_builders import NOON, a_spec, running, submitted

pytestmark = pytest.mark.postgres


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    return postgres_server.new_database()


@pytest.fixture
def postgres(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


def scalar(store: Store, statement: str) -> object:
    with store.database.read() as connection:
        return connection.execute(text(statement)).scalar_one()


def test_commits_are_synchronous_whatever_the_server_prefers(postgres: Store) -> None:
    with postgres.database.write() as connection:
        connection.execute(
            text("ALTER DATABASE " + str(postgres.database.url.database) + " SET synchronous_commit TO off")
        )
    postgres.close()
    assert scalar(postgres, "SHOW synchronous_commit") == "on"


def test_times_are_utc_on_a_server_in_another_zone(postgres: Store) -> None:
    assert scalar(postgres, "SHOW timezone") == "Europe/Berlin"
    job = submitted(postgres)
    assert postgres.jobs.get(job.id).submitted_at.isoformat() == NOON.isoformat()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_the_address_is_taken(url: str, scheme: str) -> None:
    with open_store(url.replace("postgresql", scheme, 1)) as store:
        assert store.jobs.active() == []


def test_a_connection_that_the_server_cut_is_replaced(postgres: Store) -> None:
    job = submitted(postgres)
    other = Store(type(postgres.database)(postgres.database.url.render_as_string(hide_password=False)))
    with other, other.database.write() as connection:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name AND pid <> :me"
        me = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        connection.execute(text(cut), {"name": other.database.url.database, "me": me})
    assert postgres.jobs.get(job.id) == job


def test_a_server_that_is_gone_is_unavailable() -> None:
    server = PostgresServer()
    try:
        store = open_store(server.new_database())
        job = submitted(store)
    finally:
        server.stop()
    with store:
        for call in (lambda: store.jobs.get(job.id), lambda: store.jobs.submit(a_spec(), "ada", NOON)):
            with pytest.raises(StoreUnavailable):
                call()


def test_people_and_controller_change_one_job_at_once(postgres: Store) -> None:
    """Each keeps to its own columns; no change of either is lost."""
    job = running(postgres)

    def change(n: int) -> None:
        if n % 2:
            postgres.jobs.save(job.but(wait_detail=str(n)), job.state)
        else:
            postgres.jobs.set_intent(job.id, (Intent.HOLD, Intent.PAUSE)[n // 2 % 2])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(change, range(64)))
    found = postgres.jobs.get(job.id)
    assert found.wait_detail
    assert found.intent in (Intent.HOLD, Intent.PAUSE)
    assert found.run == job.run


def test_batches_that_share_a_key_race_to_one_winner(postgres: Store) -> None:
    batches = [[a_spec(name=str(n % 2))] * 3 for n in range(20)]

    def submit(batch: list[object]) -> str:
        try:
            return postgres.jobs.submit_many(batch, "ada", NOON, "k")[0][0].spec.name  # type: ignore[arg-type]
        except IdempotencyConflict:
            return "refused"

    with ThreadPoolExecutor(20) as pool:
        answers = set(pool.map(submit, batches))
    assert len(postgres.jobs.active()) == 3
    assert answers == {postgres.jobs.active()[0].spec.name, "refused"}

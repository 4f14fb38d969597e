"""Runs the migrations on the connection that `scheduler.store.upgrade` gives; there is no other way in."""

from __future__ import annotations

from alembic import context

from scheduler.store.tables import metadata


def run() -> None:
    connection = context.config.attributes.get("connection")
    if connection is None:
        raise RuntimeError("migrations run when wattmill opens its database: start `wattmill serve`")
    # Both databases can undo CREATE TABLE: a step that fails, or a kill, leaves the old version whole.
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transactional_ddl=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    context.run_migrations()


run()

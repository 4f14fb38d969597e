"""Bearer tokens. Only a hash is kept: a copy of the database opens no door."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from scheduler.ids import is_id, new_id
from scheduler.store.codec import as_enum
from scheduler.store.database import Database
from scheduler.store.errors import NotFound
from scheduler.store.job_rows import storable
from scheduler.store.records import Role, Token
from scheduler.store.tables import tokens

SECRET_BYTES = 32  # random, so one round of SHA-256 without salt is enough


class TokenStore:
    """Secrets look like `token_01J….<random>`: the part before the dot is the public id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, name: str, role: Role | str, expires: datetime | None = None, at: datetime | None = None
    ) -> str:
        """Make a token and return its secret, which is shown once and cannot be read again.

        Raises:
            ValueError: no such role.
        """
        id, random = new_id("token"), secrets.token_urlsafe(SECRET_BYTES)
        row = {
            "id": id,
            "name": storable(name),
            "role": Role(role).value,
            "secret_sha256": _hash(random),
            "created_at": at or datetime.now(UTC),
            "expires_at": expires,
        }
        with self._database.write() as connection:
            connection.execute(insert(tokens), [row])
        return f"{id}.{random}"

    def find(self, secret: str, at: datetime | None = None) -> Token | None:
        """The token that this secret opens now (real time); None = unknown, expired or revoked."""
        id, _, random = secret.partition(".")
        if not is_id("token", id):
            return None
        with self._database.read() as connection:
            row = connection.execute(select(tokens).where(tokens.c.id == id)).one_or_none()
        if row is None or not hmac.compare_digest(row.secret_sha256, _hash(random)):
            return None
        token = _token(row)
        return token if token.valid_at(at or datetime.now(UTC)) else None

    def list(self) -> list[Token]:
        """Every token, oldest first, the revoked ones included."""
        with self._database.read() as connection:
            rows = connection.execute(select(tokens).order_by(tokens.c.created_at, tokens.c.id)).all()
        return [_token(row) for row in rows]

    def revoke(self, id: str, at: datetime | None = None) -> None:
        """It opens nothing from now on; revoking twice changes nothing. Raises NotFound."""
        statement = update(tokens).where(tokens.c.id == id, tokens.c.revoked_at.is_(None))
        with self._database.write() as connection:
            if connection.execute(select(tokens.c.id).where(tokens.c.id == id)).one_or_none() is None:
                raise NotFound("token", id)
            connection.execute(statement.values(revoked_at=at or datetime.now(UTC)))

    def prune(self, before: datetime) -> int:
        """Forget tokens that expired or were revoked before `before`; how many."""
        gone = (tokens.c.expires_at < before) | (tokens.c.revoked_at < before)
        with self._database.write() as connection:
            return connection.execute(delete(tokens).where(gone)).rowcount


def _hash(random: str) -> str:
    return hashlib.sha256(random.encode(errors="replace")).hexdigest()


def _token(row: Row[Any]) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        role=as_enum(Role, row.role, "tokens", row.id, "role"),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )

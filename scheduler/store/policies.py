"""Price rules by name."""

from __future__ import annotations

import builtins
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Row, delete, select

from scheduler.policy.price_rule import PriceRule
from scheduler.store.codec import decode, encode
from scheduler.store.database import Database, upsert
from scheduler.store.errors import CorruptRow, NotFound
from scheduler.store.job_rows import storable
from scheduler.store.tables import policies


class PolicyStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> builtins.list[PriceRule]:
        """Every rule, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(policies).order_by(policies.c.name)).all()
        return [_rule(row) for row in rows]

    def get(self, name: str) -> PriceRule:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(select(policies).where(policies.c.name == name)).one_or_none()
        if row is None:
            raise NotFound("policy", name)
        return _rule(row)

    def put(self, rule: PriceRule) -> None:
        """Add a rule, or replace the one of this name. Raises ValueError: the name cannot be stored."""
        if storable(rule.name) != rule.name:
            raise ValueError("name: must be Unicode text without NUL")
        with self._database.write() as connection:
            upsert(connection, policies, [{"name": rule.name, "rule": encode(asdict(rule))}])

    def delete(self, name: str) -> None:
        """Raises NotFound."""
        with self._database.write() as connection:
            if connection.execute(delete(policies).where(policies.c.name == name)).rowcount == 0:
                raise NotFound("policy", name)


def _rule(row: Row[Any]) -> PriceRule:
    values = decode(row.rule, "policies", row.name, "rule", dict)
    unknown = set(values) - {f.name for f in fields(PriceRule)}
    if unknown:
        raise CorruptRow("policies", row.name, "rule", f"has unknown fields {sorted(unknown)}")
    try:
        return PriceRule(**values)
    except (TypeError, ValueError) as error:
        raise CorruptRow("policies", row.name, "rule", f"is not a price rule ({error})") from error

"""Limits on power domains over time, from operators, targets and overrides."""

from __future__ import annotations

import builtins
import math
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, or_, select, update

from power.budget import Budget
from scheduler.ids import new_id
from scheduler.store.database import Database, take_turns
from scheduler.store.errors import NotFound
from scheduler.store.job_rows import storable
from scheduler.store.tables import budgets


class BudgetStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def list(
        self, at: datetime | None = None, source: str | None = None, *, until: datetime | None = None
    ) -> builtins.list[Budget]:
        """Budgets by start; with `at`, those that hold at that moment, or at one from it to before `until`;
        past and coming ones without.
        """
        query = select(budgets).order_by(budgets.c.start, budgets.c.id)
        if at is not None:
            begun = budgets.c.start <= at if until is None else budgets.c.start < until
            query = query.where(begun, or_(budgets.c.end.is_(None), budgets.c.end > at))
        if source is not None:
            query = query.where(budgets.c.source == source)
        with self._database.read() as connection:
            return [_budget(row) for row in connection.execute(query)]

    def get(self, id: str) -> Budget:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(select(budgets).where(budgets.c.id == id)).one_or_none()
        if row is None:
            raise NotFound("budget", id)
        return _budget(row)

    def add(self, budget: Budget) -> Budget:
        """Raises ValueError: not a finite limit >= 0, or it ends before it starts."""
        _check(budget)
        with self._database.write() as connection:
            connection.execute(insert(budgets), [_values(budget)])
        return budget

    def remove(self, id: str) -> None:
        """Raises NotFound."""
        with self._database.write() as connection:
            if connection.execute(delete(budgets).where(budgets.c.id == id)).rowcount == 0:
                raise NotFound("budget", id)

    def replace_limit(self, domain: str, limit_w: float, at: datetime) -> Budget:
        """The operator's limit from `at` on: in one step the open-ended one in force ends and another begins.

        Targets, limits with an end, and limits that begin after `at` stay as they are: where several hold,
        the lowest wins. Raises ValueError as `add` does.
        """
        budget = Budget(id=new_id("budget"), domain=domain, limit_w=limit_w, start=at)
        _check(budget)
        open_ended = (
            budgets.c.domain == domain,
            budgets.c.source == budget.source,
            budgets.c.end.is_(None),
        )
        with self._database.write() as connection:
            take_turns(connection, "budgets")
            connection.execute(delete(budgets).where(*open_ended, budgets.c.start == at))
            connection.execute(update(budgets).where(*open_ended, budgets.c.start < at).values(end=at))
            connection.execute(insert(budgets), [_values(budget)])
        return budget

    def prune(self, before: datetime) -> int:
        """Forget budgets that ended before `before`; how many."""
        with self._database.write() as connection:
            return connection.execute(delete(budgets).where(budgets.c.end <= before)).rowcount


def _check(budget: Budget) -> None:
    if not (math.isfinite(budget.limit_w) and budget.limit_w >= 0):
        raise ValueError(f"limit_w: must be a finite number of watts >= 0, got {budget.limit_w}")
    if budget.end is not None and budget.end <= budget.start:
        raise ValueError(f"end: must be after the start, {budget.start.isoformat()}")
    for name in ("domain", "correlation_id"):
        text = getattr(budget, name)
        if text is not None and storable(text) != text:
            raise ValueError(f"{name}: must be Unicode text without NUL")


def _budget(row: Row[Any]) -> Budget:
    return Budget(
        id=row.id,
        domain=row.domain,
        limit_w=row.limit_w,
        start=row.start,
        end=row.end,
        source=row.source,
        correlation_id=row.correlation_id,
    )


def _values(budget: Budget) -> dict[str, Any]:
    return {
        "id": budget.id,
        "domain": budget.domain,
        "limit_w": budget.limit_w,
        "start": budget.start,
        "end": budget.end,
        "source": budget.source,
        "correlation_id": budget.correlation_id,
    }

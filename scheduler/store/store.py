"""The store as the rest of the program sees it: one object, an attribute per aggregate."""

from __future__ import annotations

from datetime import datetime
from types import TracebackType

from scheduler.store import upgrade as schema
from scheduler.store.budgets import BudgetStore
from scheduler.store.curves import CurveStore
from scheduler.store.database import Database
from scheduler.store.decisions import DecisionStore
from scheduler.store.energy import EnergyStore
from scheduler.store.events import EventStore
from scheduler.store.jobs import JobStore
from scheduler.store.nodes import NodeStore
from scheduler.store.policies import PolicyStore
from scheduler.store.samples import SampleStore
from scheduler.store.series import SeriesStore
from scheduler.store.stop_costs import StopCostStore
from scheduler.store.tokens import TokenStore


class Store:
    """Domain values in and out. Safe for threads; every method is one transaction.

    Any method may raise StoreUnavailable, and CorruptRow where it reads.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.jobs = JobStore(database)
        self.series = SeriesStore(database)
        self.budgets = BudgetStore(database)
        self.policies = PolicyStore(database)
        self.nodes = NodeStore(database)
        self.events = EventStore(database)
        self.decisions = DecisionStore(database)
        self.tokens = TokenStore(database)
        self.energy = EnergyStore(database)
        self.samples = SampleStore(database)
        self.curves = CurveStore(database)
        self.stop_costs = StopCostStore(database)

    def prune(self, before: datetime) -> dict[str, int]:
        """Forget history older than `before`. Jobs, runs and their energy stay: bills are not forgotten."""
        return {
            "events": self.events.prune(before),
            "decisions": self.decisions.prune(before),
            "samples": self.samples.prune(before),
            "series": self.series.prune(before),
            "budgets": self.budgets.prune(before),
        }

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_store(url: str, *, upgrade: bool = True) -> Store:
    """Connect, and bring the tables to this program's version (`upgrade`) or insist that they are at it.

    Args:
        url: `sqlite:////path/to/file` (made when missing, mode 0600) or `postgresql://...`.

    Raises:
        StoreUnavailable: unreachable, not a database, or its driver is missing.
        DatabaseTooNew: a newer wattmill wrote it.
        DatabaseTooOld: it needs an upgrade and `upgrade` is False.
    """
    database = Database(url)
    try:
        if upgrade:
            schema.upgrade(database)
        else:
            schema.check(database)
    except BaseException:
        database.close()
        raise
    return Store(database)

"""The database. The only code, with the migrations, that knows SQLAlchemy."""

from scheduler.store.energy import Counter
from scheduler.store.errors import (
    AlreadyTerminal,
    CorruptRow,
    DatabaseTooNew,
    DatabaseTooOld,
    DriverMissing,
    IdempotencyConflict,
    InvalidCursor,
    NotFound,
    SchemaMismatch,
    StaleRevision,
    StaleWrite,
    StoreError,
    StoreUnavailable,
)
from scheduler.store.records import (
    Event,
    Mark,
    Page,
    Role,
    SampleRow,
    StoredDecision,
    StoredEvent,
    StoredSlot,
    Token,
)
from scheduler.store.store import Store, open_store

__all__ = [
    "AlreadyTerminal",
    "CorruptRow",
    "Counter",
    "DatabaseTooNew",
    "DatabaseTooOld",
    "DriverMissing",
    "Event",
    "IdempotencyConflict",
    "InvalidCursor",
    "Mark",
    "NotFound",
    "Page",
    "Role",
    "SampleRow",
    "SchemaMismatch",
    "StaleRevision",
    "StaleWrite",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "StoredDecision",
    "StoredEvent",
    "StoredSlot",
    "Token",
    "open_store",
]

"""What can go wrong in the store.

StoreError
├── NotFound              no such job, budget, rule, token
├── IdempotencyConflict   the key was used for something else
├── StaleRevision         somebody changed the job since it was read
├── StaleWrite            the controller's picture of a job is out of date
├── AlreadyTerminal       the job has ended, or its end is ordered
├── InvalidCursor         a cursor that this store did not hand out
├── CorruptRow            a row that cannot be what we wrote
├── StoreUnavailable   locked, full, unreachable, not a database
│   └── DriverMissing     the driver for this kind of database is not installed
└── SchemaMismatch        the tables do not fit this version of the program
    ├── DatabaseTooNew    a newer version of the program wrote them
    └── DatabaseTooOld    they need an upgrade, and none was asked for
"""

from __future__ import annotations


class StoreError(Exception):
    """Every error of the store is one of these; the message is fit for a person."""


class NotFound(StoreError):
    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"no {kind} {key!r}")
        self.kind = kind
        self.key = key


class IdempotencyConflict(StoreError):
    def __init__(self, key: str) -> None:
        super().__init__(f"idempotency key {key!r} was used before with another request")
        self.key = key


class StaleRevision(StoreError):
    def __init__(self, job_id: str, expected: int, actual: int) -> None:
        super().__init__(f"job {job_id} is at revision {actual}, not {expected}: read it again")
        self.job_id = job_id
        self.expected = expected
        self.actual = actual


class StaleWrite(StoreError):
    """`actual` tells where the row stands: state and run."""

    def __init__(self, job_id: str, expected: str, actual: str) -> None:
        super().__init__(f"job {job_id} was expected in {expected} but is in {actual}: nothing was written")
        self.job_id = job_id
        self.expected = expected
        self.actual = actual


class AlreadyTerminal(StoreError):
    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"job {job_id} is {state}: it cannot be changed any more")
        self.job_id = job_id
        self.state = state


class InvalidCursor(StoreError):
    def __init__(self, cursor: str) -> None:
        super().__init__(f"{cursor[:80]!r} is not a cursor of this list")
        self.cursor = cursor


class CorruptRow(StoreError):
    def __init__(self, table: str, key: str, column: str, why: str) -> None:
        super().__init__(f"{table} row {key!r}, column {column}: {why}")
        self.table = table
        self.key = key
        self.column = column


class StoreUnavailable(StoreError):
    pass


class DriverMissing(StoreUnavailable):
    pass


class SchemaMismatch(StoreError):
    pass


class DatabaseTooNew(SchemaMismatch):
    pass


class DatabaseTooOld(SchemaMismatch):
    pass

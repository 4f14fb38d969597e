"""Every table. The migrations create them; a test holds the two equal.

JSON is kept as text and decoded by our own code, so that a damaged value is reported with its row and column,
and so that both databases store the same bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives row numbers only to a column of type INTEGER; elsewhere they need 64 bits.
Serial = BigInteger().with_variant(Integer(), "sqlite")


class Utc(TypeDecorator[datetime]):
    """Aware UTC in and out. SQLite has no time zones: there it is written as naive UTC.

    Raises:
        ValueError: a naive datetime is written.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a time zone cannot be stored: {value}")
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


jobs = Table(
    "jobs",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),  # the order of submission
    Column("id", String(64), nullable=False, unique=True),
    Column("owner", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("spec", Text, nullable=False),  # JSON
    Column("submitted_at", Utc, nullable=False),
    Column("idempotency_key", Text),
    Column("idempotency_index", Integer, nullable=False, server_default="0"),  # place in its batch
    Column("request_digest", String(64), nullable=False),  # SHA-256 of what was asked for
    # what people want
    Column("intent", String(16), nullable=False),
    Column("held_by_operator", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    # what the controller knows
    Column("state", String(16), nullable=False),
    Column("state_since", Utc, nullable=False),
    Column("run_id", String(64)),
    Column("attempts", Integer, nullable=False),
    Column("wait_reason", String(32)),
    Column("wait_detail", Text, nullable=False),
    Column("condition", String(16), nullable=False),
    Column("condition_cause", Text, nullable=False),
    Column("condition_since", Utc),
    Column("stop_goal", String(16)),
    Column("not_before", Utc),
    Column("paused_s", Double, nullable=False),
    Column("checkpoint_path", Text),
    Column("ended_at", Utc),
    Column("exit_code", Integer),
    Column("end_reason", Text),
    UniqueConstraint("owner", "idempotency_key", "idempotency_index"),
    Index(None, "state", "seq"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("job_id", String(64), ForeignKey("jobs.id"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("gpu_uuids", Text, nullable=False),  # JSON
    Column("cap_w", Double, nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("started_at", Utc),
    Column("ended_at", Utc),
    Column("exit_code", Integer),
    Column("end_reason", Text),
    UniqueConstraint("job_id", "attempt"),
)
# No job runs twice: whatever the program does, the database takes one live run per job.
Index(
    "uq_runs_one_live_per_job",
    runs.c.job_id,
    unique=True,
    sqlite_where=text("ended_at IS NULL"),
    postgresql_where=text("ended_at IS NULL"),
)

events = Table(
    "events",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("at", Utc, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("job_id", String(64)),
    Column("run_id", String(64)),
    Column("data", Text, nullable=False),  # JSON
    Index(None, "job_id", "id"),
    Index(None, "at"),
    sqlite_autoincrement=True,  # ids of pruned events never come back
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("at", Utc, nullable=False),
    Column("cycle", BigInteger, nullable=False),
    Column("summary", Text, nullable=False),  # JSON
    Index(None, "at"),
    sqlite_autoincrement=True,
)

budgets = Table(
    "budgets",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("domain", Text, nullable=False),
    Column("limit_w", Double, nullable=False),
    Column("start", Utc, nullable=False),
    Column("end", Utc),
    Column("source", String(16), nullable=False),
    Column("correlation_id", Text),
    Index(None, "domain"),
)

policies = Table(
    "policies",
    metadata,
    Column("name", Text, primary_key=True),
    Column("rule", Text, nullable=False),  # JSON
)

nodes = Table(
    "nodes",
    metadata,
    Column("name", Text, primary_key=True),  # GPU UUID or node name
    Column("drain", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Utc, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("expires_at", Utc),
    Column("revoked_at", Utc),
)

series_slots = Table(
    "series_slots",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("start", Utc, primary_key=True),
    Column("end", Utc, nullable=False),
    Column("value", Double, nullable=False),
    Column("source", Text, nullable=False),
    Column("attribution", Text, nullable=False),
    Column("fetched_at", Utc, nullable=False),
)

series_fetches = Table(
    "series_fetches",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("source", Text, nullable=False),
    Column("attribution", Text, nullable=False),
    Column("fetched_at", Utc, nullable=False),
    Column("refused", Text, nullable=False),  # JSON
)

energy = Table(
    "energy",
    metadata,
    # "" stands for "none": parts of a primary key cannot be NULL.
    Column("run_id", String(64), primary_key=True),
    Column("gpu_uuid", String(96), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("slot_start", Utc, primary_key=True),
    Column("slot_end", Utc, nullable=False),
    Column("job_id", String(64)),
    Column("energy_j", Double, nullable=False),
    Column("integral_j", Double, nullable=False),
    Column("price_per_mwh", Double),
    Column("carbon_g_per_kwh", Double),
    Column("running_s", Double, nullable=False),
    Column("work_s", Double, nullable=False),
    Column("cap_w_s", Double, nullable=False),
    Column("samples", Double, nullable=False),
    Column("counter_j", Double),
    Column("counter_at", Utc),
    Column("gpu_counter_j", Double),
    Index(None, "job_id"),
    Index(None, "slot_start"),
    Index(None, "gpu_uuid", "counter_at"),
)

samples = Table(
    "samples",
    metadata,
    Column("gpu_uuid", String(96), primary_key=True),
    Column("at", Utc, primary_key=True),
    Column("span_s", Double, nullable=False),
    Column("job_id", String(64)),
    Column("run_id", String(64)),
    Column("power_w", Double),
    Column("power_max_w", Double),
    Column("cap_w", Double),
    Column("energy_j", Double),
    Column("utilization", Double),
    Column("memory_used_bytes", Double),
    Column("temperature_c", Double),
    Column("sm_clock_hz", Double),
    Column("samples_per_s", Double),
    Index(None, "job_id", "at"),
    Index(None, "at"),
)

curves = Table(
    "curves",
    metadata,
    Column("gpu_model", Text, primary_key=True),
    Column("workload", Text, primary_key=True),
    Column("curve", Text, nullable=False),  # JSON
    Column("at", Utc, nullable=False),
)

stop_costs = Table(
    "stop_costs",
    metadata,
    # "" stands for "none": one of the two always is.
    Column("workload", Text, primary_key=True),
    Column("job_id", String(64), primary_key=True),
    Column("checkpoint_s", Double, nullable=False),
    Column("checkpoints", BigInteger, nullable=False),
    Column("restart_s", Double, nullable=False),
    Column("restarts", BigInteger, nullable=False),
    Column("saves_on_request", Boolean, nullable=False),
    Column("at", Utc, nullable=False),
)

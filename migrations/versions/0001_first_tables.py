"""The first tables. A migration that was released is never changed; the next change is the next file."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UTC = sa.DateTime(timezone=True)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("limit_w", sa.Double(), nullable=False),
        sa.Column("start", UTC, nullable=False),
        sa.Column("end", UTC, nullable=True),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_budgets"),
    )
    op.create_index("ix_budgets_domain", "budgets", ["domain"], unique=False)
    op.create_table(
        "curves",
        sa.Column("gpu_model", sa.Text(), nullable=False),
        sa.Column("workload", sa.Text(), nullable=False),
        sa.Column("curve", sa.Text(), nullable=False),
        sa.Column("at", UTC, nullable=False),
        sa.PrimaryKeyConstraint("gpu_model", "workload", name="pk_curves"),
    )
    op.create_table(
        "decisions",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("at", UTC, nullable=False),
        sa.Column("cycle", sa.BigInteger(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_decisions"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_decisions_at", "decisions", ["at"], unique=False)
    op.create_table(
        "energy",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("gpu_uuid", sa.String(length=96), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("slot_start", UTC, nullable=False),
        sa.Column("slot_end", UTC, nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=True),
        sa.Column("energy_j", sa.Double(), nullable=False),
        sa.Column("integral_j", sa.Double(), nullable=False),
        sa.Column("price_per_mwh", sa.Double(), nullable=True),
        sa.Column("carbon_g_per_kwh", sa.Double(), nullable=True),
        sa.Column("running_s", sa.Double(), nullable=False),
        sa.Column("work_s", sa.Double(), nullable=False),
        sa.Column("cap_w_s", sa.Double(), nullable=False),
        sa.Column("samples", sa.Double(), nullable=False),
        sa.Column("counter_j", sa.Double(), nullable=True),
        sa.Column("counter_at", UTC, nullable=True),
        sa.Column("gpu_counter_j", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "gpu_uuid", "kind", "slot_start", name="pk_energy"),
    )
    op.create_index("ix_energy_gpu_uuid_counter_at", "energy", ["gpu_uuid", "counter_at"], unique=False)
    op.create_index("ix_energy_job_id", "energy", ["job_id"], unique=False)
    op.create_index("ix_energy_slot_start", "energy", ["slot_start"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("at", UTC, nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=True),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_at", "events", ["at"], unique=False)
    op.create_index("ix_events_job_id_id", "events", ["job_id", "id"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("seq", SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("submitted_at", UTC, nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("idempotency_index", sa.Integer(), server_default="0", nullable=False),
        sa.Column("request_digest", sa.String(length=64), nullable=False),
        sa.Column("intent", sa.String(length=16), nullable=False),
        sa.Column("held_by_operator", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_since", UTC, nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("wait_reason", sa.String(length=32), nullable=True),
        sa.Column("wait_detail", sa.Text(), nullable=False),
        sa.Column("condition", sa.String(length=16), nullable=False),
        sa.Column("condition_cause", sa.Text(), nullable=False),
        sa.Column("condition_since", UTC, nullable=True),
        sa.Column("stop_goal", sa.String(length=16), nullable=True),
        sa.Column("not_before", UTC, nullable=True),
        sa.Column("paused_s", sa.Double(), nullable=False),
        sa.Column("checkpoint_path", sa.Text(), nullable=True),
        sa.Column("ended_at", UTC, nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name="pk_jobs"),
        sa.UniqueConstraint("id", name="uq_jobs_id"),
        sa.UniqueConstraint(
            "owner",
            "idempotency_key",
            "idempotency_index",
            name="uq_jobs_owner_idempotency_key_idempotency_index",
        ),
    )
    op.create_index("ix_jobs_state_seq", "jobs", ["state", "seq"], unique=False)
    op.create_table(
        "nodes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("drain", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", UTC, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_nodes"),
    )
    op.create_table(
        "policies",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_policies"),
    )
    op.create_table(
        "samples",
        sa.Column("gpu_uuid", sa.String(length=96), nullable=False),
        sa.Column("at", UTC, nullable=False),
        sa.Column("span_s", sa.Double(), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=True),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("power_w", sa.Double(), nullable=True),
        sa.Column("power_max_w", sa.Double(), nullable=True),
        sa.Column("cap_w", sa.Double(), nullable=True),
        sa.Column("energy_j", sa.Double(), nullable=True),
        sa.Column("utilization", sa.Double(), nullable=True),
        sa.Column("memory_used_bytes", sa.Double(), nullable=True),
        sa.Column("temperature_c", sa.Double(), nullable=True),
        sa.Column("sm_clock_hz", sa.Double(), nullable=True),
        sa.Column("samples_per_s", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("gpu_uuid", "at", name="pk_samples"),
    )
    op.create_index("ix_samples_at", "samples", ["at"], unique=False)
    op.create_index("ix_samples_job_id_at", "samples", ["job_id", "at"], unique=False)
    op.create_table(
        "series_fetches",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("attribution", sa.Text(), nullable=False),
        sa.Column("fetched_at", UTC, nullable=False),
        sa.Column("refused", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("kind", name="pk_series_fetches"),
    )
    op.create_table(
        "series_slots",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("start", UTC, nullable=False),
        sa.Column("end", UTC, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("attribution", sa.Text(), nullable=False),
        sa.Column("fetched_at", UTC, nullable=False),
        sa.PrimaryKeyConstraint("kind", "start", name="pk_series_slots"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", UTC, nullable=False),
        sa.Column("expires_at", UTC, nullable=True),
        sa.Column("revoked_at", UTC, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("gpu_uuids", sa.Text(), nullable=False),
        sa.Column("cap_w", sa.Double(), nullable=False),
        sa.Column("created_at", UTC, nullable=False),
        sa.Column("started_at", UTC, nullable=True),
        sa.Column("ended_at", UTC, nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_runs_job_id"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.UniqueConstraint("job_id", "attempt", name="uq_runs_job_id_attempt"),
    )
    op.create_index(
        "uq_runs_one_live_per_job",
        "runs",
        ["job_id"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def downgrade() -> None:
    for table in (
        "runs",
        "jobs",
        "events",
        "decisions",
        "budgets",
        "policies",
        "nodes",
        "tokens",
        "series_slots",
        "series_fetches",
        "energy",
        "samples",
        "curves",
    ):
        op.drop_table(table)

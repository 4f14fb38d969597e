"""What stopping and starting again takes, by workload or by job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stop_costs",
        sa.Column("workload", sa.Text(), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("checkpoint_s", sa.Double(), nullable=False),
        sa.Column("checkpoints", sa.BigInteger(), nullable=False),
        sa.Column("restart_s", sa.Double(), nullable=False),
        sa.Column("restarts", sa.BigInteger(), nullable=False),
        sa.Column("saves_on_request", sa.Boolean(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("workload", "job_id", name="pk_stop_costs"),
    )


def downgrade() -> None:
    op.drop_table("stop_costs")

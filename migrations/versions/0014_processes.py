"""Heartbeats of the processes, and the lease of the one that signs.

Revision: 0014
After: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "process_heartbeat",
        sa.Column("process", sa.String(length=32), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=200), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("beat_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("process", name=op.f("pk_process_heartbeat")),
    )
    op.create_table(
        "publisher_lease",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("fence", BIG, nullable=False),
        sa.Column("holder", sa.String(length=32), nullable=True),
        sa.Column("place", sa.String(length=255), nullable=False),
        sa.Column("guard_lock", sa.String(length=160), nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_publisher_lease_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_publisher_lease")),
    )


def downgrade() -> None:
    op.drop_table("publisher_lease")
    op.drop_table("process_heartbeat")

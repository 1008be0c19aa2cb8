"""Figures for the dashboard: tags by tier and day.

Revision: 0006
After: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "daily_tiers",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tier", sa.String(length=8), nullable=False),
        sa.Column("tags", BIG, nullable=False),
        sa.CheckConstraint("tier IN ('clear', 'watch', 'review', 'high')", name=op.f("ck_daily_tiers_tier")),
        sa.PrimaryKeyConstraint("day", "tier", name=op.f("pk_daily_tiers")),
    )


def downgrade() -> None:
    op.drop_table("daily_tiers")

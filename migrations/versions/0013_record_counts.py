"""Indexes for an order's reports and a day's counts; lookups of a record, counted by platform, day and order.

Revision: 0013
After: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_report_platform_order_ref", "report", ["platform", "order_ref", "id"])
    op.create_index("ix_lookup_count_day", "lookup_count", ["day"])
    op.create_table(
        "disclosure_count",
        sa.Column("tag", sa.LargeBinary(length=32), nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("order_ref", sa.LargeBinary(length=32), nullable=False),
        sa.Column("lookup_set", sa.LargeBinary(length=16), nullable=False),
        sa.Column("times", BIG, nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claim", sa.String(length=16), nullable=True),
        sa.Column("tier", sa.String(length=8), nullable=False),
        sa.Column("consent_ref", sa.String(length=128), nullable=True),
        sa.Column("lookup_id", BIG, nullable=False),
        sa.PrimaryKeyConstraint(
            "tag", "platform", "day", "purpose", "order_ref", "lookup_set", name=op.f("pk_disclosure_count")
        ),
    )
    op.create_index("ix_disclosure_count_day", "disclosure_count", ["day"])


def downgrade() -> None:
    op.drop_index("ix_disclosure_count_day", table_name="disclosure_count")
    op.drop_table("disclosure_count")
    op.drop_index("ix_lookup_count_day", table_name="lookup_count")
    op.drop_index("ix_report_platform_order_ref", table_name="report")

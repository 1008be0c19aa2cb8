"""Reused pictures: hashes of reports, disclosures of searches, quota.

Revision: 0007
After: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "picture_hash",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("report_id", BIG, nullable=False),
        sa.Column("pdq", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_picture_hash")),
    )
    op.create_index("ix_picture_hash_report_id", "picture_hash", ["report_id"])
    op.create_table(
        "picture_search",
        sa.Column("id", BIG, nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("order_ref", sa.LargeBinary(length=32), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_picture_search")),
    )
    op.create_index("ix_picture_search_asked_at", "picture_search", ["asked_at"])
    op.create_table(
        "picture_hit",
        sa.Column("search_id", BIG, autoincrement=False, nullable=False),
        sa.Column("report_id", BIG, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("search_id", "report_id", name=op.f("pk_picture_hit")),
    )
    op.create_index("ix_picture_hit_report_id", "picture_hit", ["report_id"])
    op.create_table(
        "picture_use",
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hashes", BIG, nullable=False),
        sa.PrimaryKeyConstraint("platform", "day", name=op.f("pk_picture_use")),
    )


def downgrade() -> None:
    for table in ("picture_use", "picture_hit", "picture_search", "picture_hash"):
        op.drop_table(table)

"""Inputs of the weights, which are computed once a UTC day: decisions and suspensions as of the last midnight.

A decision that takes the place of an earlier one, and a suspension, count from the next UTC midnight; so the state at
the midnight before is stored too.

Revision: 0016
After: 0015
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

TIME = sa.DateTime(timezone=True)

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("case_outcome") as table:
        table.add_column(sa.Column("previous_counts_as", sa.String(length=10), nullable=True))
        table.add_column(sa.Column("previous_decided_at", TIME, nullable=True))
    op.create_index("ix_case_outcome_previous_decided_at", "case_outcome", ["previous_decided_at"], unique=False)
    with op.batch_alter_table("platform") as table:
        table.add_column(sa.Column("status_changed_at", TIME, nullable=True))
        table.add_column(sa.Column("weighed_before", sa.Boolean(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("platform") as table:
        table.drop_column("weighed_before")
        table.drop_column("status_changed_at")
    op.drop_index("ix_case_outcome_previous_decided_at", table_name="case_outcome")
    with op.batch_alter_table("case_outcome") as table:
        table.drop_column("previous_decided_at")
        table.drop_column("previous_counts_as")

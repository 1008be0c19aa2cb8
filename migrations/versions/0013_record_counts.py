"""Indexes for an order's reports and a day's counts; lookups of a record, counted by platform, day and order.

Revision: 0013
After: 0012
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_report_platform_order_ref", "report", ["platform", "order_ref", "id"])
    op.create_index("ix_lookup_count_day", "lookup_count", ["day"])


def downgrade() -> None:
    op.drop_index("ix_lookup_count_day", table_name="lookup_count")
    op.drop_index("ix_report_platform_order_ref", table_name="report")

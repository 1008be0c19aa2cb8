"""The audit log says which control group's reports a row is about.

Revision: 0011
After: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Rows that are there keep none, since the log is only ever added to: rows about cases without a group are shown to
    # no staff of any control group.
    op.add_column("staff_event", sa.Column("about_group", sa.String(length=32), nullable=True))


def downgrade() -> None:
    op.drop_column("staff_event", "about_group")

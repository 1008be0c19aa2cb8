"""The control group of each row of the audit log; accounts of staff are confirmed by an admin and enrolled by a link.

Revision: 0011
After: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def staff_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("enrolled_by", BIG, nullable=True),
        sa.Column("confirmed_by", BIG, nullable=True),
        sa.Column("awaits_confirmation", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("pending_role", sa.String(length=16), nullable=True),
        sa.Column("role_asked_by", BIG, nullable=True),
        sa.Column("link_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("link_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("link_opened", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("revision", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("last_login_at", sa.DateTime(timezone=True), nullable=True),
    ]


# The admin who set an account's present credentials or role, by the audit log; none for the command line.
ENROLLED_BY = """
    UPDATE staff SET enrolled_by = (
        SELECT staff_event.staff_id FROM staff_event
        WHERE staff_event.action IN ('staff_added', 'staff_reset', 'role_changed')
          AND staff_event.object_type = 'staff' AND staff_event.object_id = CAST(staff.id AS VARCHAR(32))
        ORDER BY staff_event.id DESC LIMIT 1
    )
"""
LAST_LOGIN = """
    UPDATE staff SET last_login_at = (
        SELECT MAX(staff_event.at) FROM staff_event
        WHERE staff_event.action = 'login' AND staff_event.staff_id = staff.id
    )
"""


def upgrade() -> None:
    # Existing rows keep no group, because the log is append-only: rows about cases without a group are not shown to
    # staff of a control group.
    op.add_column("staff_event", sa.Column("about_group", sa.String(length=32), nullable=True))
    for column in staff_columns():
        op.add_column("staff", column)
    op.create_index("uq_staff_link_hash", "staff", ["link_hash"], unique=True)
    op.execute(sa.text(ENROLLED_BY))
    op.execute(sa.text(LAST_LOGIN))


def downgrade() -> None:
    op.drop_index("uq_staff_link_hash", "staff")
    for column in reversed(staff_columns()):
        op.drop_column("staff", column.name)
    op.drop_column("staff_event", "about_group")

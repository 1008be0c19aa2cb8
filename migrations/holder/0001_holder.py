"""Tables of a key holder: admission, budgets, used tokens, and the state of the log.

Revision: holder_0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BYTES32 = sa.LargeBinary(length=32)
TIME = sa.DateTime(timezone=True)

revision = "holder_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "admitted_group",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("daily_elements", BIG, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_admitted_group")),
    )
    op.create_table(
        "group_burst",
        sa.Column("control_group", sa.String(length=32), nullable=False),
        sa.Column("whole_at_us", BIG, nullable=False),
        sa.PrimaryKeyConstraint("control_group", name=op.f("pk_group_burst")),
    )
    op.create_table(
        "group_use",
        sa.Column("control_group", sa.String(length=32), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("elements", BIG, nullable=False),
        sa.PrimaryKeyConstraint("control_group", "day", name=op.f("pk_group_use")),
    )
    op.create_table(
        "log_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", BIG, nullable=False),
        sa.Column("root", BYTES32, nullable=False),
        sa.Column("edge", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.Column("current_epoch", BIG, nullable=True),
        sa.Column("next_epoch", BIG, nullable=True),
        sa.Column("fault", sa.String(length=64), nullable=True),
        sa.Column("fault_at", TIME, nullable=True),
        sa.Column("fork_note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_head")),
    )
    op.create_table(
        "log_revocation",
        sa.Column("platform", sa.String(length=64), nullable=False),
        sa.Column("kid", sa.String(length=64), nullable=False),
        sa.Column("public_key", BYTES32, nullable=False),
        sa.PrimaryKeyConstraint("platform", "kid", "public_key", name=op.f("pk_log_revocation")),
    )
    op.create_table(
        "log_suspension",
        sa.Column("platform", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("platform", name=op.f("pk_log_suspension")),
    )
    op.create_table(
        "logged_statement",
        sa.Column("epoch", BIG, autoincrement=False, nullable=False),
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("entry_index", BIG, nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("epoch", "generation", name=op.f("pk_logged_statement")),
    )
    op.create_table(
        "refused_statement",
        sa.Column("entry_index", BIG, autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("entry_index", name=op.f("pk_refused_statement")),
    )
    op.create_table(
        "used_token",
        sa.Column("digest", BYTES32, nullable=False),
        sa.Column("expires_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_used_token")),
    )
    op.create_index(op.f("ix_used_token_expires_at"), "used_token", ["expires_at"], unique=False)
    op.create_table(
        "admitted_platform",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("control_group", sa.String(length=32), nullable=False),
        sa.Column("admitted_at", TIME, nullable=False),
        sa.Column("suspended_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["control_group"], ["admitted_group.name"], name=op.f("fk_admitted_platform_control_group_admitted_group")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_admitted_platform")),
    )
    op.create_table(
        "group_grant",
        sa.Column("id", BIG, nullable=False),
        sa.Column("control_group", sa.String(length=32), nullable=False),
        sa.Column("elements", BIG, nullable=False),
        sa.Column("used", BIG, nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("granted_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.CheckConstraint("used BETWEEN 0 AND elements", name=op.f("ck_group_grant_used")),
        sa.ForeignKeyConstraint(
            ["control_group"], ["admitted_group.name"], name=op.f("fk_group_grant_control_group_admitted_group")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_group_grant")),
    )
    op.create_index(
        "ix_group_grant_control_group_expires_at", "group_grant", ["control_group", "expires_at"], unique=False
    )
    op.create_table(
        "admitted_key",
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("kid", sa.String(length=64), nullable=False),
        sa.Column("public_key", BYTES32, nullable=False),
        sa.Column("endorsed_by", sa.String(length=64), nullable=True),
        sa.Column("admitted_at", TIME, nullable=False),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["platform"], ["admitted_platform.name"], name=op.f("fk_admitted_key_platform_admitted_platform")
        ),
        sa.PrimaryKeyConstraint("platform", "kid", name=op.f("pk_admitted_key")),
        sa.UniqueConstraint("public_key", name=op.f("uq_admitted_key_public_key")),
    )


def downgrade() -> None:
    op.drop_table("admitted_key")
    op.drop_index("ix_group_grant_control_group_expires_at", table_name="group_grant")
    op.drop_table("group_grant")
    op.drop_table("admitted_platform")
    op.drop_index(op.f("ix_used_token_expires_at"), table_name="used_token")
    op.drop_table("used_token")
    op.drop_table("refused_statement")
    op.drop_table("logged_statement")
    op.drop_table("log_suspension")
    op.drop_table("log_revocation")
    op.drop_table("log_head")
    op.drop_table("group_use")
    op.drop_table("group_burst")
    op.drop_table("admitted_group")

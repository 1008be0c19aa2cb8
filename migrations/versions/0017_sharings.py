"""Sharings of an epoch's key among holders. A ledger from before has one holder of the whole key (1 of 1).

Revision: 0017
After: 0016
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("key_epoch") as table:
        table.add_column(sa.Column("threshold", sa.Integer(), nullable=False, server_default="1"))
        table.add_column(sa.Column("generation", sa.Integer(), nullable=False, server_default="1"))
        table.alter_column("holder", existing_type=sa.String(length=32), nullable=True)
    with op.batch_alter_table("key_epoch") as table:
        table.alter_column("threshold", existing_type=sa.Integer(), server_default=None)
        table.alter_column("generation", existing_type=sa.Integer(), server_default=None)
    op.create_table(
        "key_sharing",
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("entry_index", BIG, nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("logged_at", TIME, nullable=False),
        sa.CheckConstraint("kind IN ('generate', 'refresh', 'reshare', 'rotate')", name=op.f("ck_key_sharing_kind")),
        sa.PrimaryKeyConstraint("epoch", "generation", name=op.f("pk_key_sharing")),
    )
    op.create_table(
        "key_holder",
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("share_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("holder", sa.String(length=32), nullable=False),
        sa.Column("organisation", sa.String(length=128), nullable=False),
        sa.Column("operator", sa.Boolean(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False),
        sa.Column("signing_key", sa.LargeBinary(32), nullable=False),
        sa.Column("url", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(
            ["epoch", "generation"],
            ["key_sharing.epoch", "key_sharing.generation"],
            name=op.f("fk_key_holder_epoch_generation_key_sharing"),
        ),
        sa.PrimaryKeyConstraint("epoch", "generation", "share_index", name=op.f("pk_key_holder")),
    )


def downgrade() -> None:
    connection = op.get_bind()
    if connection.execute(sa.text("SELECT count(*) FROM key_sharing")).scalar_one():
        raise RuntimeError("The key of this ledger is held by several holders, which the earlier schema cannot hold.")
    op.drop_table("key_holder")
    op.drop_table("key_sharing")
    with op.batch_alter_table("key_epoch") as table:
        table.alter_column("holder", existing_type=sa.String(length=32), nullable=False)
        table.drop_column("generation")
        table.drop_column("threshold")

"""Key epochs, snapshots, and budgets of blinded evaluation.

A subject and a listing have one row for each key epoch. Existing rows get the only epoch of the ledger, and existing
listings get the slot of their subject in the report.

Revision: 0002
After: 0001
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from ledger.protocol.encoding import unb64url
from ledger.protocol.tags import tag
from ledger.tlog.entries import parse_leaf

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_BATCH = 1000


def upgrade() -> None:
    op.create_table(
        "key_epoch",
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("holder", sa.String(length=32), nullable=False),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False),
        sa.Column("entry_index", BIG, nullable=False),
        sa.Column("switch_index", BIG, nullable=True),
        sa.Column("announced_at", TIME, nullable=False),
        sa.Column("grace_until", TIME, nullable=True),
        sa.Column("retired_at", TIME, nullable=True),
        sa.CheckConstraint("state IN ('next', 'current', 'previous', 'retired')", name=op.f("ck_key_epoch_state")),
        sa.PrimaryKeyConstraint("epoch", name=op.f("pk_key_epoch")),
    )
    op.create_table(
        "snapshot",
        sa.Column("version", sa.LargeBinary(16), nullable=False),
        sa.Column("status", sa.String(length=9), nullable=False),
        sa.Column("cut", BIG, nullable=False),
        sa.Column("as_of", TIME, nullable=False),
        sa.Column("not_after", TIME, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("policy", sa.Integer(), nullable=False),
        sa.Column("weights", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(32), nullable=True),
        sa.Column("manifest", sa.Text(), nullable=True),
        sa.Column("signature", sa.LargeBinary(64), nullable=True),
        sa.Column("entry_index", BIG, nullable=True),
        sa.Column("published_at", TIME, nullable=True),
        sa.CheckConstraint("status IN ('building', 'published')", name=op.f("ck_snapshot_status")),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_snapshot")),
        sa.UniqueConstraint("entry_index", name=op.f("uq_snapshot_entry_index")),
    )
    op.create_index(op.f("ix_snapshot_not_after"), "snapshot", ["not_after"], unique=False)
    op.create_table(
        "oprf_burst",
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("whole_at_us", BIG, nullable=False),
        sa.PrimaryKeyConstraint("platform", name=op.f("pk_oprf_burst")),
    )
    op.create_table(
        "oprf_grant",
        sa.Column("id", BIG, nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("elements", BIG, nullable=False),
        sa.Column("used", BIG, nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("granted_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.CheckConstraint("used BETWEEN 0 AND elements", name=op.f("ck_oprf_grant_used")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oprf_grant")),
    )
    op.create_index("ix_oprf_grant_platform_expires_at", "oprf_grant", ["platform", "expires_at"], unique=False)

    with op.batch_alter_table("subject") as batch:
        batch.drop_constraint(op.f("pk_subject"), type_="primary")
        batch.create_primary_key(op.f("pk_subject"), ["report_id", "slot", "epoch"])
    with op.batch_alter_table("listing") as batch:
        batch.add_column(sa.Column("slot", sa.SmallInteger(), nullable=True))
        batch.add_column(sa.Column("epoch", sa.Integer(), nullable=True))
    _fill_listings()
    with op.batch_alter_table("listing") as batch:
        batch.alter_column("slot", existing_type=sa.SmallInteger(), nullable=False)
        batch.alter_column("epoch", existing_type=sa.Integer(), nullable=False)
    _fill_epoch()


def _fill_listings() -> None:
    """Set each listing's slot and epoch to those of the subject with its tag."""
    connection = op.get_bind()
    subject = sa.table("subject", *map(sa.column, ("report_id", "slot", "epoch", "kind", "element")))
    listing = sa.table("listing", *map(sa.column, ("tag", "report_id", "slot", "epoch")))
    change = (
        sa.update(listing)
        .where(listing.c.tag == sa.bindparam("of_tag"), listing.c.report_id == sa.bindparam("of_report"))
        .values(slot=sa.bindparam("new_slot"), epoch=sa.bindparam("new_epoch"))
    )
    rows = connection.execute(
        sa.select(subject.c.report_id, subject.c.slot, subject.c.epoch, subject.c.kind, subject.c.element)
    ).all()
    for start in range(0, len(rows), _BATCH):
        connection.execute(
            change,
            [
                {"of_tag": tag(kind, bytes(element)), "of_report": report_id, "new_slot": slot, "new_epoch": epoch}
                for report_id, slot, epoch, kind, element in rows[start : start + _BATCH]
            ],
        )


def _fill_epoch() -> None:
    """Insert the ledger's only epoch as the log names it; an empty database has none."""
    connection = op.get_bind()
    entry = sa.table("log_entry", sa.column("entry_index"), sa.column("leaf"))
    governance = sa.table("governance_entry", sa.column("entry_index"), sa.column("sort"))
    row = connection.execute(
        sa.select(entry.c.entry_index, entry.c.leaf)
        .join(governance, governance.c.entry_index == entry.c.entry_index)
        .where(governance.c.sort == "key_rotation")
        .order_by(entry.c.entry_index.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return
    leaf = parse_leaf(bytes(row.leaf))
    assert leaf.body is not None
    holder = leaf.body["holders"][0]
    key_epoch = sa.table(
        "key_epoch",
        sa.column("epoch", sa.Integer()),
        sa.column("state", sa.String()),
        sa.column("holder", sa.String()),
        sa.column("public_key", sa.LargeBinary()),
        sa.column("entry_index", BIG),
        sa.column("switch_index", BIG),
        sa.column("announced_at", TIME),
    )
    announced: datetime = leaf.hour
    if connection.dialect.name == "sqlite":
        announced = announced.astimezone(UTC).replace(tzinfo=None)
    connection.execute(
        sa.insert(key_epoch).values(
            epoch=leaf.body["epoch"],
            state="current",
            holder=holder["id"],
            public_key=unb64url(holder["public_key"], 32),
            entry_index=row.entry_index,
            switch_index=row.entry_index,
            announced_at=announced,
        )
    )


def downgrade() -> None:
    """Downgrade, for a ledger that never rotated its key only: an older version knows one epoch."""
    connection = op.get_bind()
    epochs = connection.execute(sa.text("SELECT count(*) FROM key_epoch")).scalar_one()
    if epochs > 1:
        raise RuntimeError("this ledger has rotated its key; the older schema cannot hold that")
    with op.batch_alter_table("listing") as batch:
        batch.drop_column("epoch")
        batch.drop_column("slot")
    with op.batch_alter_table("subject") as batch:
        batch.drop_constraint(op.f("pk_subject"), type_="primary")
        batch.create_primary_key(op.f("pk_subject"), ["report_id", "slot"])
    op.drop_table("oprf_grant")
    op.drop_table("oprf_burst")
    op.drop_table("snapshot")
    op.drop_table("key_epoch")

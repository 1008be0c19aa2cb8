"""The first schema: record, openings, projections, members.

Revision: 0001
After: nothing
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "checkpoint",
        sa.Column("size", BIG, autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(32), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_checkpoint")),
    )
    op.create_table(
        "control_group",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("weight_twentieths", sa.SmallInteger(), nullable=False),
        sa.CheckConstraint("weight_twentieths BETWEEN 0 AND 20", name=op.f("ck_control_group_weight")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_control_group")),
    )
    op.create_table(
        "entry_body",
        sa.Column("entry_index", BIG, autoincrement=False, nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("salt", sa.LargeBinary(32), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("entry_index", name=op.f("pk_entry_body")),
    )
    op.create_table(
        "governance_entry",
        sa.Column("entry_index", BIG, autoincrement=False, nullable=False),
        sa.Column("sort", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("entry_index", name=op.f("pk_governance_entry")),
    )
    op.create_index("ix_governance_entry_sort", "governance_entry", ["sort", "entry_index"], unique=False)

    op.create_table(
        "id_block",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("next", BIG, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_id_block")),
    )
    op.create_table(
        "idempotency",
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_mac", sa.LargeBinary(32), nullable=False),
        sa.Column("report_id", BIG, nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("platform", "key", name=op.f("pk_idempotency")),
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"], unique=False)
    op.create_index("ix_idempotency_report_id", "idempotency", ["report_id"], unique=False)

    op.create_table(
        "listing",
        sa.Column("tag", sa.LargeBinary(32), nullable=False),
        sa.Column("report_id", BIG, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("act_id", BIG, nullable=False),
        sa.Column("control_group", sa.String(length=32), nullable=False),
        sa.Column("conduct", sa.String(length=32), nullable=False),
        sa.Column("amount_minor", BIG, nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("act_day", sa.Integer(), nullable=False),
        sa.Column("effective_hour", sa.Integer(), nullable=False),
        sa.Column("expires_day", sa.Integer(), nullable=False),
        sa.Column("disputed", sa.Boolean(), nullable=False),
        sa.Column("unconfirmed", sa.Boolean(), nullable=False),
        sa.Column("restituted", sa.Boolean(), nullable=False),
        sa.Column("has_statement", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("tag", "report_id", name=op.f("pk_listing")),
    )
    op.create_index("ix_listing_report_id", "listing", ["report_id"], unique=False)

    op.create_table(
        "log_entry",
        sa.Column("entry_index", BIG, autoincrement=False, nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("entry_index", name=op.f("pk_log_entry")),
    )
    op.create_table(
        "log_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", BIG, nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("frozen", sa.String(length=200), nullable=True),
        sa.CheckConstraint("id = 1", name=op.f("ck_log_head_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_head")),
    )
    op.create_table(
        "lookup_count",
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("clean", BIG, nullable=False),
        sa.Column("disclosed", BIG, nullable=False),
        sa.PrimaryKeyConstraint("platform", "day", name=op.f("pk_lookup_count")),
    )
    op.create_table(
        "lookup_log",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("order_ref", sa.LargeBinary(32), nullable=False),
        sa.Column("consent_ref", sa.String(length=128), nullable=True),
        sa.Column("claim", sa.String(length=16), nullable=True),
        sa.Column("tier", sa.String(length=8), nullable=False),
        sa.Column("as_of_index", BIG, nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lookup_log")),
    )
    op.create_index(op.f("ix_lookup_log_asked_at"), "lookup_log", ["asked_at"], unique=False)

    op.create_table(
        "lookup_tag",
        sa.Column("tag", sa.LargeBinary(32), nullable=False),
        sa.Column("lookup_id", BIG, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("tag", "lookup_id", name=op.f("pk_lookup_tag")),
    )
    op.create_index("ix_lookup_tag_lookup_id", "lookup_tag", ["lookup_id"], unique=False)

    op.create_table(
        "oprf_use",
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("elements", BIG, nullable=False),
        sa.PrimaryKeyConstraint("platform", "day", name=op.f("pk_oprf_use")),
    )
    op.create_table(
        "report",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("control_group", sa.String(length=32), nullable=False),
        sa.Column("order_ref", sa.LargeBinary(32), nullable=False),
        sa.Column("conduct", sa.String(length=32), nullable=False),
        sa.Column("amount_minor", BIG, nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("act_ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("notice_sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("effective_hour", sa.Integer(), nullable=False),
        sa.Column("expires_day", sa.Integer(), nullable=False),
        sa.Column("act_id", BIG, nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("replaces", BIG, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report")),
    )
    op.create_index(op.f("ix_report_expires_day"), "report", ["expires_day"], unique=False)
    op.create_index("ix_report_platform_id", "report", ["platform", "id"], unique=False)
    op.create_index(op.f("ix_report_replaces"), "report", ["replaces"], unique=False)
    op.create_index(
        "uq_report_live_order",
        "report",
        ["control_group", "order_ref"],
        unique=True,
        sqlite_where=sa.text("live"),
        postgresql_where=sa.text("live"),
    )

    op.create_table(
        "report_link",
        sa.Column("report_id", BIG, autoincrement=False, nullable=False),
        sa.Column("linked_id", BIG, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("report_id", "linked_id", name=op.f("pk_report_link")),
    )
    op.create_index("ix_report_link_linked_id", "report_link", ["linked_id"], unique=False)

    op.create_table(
        "restitution",
        sa.Column("report_id", BIG, autoincrement=False, nullable=False),
        sa.Column("entry_index", BIG, nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("report_id", name=op.f("pk_restitution")),
        sa.UniqueConstraint("entry_index", name=op.f("uq_restitution_entry_index")),
    )
    op.create_table(
        "reversal",
        sa.Column("report_id", BIG, autoincrement=False, nullable=False),
        sa.Column("entry_index", BIG, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("report_id", name=op.f("pk_reversal")),
        sa.UniqueConstraint("entry_index", name=op.f("uq_reversal_entry_index")),
    )
    op.create_table(
        "subject",
        sa.Column("report_id", BIG, autoincrement=False, nullable=False),
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("element", sa.LargeBinary(32), nullable=False),
        sa.Column("salt", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("report_id", "slot", name=op.f("pk_subject")),
    )
    op.create_table(
        "tile",
        sa.Column("level", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("tile_index", BIG, autoincrement=False, nullable=False),
        sa.Column("width", sa.SmallInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "tile_index", name=op.f("pk_tile")),
    )
    op.create_table(
        "platform",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("control_group", sa.String(length=32), nullable=False),
        sa.Column("profile", sa.String(length=2), nullable=False),
        sa.Column("scopes", sa.String(length=100), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("oprf_daily_quota_elements", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["control_group"], ["control_group.name"], name=op.f("fk_platform_control_group_control_group")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_platform")),
    )
    op.create_table(
        "platform_key",
        sa.Column("kid", sa.String(length=64), nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["platform"], ["platform.name"], name=op.f("fk_platform_key_platform_platform")),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_platform_key")),
        sa.UniqueConstraint("public_key", name=op.f("uq_platform_key_public_key")),
    )
    op.create_index(op.f("ix_platform_key_platform"), "platform_key", ["platform"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_platform_key_platform"), table_name="platform_key")

    op.drop_table("platform_key")
    op.drop_table("platform")
    op.drop_table("tile")
    op.drop_table("subject")
    op.drop_table("reversal")
    op.drop_table("restitution")
    op.drop_index("ix_report_link_linked_id", table_name="report_link")

    op.drop_table("report_link")
    op.drop_index(
        "uq_report_live_order", table_name="report", sqlite_where=sa.text("live"), postgresql_where=sa.text("live")
    )
    op.drop_index(op.f("ix_report_replaces"), table_name="report")
    op.drop_index("ix_report_platform_id", table_name="report")
    op.drop_index(op.f("ix_report_expires_day"), table_name="report")

    op.drop_table("report")
    op.drop_table("oprf_use")
    op.drop_index("ix_lookup_tag_lookup_id", table_name="lookup_tag")

    op.drop_table("lookup_tag")
    op.drop_index(op.f("ix_lookup_log_asked_at"), table_name="lookup_log")

    op.drop_table("lookup_log")
    op.drop_table("lookup_count")
    op.drop_table("log_head")
    op.drop_table("log_entry")
    op.drop_index("ix_listing_report_id", table_name="listing")

    op.drop_table("listing")
    op.drop_index("ix_idempotency_report_id", table_name="idempotency")
    op.drop_index("ix_idempotency_created_at", table_name="idempotency")

    op.drop_table("idempotency")
    op.drop_table("id_block")
    op.drop_index("ix_governance_entry_sort", table_name="governance_entry")

    op.drop_table("governance_entry")
    op.drop_table("entry_body")
    op.drop_table("control_group")
    op.drop_table("checkpoint")

"""Appeals: cases, what happens in them, files, statements, and consumers' sessions.

Revision: 0003
After: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "appeal_case",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("group_id", BIG, nullable=False),
        sa.Column("report_id", BIG, nullable=False),
        sa.Column("round", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("previous_outcome", sa.String(length=16), nullable=True),
        sa.Column("amended_conduct", sa.String(length=32), nullable=True),
        sa.Column("grounds", sa.String(length=16), nullable=False),
        sa.Column("profile", sa.String(length=2), nullable=False),
        sa.Column("locale", sa.String(length=8), nullable=False),
        sa.Column("filed_via", sa.String(length=32), nullable=False),
        sa.Column("filed_by_subject", sa.Boolean(), nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("control_group", sa.String(length=32), nullable=False),
        sa.Column("conduct", sa.String(length=32), nullable=False),
        sa.Column("severity", sa.SmallInteger(), nullable=False),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("extended", sa.Boolean(), nullable=False),
        sa.Column("overdue", sa.Boolean(), nullable=False),
        sa.Column("information_at", TIME, nullable=True),
        sa.Column("question_due_at", TIME, nullable=True),
        sa.Column("reviewer_id", BIG, nullable=True),
        sa.Column("proposer_id", BIG, nullable=True),
        sa.Column("proposed", sa.String(length=16), nullable=True),
        sa.Column("proposed_conduct", sa.String(length=32), nullable=True),
        sa.Column("unlinked_slots", sa.String(length=32), nullable=True),
        sa.Column("reasons", sa.Text(), nullable=True),
        sa.Column("decided_at", TIME, nullable=True),
        sa.Column("reopen_until", TIME, nullable=True),
        sa.Column("closed_at", TIME, nullable=True),
        sa.CheckConstraint(
            "state IN ('submitted', 'under_review', 'awaiting_reporter', 'awaiting_subject', 'awaiting_signoff', "
            "'decided', 'closed', 'withdrawn')",
            name=op.f("ck_appeal_case_state"),
        ),
        sa.CheckConstraint("round IN (1, 2)", name=op.f("ck_appeal_case_round")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_appeal_case")),
        sa.UniqueConstraint("report_id", name=op.f("uq_appeal_case_report_id")),
    )
    op.create_index("ix_appeal_case_filed_via_id", "appeal_case", ["filed_via", "id"], unique=False)
    op.create_index("ix_appeal_case_group_id", "appeal_case", ["group_id"], unique=False)
    op.create_index("ix_appeal_case_platform_id", "appeal_case", ["platform", "id"], unique=False)
    op.create_index("ix_appeal_case_state_due_at", "appeal_case", ["state", "due_at"], unique=False)

    op.create_table(
        "case_attachment",
        sa.Column("id", BIG, nullable=False),
        sa.Column("case_id", BIG, nullable=False),
        sa.Column("party", sa.String(length=8), nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=True),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("media_type", sa.String(length=32), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("width_px", sa.Integer(), nullable=True),
        sa.Column("height_px", sa.Integer(), nullable=True),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("file", sa.String(length=64), nullable=False),
        sa.Column("evidence_index", sa.SmallInteger(), nullable=True),
        sa.Column("added_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_attachment")),
        sa.UniqueConstraint("file", name=op.f("uq_case_attachment_file")),
    )
    op.create_index("ix_case_attachment_case_id", "case_attachment", ["case_id", "id"], unique=False)

    op.create_table(
        "case_entry",
        sa.Column("entry_index", BIG, autoincrement=False, nullable=False),
        sa.Column("report_id", BIG, nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("entry_index", name=op.f("pk_case_entry")),
    )
    op.create_index("ix_case_entry_report_id", "case_entry", ["report_id"], unique=False)

    op.create_table(
        "case_event",
        sa.Column("id", BIG, nullable=False),
        sa.Column("case_id", BIG, nullable=False),
        sa.Column("round", sa.SmallInteger(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("action", sa.String(length=20), nullable=False),
        sa.Column("actor", sa.String(length=10), nullable=False),
        sa.Column("staff_id", BIG, nullable=True),
        sa.Column("platform", sa.String(length=32), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("visible_to", sa.String(length=8), nullable=False),
        sa.Column("entry_index", BIG, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_event")),
    )
    op.create_index("ix_case_event_case_id", "case_event", ["case_id", "id"], unique=False)

    op.create_table(
        "case_handler",
        sa.Column("case_id", BIG, autoincrement=False, nullable=False),
        sa.Column("round", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("staff_id", BIG, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("case_id", "round", "staff_id", name=op.f("pk_case_handler")),
    )
    op.create_table(
        "case_outcome",
        sa.Column("report_id", BIG, autoincrement=False, nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("control_group", sa.String(length=32), nullable=False),
        sa.Column("counts_as", sa.String(length=10), nullable=False),
        sa.Column("decided_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("report_id", name=op.f("pk_case_outcome")),
    )
    op.create_index(
        "ix_case_outcome_control_group_decided_at", "case_outcome", ["control_group", "decided_at"], unique=False
    )

    op.create_table(
        "case_skip",
        sa.Column("case_id", BIG, autoincrement=False, nullable=False),
        sa.Column("staff_id", BIG, autoincrement=False, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("case_id", "staff_id", name=op.f("pk_case_skip")),
    )
    op.create_table(
        "case_tag",
        sa.Column("tag", sa.LargeBinary(32), nullable=False),
        sa.Column("report_id", BIG, autoincrement=False, nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tag", "report_id", name=op.f("pk_case_tag")),
    )
    op.create_index("ix_case_tag_report_id", "case_tag", ["report_id"], unique=False)

    op.create_table(
        "statement",
        sa.Column("report_id", BIG, autoincrement=False, nullable=False),
        sa.Column("revision", sa.SmallInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("locale", sa.String(length=8), nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("entry_index", BIG, nullable=False),
        sa.PrimaryKeyConstraint("report_id", name=op.f("pk_statement")),
    )
    op.create_table(
        "subject_session",
        sa.Column("id", BIG, nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("control_group", sa.String(length=32), nullable=False),
        sa.Column("profile", sa.String(length=2), nullable=False),
        sa.Column("locale", sa.String(length=8), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("subjects", sa.Text(), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("code_expires_at", TIME, nullable=False),
        sa.Column("token_hash", sa.LargeBinary(32), nullable=True),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subject_session")),
        sa.UniqueConstraint("code_hash", name=op.f("uq_subject_session_code_hash")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_subject_session_token_hash")),
    )
    op.create_index(
        "ix_subject_session_platform_created_at", "subject_session", ["platform", "created_at"], unique=False
    )


def downgrade() -> None:
    op.drop_table("subject_session")
    op.drop_table("statement")
    op.drop_table("case_tag")
    op.drop_table("case_skip")
    op.drop_table("case_outcome")
    op.drop_table("case_handler")
    op.drop_table("case_event")
    op.drop_table("case_entry")
    op.drop_table("case_attachment")
    op.drop_table("appeal_case")

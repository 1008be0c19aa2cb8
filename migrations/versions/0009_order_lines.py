"""Lines of orders: decisions about an order, and held reports.

Decisions are read from the cases themselves. Cases do not have the reports that were withdrawn while a case about them
was open: the migration reads these once from the timelines of the cases.

Revision: 0009
After: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BYTES32 = sa.LargeBinary(length=32)
TIME = sa.DateTime(timezone=True)

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

WITHDRAWN_UNDER_DISPUTE = """
INSERT INTO order_closure (control_group, order_ref, case_id)
SELECT report.control_group, report.order_ref, MIN(appeal_case.id)
FROM appeal_case
JOIN report ON report.id = appeal_case.report_id
JOIN reversal ON reversal.report_id = report.id AND reversal.kind IN ('withdrawal', 'replacement')
JOIN case_event AS gone ON gone.case_id = appeal_case.id AND gone.action = 'report_gone'
JOIN case_event AS before ON before.id = (
    SELECT MAX(earlier.id) FROM case_event AS earlier WHERE earlier.case_id = gone.case_id AND earlier.id < gone.id
)
WHERE before.state NOT IN ('decided', 'withdrawn', 'closed')
GROUP BY report.control_group, report.order_ref
"""


def upgrade() -> None:
    op.create_table(
        "order_closure",
        sa.Column("control_group", sa.String(length=32), nullable=False),
        sa.Column("order_ref", BYTES32, nullable=False),
        sa.Column("case_id", BIG, nullable=False),
        sa.PrimaryKeyConstraint("control_group", "order_ref", name=op.f("pk_order_closure")),
    )
    op.create_table(
        "held_report",
        sa.Column("report_id", BIG, autoincrement=False, nullable=False),
        sa.Column("control_group", sa.String(length=32), nullable=False),
        sa.Column("case_id", BIG, nullable=False),
        sa.Column("like_id", BIG, nullable=False),
        sa.Column("void_at", TIME, nullable=False),
        sa.Column("explanation", sa.Text(), nullable=True),
        sa.Column("explained_at", TIME, nullable=True),
        sa.Column("revision", sa.SmallInteger(), nullable=False),
        sa.Column("proposer_id", BIG, nullable=True),
        sa.Column("signer_id", BIG, nullable=True),
        sa.Column("reasons", sa.Text(), nullable=True),
        sa.Column("released_at", TIME, nullable=True),
        sa.Column("released_index", BIG, nullable=True),
        sa.Column("refused_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("report_id", name=op.f("pk_held_report")),
    )
    op.create_index("ix_held_report_void_at", "held_report", ["void_at"], unique=False)
    op.create_index("ix_held_report_released_index", "held_report", ["released_index"], unique=False)
    op.create_table(
        "report_mark",
        sa.Column("report_id", BIG, autoincrement=False, nullable=False),
        sa.Column("source_id", BIG, autoincrement=False, nullable=False),
        sa.Column("disputed", sa.Boolean(), nullable=False),
        sa.Column("unconfirmed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("report_id", "source_id", name=op.f("pk_report_mark")),
    )
    op.create_table(
        "case_concession",
        sa.Column("case_id", BIG, autoincrement=False, nullable=False),
        sa.Column("round", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("conduct", sa.String(length=32), nullable=False),
        sa.Column("severity", sa.Integer(), nullable=False),
        sa.Column("conceded_at", TIME, nullable=False),
        sa.Column("agreed_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("case_id", "round", name=op.f("pk_case_concession")),
    )
    op.create_table(
        "reopening_request",
        sa.Column("case_id", BIG, autoincrement=False, nullable=False),
        sa.Column("evidence_sha256", BYTES32, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("granted", sa.Boolean(), nullable=True),
        sa.Column("round", sa.SmallInteger(), nullable=True),
        sa.Column("staff_id", BIG, nullable=True),
        sa.Column("reasons", sa.Text(), nullable=True),
        sa.Column("decided_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_reopening_request")),
    )
    op.create_index("ix_reopening_request_granted", "reopening_request", ["granted", "requested_at"], unique=False)
    op.create_index("ix_report_control_group_order_ref", "report", ["control_group", "order_ref"], unique=False)
    with op.batch_alter_table("appeal_case") as table:
        table.add_column(sa.Column("reporter_round", sa.SmallInteger(), nullable=True))
        table.drop_constraint(op.f("ck_appeal_case_round"), type_="check")
        table.create_check_constraint(op.f("ck_appeal_case_round"), "round BETWEEN 1 AND 3")
    op.execute(WITHDRAWN_UNDER_DISPUTE)


def downgrade() -> None:
    with op.batch_alter_table("appeal_case") as table:
        table.drop_constraint(op.f("ck_appeal_case_round"), type_="check")
        table.create_check_constraint(op.f("ck_appeal_case_round"), "round IN (1, 2)")
        table.drop_column("reporter_round")
    op.drop_index("ix_report_control_group_order_ref", table_name="report")
    for name in ("reopening_request", "case_concession", "report_mark", "held_report", "order_closure"):
        op.drop_table(name)

"""Reports with a label that identified its file by former rules.

A label counts since this version only if it is signed under a trust list. Earlier reports keep their standing; their
reporter and supervisors see which of them have such a label. The migration reads this once from the bodies.

Revision: 0012
After: 0011
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CONDUCTS = ("ai_fabricated_image", "edited_image", "tampered_video")
CODES = frozenset({"aigc_generated", "c2pa_ai_generated"})
AT_ONCE = 1_000

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table = op.create_table(
        "former_label",
        sa.Column("report_id", BIG, autoincrement=False, nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("report_id", name=op.f("pk_former_label")),
    )
    op.create_index("ix_former_label_platform_report_id", "former_label", ["platform", "report_id"])
    connection = op.get_bind()
    last = -1
    while rows := _reports(connection, last):
        labelled = [{"report_id": report, "platform": platform} for report, platform, body in rows if _labelled(body)]
        if labelled:
            connection.execute(sa.insert(table), labelled)
        last = rows[-1][0]


def downgrade() -> None:
    op.drop_table("former_label")


def _reports(connection: sa.Connection, after: int) -> list[tuple[int, str, bytes]]:
    """Return the next reports whose minimum evidence may include a label, with their bodies."""
    report = sa.table("report", sa.column("id"), sa.column("platform"), sa.column("conduct"))
    body = sa.table("entry_body", sa.column("entry_index"), sa.column("body"))
    statement = (
        sa.select(report.c.id, report.c.platform, body.c.body)
        .join(body, body.c.entry_index == report.c.id)
        .where(report.c.id > after, report.c.conduct.in_(CONDUCTS))
        .order_by(report.c.id)
        .limit(AT_ONCE)
    )
    return [(row[0], row[1], bytes(row[2])) for row in connection.execute(statement)]


def _labelled(body: bytes) -> bool:
    return any(_identified(item) for item in json.loads(body)["body"]["evidence"])


def _identified(item: dict[str, Any]) -> bool:
    """True for the reports of `ledger.rules.conduct.formerly_identified`; no body of that time names a trust."""
    if item["type"] != "ai_label":
        return False
    if item.get("finding", {}).get("strength") == "identifies":
        return True
    return not CODES.isdisjoint(item.get("inspection", {}).get("findings", ()))

"""The texts of policies, by SHA-256.

An earlier ledger has one or more `policy` entries in the log and the texts in the program only, so the texts that the
log pins are inserted from the program. The log determines which of them is in effect.

Revision: 0015
After: 0014
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from ledger.protocol.encoding import b64url
from ledger.rules.policy.shipped import shipped_texts

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table = op.create_table(
        "policy_text",
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("expiries_cut_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_policy_text")),
    )
    leaves = op.get_bind().execute(
        sa.text(
            "SELECT leaf FROM log_entry JOIN governance_entry ON governance_entry.entry_index = log_entry.entry_index "
            "WHERE governance_entry.sort = 'policy'"
        )
    )
    logged = {json.loads(bytes(leaf))["body"]["toml_sha256"] for (leaf,) in leaves}
    rows = [{"sha256": digest, "text": text} for digest, text in shipped_texts().items() if b64url(digest) in logged]
    if rows:
        op.bulk_insert(table, rows)


def downgrade() -> None:
    op.drop_table("policy_text")

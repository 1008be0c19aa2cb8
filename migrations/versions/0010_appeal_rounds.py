"""Rounds of an appeal by the way they came, and failed attempts to file.

Revision: 0010
After: 0009
"""

from __future__ import annotations

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass

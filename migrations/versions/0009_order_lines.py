"""Lines of orders: what was decided about an order, and reports that are held.

Revision: 0009
After: 0008
"""

from __future__ import annotations

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass

"""The whole schema: importing this module makes every table known to `Base.metadata`."""

from __future__ import annotations

from ledger.server.db.base import Base
from ledger.server.db.tables import (
    appeals as appeal_tables,
)
from ledger.server.db.tables import (
    disclosures as disclosure_tables,
)
from ledger.server.db.tables import (
    evidence as evidence_tables,
)
from ledger.server.db.tables import (
    ledger as tables,
)
from ledger.server.db.tables import (
    orders as order_tables,
)
from ledger.server.db.tables import (
    pictures as picture_tables,
)
from ledger.server.db.tables import (
    policies as policy_tables,
)
from ledger.server.db.tables import (
    processes as process_tables,
)
from ledger.server.db.tables import (
    staff as staff_tables,
)
from ledger.server.db.tables import (
    stats as stats_tables,
)
from ledger.server.db.tables import (
    webhooks as webhook_tables,
)

__all__ = [
    "Base",
    "appeal_tables",
    "disclosure_tables",
    "evidence_tables",
    "order_tables",
    "picture_tables",
    "policy_tables",
    "process_tables",
    "staff_tables",
    "stats_tables",
    "tables",
    "webhook_tables",
]

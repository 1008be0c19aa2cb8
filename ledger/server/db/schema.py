"""The whole schema: importing this module adds every table to `Base.metadata`."""

from __future__ import annotations

from ledger.server.db.base import Base
from ledger.server.db.tables import (
    appeals,
    keys,
    log,
    lookups,
    oprf,
    orders,
    pictures,
    platforms,
    policies,
    processes,
    reports,
    snapshots,
    staff,
    stats,
    webhooks,
)

__all__ = [
    "Base",
    "appeals",
    "keys",
    "log",
    "lookups",
    "oprf",
    "orders",
    "pictures",
    "platforms",
    "policies",
    "processes",
    "reports",
    "snapshots",
    "staff",
    "stats",
    "webhooks",
]

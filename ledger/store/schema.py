"""The whole schema: importing this module makes every table known to `Base.metadata`."""

from __future__ import annotations

from ledger.store import (
    appeal_tables,
    disclosure_tables,
    evidence_tables,
    order_tables,
    picture_tables,
    policy_tables,
    process_tables,
    staff_tables,
    stats_tables,
    tables,
    webhook_tables,
)
from ledger.store.base import Base

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

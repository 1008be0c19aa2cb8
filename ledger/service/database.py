"""The ledger's database as the settings describe it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine

from ledger.settings import Settings
from ledger.store.engine import open_engine


def open_database(settings: Settings, **options: Any) -> Engine:
    """An engine with the timeouts and deadlines of `settings`, unless `options` (of `open_engine`) say otherwise.
    Connects to nothing yet. Raises ConfigurationError for a URL that names no database."""
    chosen: dict[str, Any] = {
        "lock_timeout_ms": settings.lock_timeout_ms,
        "statement_timeout_ms": settings.statement_timeout_ms,
        "read_deadline_ms": settings.read_deadline_ms,
        "write_deadline_ms": settings.write_deadline_ms,
        "connect_deadline_ms": settings.connect_deadline_ms,
        "pooler": settings.pooler,
    }
    return open_engine(settings.database_url, **{**chosen, **options})

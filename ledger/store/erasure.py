"""Queries of erasure: which reports are due, and deleting all that opens them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select

from ledger.store.tables import (
    EntryBody,
    Idempotency,
    Listing,
    Report,
    ReportLink,
    Restitution,
    Reversal,
    Subject,
)


def due(connection: Connection, last_day: int, limit: int) -> list[int]:
    """Reports that expired on or before `last_day` (days since the Unix epoch), oldest first."""
    statement = select(Report.id).where(Report.expires_day <= last_day).order_by(Report.expires_day, Report.id)
    return list(connection.scalars(statement.limit(limit)))


def erase(connection: Connection, ids: Sequence[int]) -> None:
    """Delete the reports and everything that opens their entries; `ids` are few (one transaction's worth)."""
    if not ids:
        return
    entries = list(ids)
    for model in (Reversal, Restitution):
        entries += connection.scalars(select(model.entry_index).where(model.report_id.in_(ids)))
    # A replacement reverses with its own entry: that one stays until the replacement itself is due.
    alive = set(connection.scalars(select(Report.id).where(Report.id.in_(entries), Report.id.not_in(ids))))
    connection.execute(delete(EntryBody).where(EntryBody.entry_index.in_([one for one in entries if one not in alive])))
    for table in (Subject, Listing, Idempotency, Reversal, Restitution, ReportLink):
        connection.execute(delete(table).where(table.report_id.in_(ids)))
    connection.execute(delete(Report).where(Report.id.in_(ids)))

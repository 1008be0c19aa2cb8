"""Queries on the policies: their entries in the log, their texts, and the recorded expiries that they shorten."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, func, select, update

from ledger.protocol.encoding import day_floor
from ledger.server.db.bulk import upsert
from ledger.server.db.tables.log import GovernanceEntry, LogEntry
from ledger.server.db.tables.policies import PolicyText
from ledger.server.db.tables.reports import Listing, Report


class StoredText(NamedTuple):
    """A policy's text, and the time when the recorded expiries were last shortened to its limits."""

    text: str
    expiries_cut_at: datetime | None


class Expiry(NamedTuple):
    """The values from which a report's expiry is computed: its conduct code and the day of its act (as listed, if it is
    listed), and the recorded day of expiry. Days are since the Unix epoch."""

    report_id: int
    conduct: str
    act_day: int
    expires_day: int


def policy_leaves(connection: Connection, type_: str, after: int = -1) -> list[bytes]:
    """Return the leaves of the log's entries of type `type_` with an index above `after`, oldest first."""
    rows = connection.execute(
        select(LogEntry.leaf)
        .join(GovernanceEntry, GovernanceEntry.entry_index == LogEntry.entry_index)
        .where(GovernanceEntry.sort == type_, GovernanceEntry.entry_index > after)
        .order_by(GovernanceEntry.entry_index)
    )
    return [bytes(leaf) for (leaf,) in rows]


def texts(connection: Connection) -> dict[bytes, StoredText]:
    """Return all stored texts by their SHA-256: one for each policy that was published."""
    rows = connection.execute(select(PolicyText.sha256, PolicyText.text, PolicyText.expiries_cut_at))
    return {bytes(digest): StoredText(text, cut_at) for digest, text, cut_at in rows}


def insert_text(connection: Connection, text: str) -> None:
    """Store a text under its SHA-256; one that is stored already stays unchanged."""
    values = {"sha256": hashlib.sha256(text.encode()).digest(), "text": text}
    statement = upsert(connection, PolicyText).values(**values)
    connection.execute(statement.on_conflict_do_nothing(index_elements=["sha256"]))


def mark_expiries_cut(connection: Connection, digest: bytes, now: datetime) -> None:
    """Record that the recorded expiries are no later than the policy of this SHA-256 allows."""
    connection.execute(update(PolicyText).where(PolicyText.sha256 == digest).values(expiries_cut_at=now))


def window(connection: Connection, after: int, reports: int) -> int | None:
    """Return the id of the last of the next `reports` reports beyond report `after`; None at the end."""
    ids = select(Report.id).where(Report.id > after).order_by(Report.id).limit(reports).subquery()
    last: int | None = connection.execute(select(func.max(ids.c.id))).scalar_one()
    return last


def expiries(connection: Connection, after: int, last: int, recorded_before: datetime | None) -> list[Expiry]:
    """Return the expiries of the reports with `after` < id <= `last`, if they were recorded before that time."""
    conduct = func.coalesce(Listing.conduct, Report.conduct)
    statement = (
        select(Report.id, conduct, Listing.act_day, Report.act_ended_at, Report.expires_day)
        .outerjoin(Listing, Listing.report_id == Report.id)
        .where(Report.id > after, Report.id <= last)
        .distinct()
    )
    if recorded_before is not None:
        statement = statement.where(Report.recorded_at < recorded_before)
    return [
        Expiry(report_id, conduct, day_floor(ended_at) if act_day is None else act_day, expires_day)
        for report_id, conduct, act_day, ended_at, expires_day in connection.execute(statement)
    ]


def shorten(connection: Connection, report_id: int, expires_day: int) -> None:
    """Set the expiry of a report, which would expire later, to `expires_day` (since the Unix epoch)."""
    connection.execute(update(Report).where(Report.id == report_id).values(expires_day=expires_day))
    connection.execute(update(Listing).where(Listing.report_id == report_id).values(expires_day=expires_day))

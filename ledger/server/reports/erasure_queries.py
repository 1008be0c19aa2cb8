"""Queries of erasure: which reports are due, and deleting all that opens them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, and_, delete, or_, select

from ledger.rules.appeals import OPEN_STATES
from ledger.server.appeals import attachments as attachments
from ledger.server.db.tables.appeals import (
    AppealCase,
    CaseAttachment,
    CaseEntry,
    CaseEvent,
    CaseHandler,
    CaseRound,
    CaseSkip,
    CaseTag,
    Statement,
)
from ledger.server.db.tables.log import EntryBody
from ledger.server.db.tables.orders import Concession, HeldReport, ReopeningRequest, ReportMark
from ledger.server.db.tables.reports import Idempotency, Listing, Report, ReportLink, Restitution, Reversal, Subject
from ledger.server.pictures import queries as pictures
from ledger.server.records import former_label_queries as former_labels
from ledger.server.records import order_line_queries as order_lines


def due(
    connection: Connection,
    last_day: int,
    longest: datetime,
    limit: int,
    *,
    after: tuple[int, int] | None = None,
    among: Sequence[int] | None = None,
) -> list[tuple[int, int]]:
    """Return (expiry day, id) of reports that expired on or before `last_day` (days since the Unix epoch), in this
    order, but not while a decision on their case is owed, unless the act ended by `longest`. At most `limit` beyond
    `after`, and only those `among` these ids if they are given."""
    open_case = select(AppealCase.id).where(
        AppealCase.report_id == Report.id, AppealCase.state.in_([state.value for state in OPEN_STATES])
    )
    statement = (
        select(Report.expires_day, Report.id)
        .where(Report.expires_day <= last_day, or_(~open_case.exists(), Report.act_ended_at <= longest))
        .order_by(Report.expires_day, Report.id)
    )
    if after is not None:
        day, number = after
        statement = statement.where(or_(Report.expires_day > day, and_(Report.expires_day == day, Report.id > number)))
    if among is not None:
        statement = statement.where(Report.id.in_(among))
    return [(day, number) for day, number in connection.execute(statement.limit(limit))]


def erase(connection: Connection, ids: Sequence[int]) -> list[str]:
    """Delete the reports, their appeals, and everything that opens their entries; `ids` are few (one transaction's
    worth). Returns the names of the attached files, which go when this is committed."""
    if not ids:
        return []
    entries = list(ids)
    for model in (Reversal, Restitution, CaseEntry):
        entries += connection.scalars(select(model.entry_index).where(model.report_id.in_(ids)))
    # A replacement reverses with its own entry: that one stays until the replacement itself is due.
    alive = set(connection.scalars(select(Report.id).where(Report.id.in_(entries), Report.id.not_in(ids))))
    due = [number for number in entries if number not in alive]
    connection.execute(delete(EntryBody).where(EntryBody.entry_index.in_(due)))
    order_lines.close_erased(connection, ids)
    files = [attachment.file for attachment in attachments.files_of_reports(connection, ids)]
    cases = list(connection.scalars(select(AppealCase.id).where(AppealCase.report_id.in_(ids))))
    for part in (CaseAttachment, CaseEvent, CaseHandler, CaseRound, CaseSkip, Concession, ReopeningRequest):
        connection.execute(delete(part).where(part.case_id.in_(cases)))
    for table in (
        Subject, Listing, Idempotency, Reversal, Restitution, ReportLink, CaseEntry, CaseTag, Statement, AppealCase,
        HeldReport, ReportMark,
    ):  # fmt: skip
        connection.execute(delete(table).where(table.report_id.in_(ids)))
    pictures.erase(connection, ids)
    former_labels.erase(connection, ids)
    connection.execute(delete(Report).where(Report.id.in_(ids)))
    return files

"""Queries on subjects that were recorded with an element in another spelling than its canonical one.

Of the spellings that RFC 9496 refuses, only those with bit 255 set ever came into the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, Connection, delete, func, literal, select, update
from sqlalchemy.types import LargeBinary

from ledger.server.db.bulk import chunks, upsert
from ledger.server.db.index_walks import last_report
from ledger.server.db.tables.appeals import CaseTag
from ledger.server.db.tables.reports import Listing, Report, Reversal, Subject


class ReportSubjectRow(NamedTuple):
    """A subject of a report under one epoch. (Rows of the driver with these members.)"""

    report_id: int
    slot: int
    epoch: int
    kind: str
    element: bytes


class ReportName(NamedTuple):
    """Which report it is and whose. (Rows of the driver with these members.)"""

    report_id: int
    platform: str
    recorded_at: datetime


def window(connection: Connection, after: int, rows: int) -> int | None:
    """Return the last report id of the next `rows` subjects beyond report `after`; None at the end."""
    return last_report(connection, Subject.report_id, after, rows)


def malformed_reports(connection: Connection, after: int, last: int) -> list[int]:
    """Return the reports `after` < id <= `last` that have a subject whose element has bit 255 set, under any epoch, by
    id. Reads all subjects of these reports."""
    query = select(Subject.report_id).where(Subject.report_id > after, Subject.report_id <= last, _bit_255())
    return sorted(set(connection.scalars(query)))


def names(connection: Connection, ids: Iterable[int]) -> list[ReportName]:
    """Return the reports `ids` with their platforms, by id."""
    reports: list[ReportName] = []
    for some in chunks(ids):
        rows = connection.execute(select(Report.id, Report.platform, Report.recorded_at).where(Report.id.in_(some)))
        reports.extend(ReportName(*row) for row in rows)
    return sorted(reports)


def taken_back(connection: Connection, reason: str) -> list[ReportName]:
    """Return the reports that were withdrawn for `reason` and are not erased yet, by id. Reads the table of
    reversals."""
    rows = connection.execute(
        select(Report.id, Report.platform, Report.recorded_at)
        .join(Reversal, Reversal.report_id == Report.id)
        .where(Reversal.reason == reason)
        .order_by(Report.id)
    )
    return [ReportName(*row) for row in rows]


def subjects_of(connection: Connection, ids: Iterable[int]) -> list[ReportSubjectRow]:
    """Return all subjects of the reports `ids`, under all epochs, in order."""
    subjects: list[ReportSubjectRow] = []
    columns = (Subject.report_id, Subject.slot, Subject.epoch, Subject.kind, Subject.element)
    for some in chunks(ids):
        subjects.extend(
            cast(
                "Sequence[ReportSubjectRow]",
                connection.execute(select(*columns).where(Subject.report_id.in_(some))).all(),
            )
        )
    return sorted(subjects)


def add_tags(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Let persons find reports {tag, report_id, slot, epoch} in their record although these are not listed any
    longer."""
    if rows:
        connection.execute(upsert(connection, CaseTag).on_conflict_do_nothing(), list(rows))


def respell(connection: Connection, row: ReportSubjectRow, element: bytes, tag: bytes) -> None:
    """Give a subject its element's canonical encoding, and its listing, where there still is one, the `tag` of that.

    A report that is listed under `tag` by another subject loses the second listing. The caller holds the log's head.
    """
    place = (Subject.report_id == row.report_id, Subject.slot == row.slot, Subject.epoch == row.epoch)
    connection.execute(update(Subject).where(*place).values(element=element))
    listing = (Listing.report_id == row.report_id, Listing.slot == row.slot, Listing.epoch == row.epoch)
    twice = select(Listing.tag).where(Listing.tag == tag, Listing.report_id == row.report_id)
    if connection.execute(twice).first() is not None:
        connection.execute(delete(Listing).where(*listing, Listing.tag != tag))
    else:
        connection.execute(update(Listing).where(*listing).values(tag=tag))


def _bit_255() -> ColumnElement[bool]:
    last = func.substr(Subject.element, 32, 1, type_=LargeBinary)
    return last >= literal(b"\x80", LargeBinary)

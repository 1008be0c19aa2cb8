"""Changes that appeals make to a report and its listings. The caller holds the log's head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, select, update

from ledger.server.db.bulk import upsert
from ledger.server.db.tables.orders import ReportMark
from ledger.server.db.tables.reports import Listing, Report, ReportLink, Subject


def set_marks(connection: Connection, report_id: int, *, disputed: bool, unconfirmed: bool) -> None:
    """Mark the report's listings, under all key epochs, and those of the live `account_farm` reports that rest on it: a
    report counts at most as much as the one it rests on."""
    _mark(connection, report_id, report_id, disputed, unconfirmed)


def given_marks(connection: Connection, report_id: int) -> tuple[bool, bool]:
    """Return the marks (disputed, unconfirmed) of an `account_farm` report from the reports it rests on and from its
    own appeal."""
    rows = connection.execute(
        select(ReportMark.disputed, ReportMark.unconfirmed).where(ReportMark.report_id == report_id)
    ).all()
    return any(row[0] for row in rows), any(row[1] for row in rows)


def pass_marks_on(connection: Connection, report_id: int, *, disputed: bool, unconfirmed: bool) -> None:
    """Mark the listings of the live `account_farm` reports that rest on this one, but not its own."""
    above = (
        select(ReportLink.report_id)
        .join(Report, Report.id == ReportLink.report_id)
        .where(ReportLink.linked_id == report_id, Report.live)
        .order_by(ReportLink.report_id)
    )
    for farm in list(connection.scalars(above)):
        _mark(connection, farm, report_id, disputed, unconfirmed)


def _mark(connection: Connection, report_id: int, source_id: int, disputed: bool, unconfirmed: bool) -> None:
    """Store the marks that the report has from `source_id`; its listings carry the marks of all sources."""
    rests = connection.scalars(select(ReportLink.linked_id).where(ReportLink.report_id == report_id).limit(1)).first()
    if rests is not None:
        marks = {"disputed": disputed, "unconfirmed": unconfirmed}
        statement = upsert(connection, ReportMark).values(report_id=report_id, source_id=source_id, **marks)
        connection.execute(statement.on_conflict_do_update(index_elements=["report_id", "source_id"], set_=marks))
        disputed, unconfirmed = given_marks(connection, report_id)
    connection.execute(
        update(Listing).where(Listing.report_id == report_id).values(disputed=disputed, unconfirmed=unconfirmed)
    )
    pass_marks_on(connection, report_id, disputed=disputed, unconfirmed=unconfirmed)


def set_statement_mark(connection: Connection, report_ids: Iterable[int]) -> None:
    """Mark the listings of these reports as having a statement of the person."""
    connection.execute(update(Listing).where(Listing.report_id.in_(list(report_ids))).values(has_statement=True))


def amend(connection: Connection, report_id: int, conduct: str, expires_day: int) -> None:
    """Show the report as `conduct` until `expires_day` (days since the Unix epoch), never longer than before."""
    connection.execute(
        update(Listing).where(Listing.report_id == report_id).values(conduct=conduct, expires_day=expires_day)
    )
    connection.execute(update(Report).where(Report.id == report_id).values(expires_day=expires_day))


def protect(connection: Connection, report_id: int, *, conduct: str, day: int, hour: int, expires_day: int) -> None:
    """Turn the listings into a protective note that keeps nothing of the old report."""
    connection.execute(
        update(Listing)
        .where(Listing.report_id == report_id)
        .values(
            conduct=conduct,
            act_id=report_id,
            act_day=day,
            effective_hour=hour,
            expires_day=expires_day,
            disputed=False,
            unconfirmed=False,
            restituted=False,
            has_statement=False,
        )
    )
    connection.execute(update(Report).where(Report.id == report_id).values(expires_day=expires_day))


def unlink(connection: Connection, report_id: int, slots: Sequence[int]) -> None:
    """Detach subjects: delete their elements, salts and listings under all key epochs."""
    for model in (Listing, Subject):
        connection.execute(delete(model).where(model.report_id == report_id, model.slot.in_(list(slots))))

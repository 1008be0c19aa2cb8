"""What appeals change of a report's listings, and of a report. The caller holds the log's head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, update

from ledger.store.tables import Listing, Report, Subject


def set_marks(connection: Connection, report_id: int, *, disputed: bool, unconfirmed: bool) -> None:
    """Mark the report's listings, under all key epochs."""
    connection.execute(
        update(Listing).where(Listing.report_id == report_id).values(disputed=disputed, unconfirmed=unconfirmed)
    )


def set_statement_mark(connection: Connection, report_ids: Iterable[int]) -> None:
    """The person's own statement goes with these reports."""
    connection.execute(update(Listing).where(Listing.report_id.in_(list(report_ids))).values(has_statement=True))


def amend(connection: Connection, report_id: int, conduct: str, expires_day: int) -> None:
    """The report is shown as `conduct`, until `expires_day` (days since the Unix epoch), never longer than before."""
    connection.execute(
        update(Listing).where(Listing.report_id == report_id).values(conduct=conduct, expires_day=expires_day)
    )
    connection.execute(update(Report).where(Report.id == report_id).values(expires_day=expires_day))


def protect(connection: Connection, report_id: int, *, conduct: str, day: int, hour: int, expires_day: int) -> None:
    """From now on the listings protect the person: nothing of the old report is left in them."""
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
    """Detach subjects: elements, salts and listings go, under all key epochs."""
    for model in (Listing, Subject):
        connection.execute(delete(model).where(model.report_id == report_id, model.slot.in_(list(slots))))

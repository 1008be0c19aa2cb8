"""Queries on reports and what hangs on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select, update

from ledger.errors import InvalidRequest, NotFound
from ledger.protocol.public_ids import decode_id
from ledger.rules.acts import ListedReport
from ledger.server.context import Context
from ledger.server.db.base import Base
from ledger.server.db.bulk import chunks
from ledger.server.db.tables.reports import Listing, Report, ReportLink, Restitution, Reversal
from ledger.server.platforms.members import Member

_NOT_YOURS = "You have no report of this id."


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A report as its rows say it. `reversal` and `restitution` are None while there is none."""

    id: int
    platform: str
    control_group: str
    order_ref: bytes
    conduct: str
    amount_minor: int
    currency: str
    outcome: str
    act_ended_at: datetime
    notice_sent_at: datetime
    recorded_at: datetime
    effective_hour: int
    expires_day: int
    act_id: int
    live: bool
    replaces: int | None


@dataclass(frozen=True, slots=True)
class ReversalRow:
    """What took a report back."""

    report_id: int
    entry_index: int
    kind: str
    reason: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class RestitutionRow:
    """That the full amount came back."""

    report_id: int
    entry_index: int
    received_at: datetime
    recorded_at: datetime


def _columns(model: type[Base], row: type[Any]) -> list[Any]:
    return [getattr(model, name) for name in row.__dataclass_fields__]


def reports_by_id(connection: Connection, ids: Iterable[int]) -> dict[int, ReportRow]:
    """Return reports by id."""
    reports: dict[int, ReportRow] = {}
    for some in chunks(ids):
        for row in connection.execute(select(*_columns(Report, ReportRow)).where(Report.id.in_(some))):
            reports[row[0]] = ReportRow(*row)
    return reports


def own_number(context: Context, report_id: str) -> int:
    """Return the number of the public id of a report. Raises NotFound for an id that is not of a report here."""
    try:
        return decode_id("rp", report_id, context.service)
    except InvalidRequest as error:
        raise NotFound(_NOT_YOURS) from error


def own_report(connection: Connection, member: Member, number: int) -> ReportRow:
    """Return a report of this platform. Raises NotFound for all others."""
    row = reports_by_id(connection, [number]).get(number)
    if row is None or row.platform != member.platform:
        raise NotFound(_NOT_YOURS)
    return row


def reversals(connection: Connection, ids: Iterable[int]) -> dict[int, ReversalRow]:
    """Return reversals by report id."""
    by_report: dict[int, ReversalRow] = {}
    for some in chunks(ids):
        for row in connection.execute(select(*_columns(Reversal, ReversalRow)).where(Reversal.report_id.in_(some))):
            by_report[row[0]] = ReversalRow(*row)
    return by_report


def restitutions(connection: Connection, ids: Iterable[int]) -> dict[int, RestitutionRow]:
    """Return restitutions by report id."""
    by_report: dict[int, RestitutionRow] = {}
    for some in chunks(ids):
        statement = select(*_columns(Restitution, RestitutionRow)).where(Restitution.report_id.in_(some))
        for row in connection.execute(statement):
            by_report[row[0]] = RestitutionRow(*row)
    return by_report


def replacements(connection: Connection, ids: Iterable[int]) -> dict[int, int]:
    """Return the report that replaced each of `ids`, where one did."""
    replaced_by: dict[int, int] = {}
    for some in chunks(ids):
        rows = connection.execute(select(Report.replaces, Report.id).where(Report.replaces.in_(some)))
        replaced_by.update({old: new for old, new in rows if old is not None})
    return replaced_by


def listed_reports(connection: Connection, tags: Iterable[bytes]) -> list[ListedReport]:
    """Return the live listings of any of `tags`."""
    listings: list[ListedReport] = []
    for some in chunks(tags):
        rows = connection.execute(select(*_columns(Listing, ListedReport)).where(Listing.tag.in_(some)))
        listings.extend(ListedReport(*row) for row in rows)
    return listings


def tags_of(connection: Connection, ids: Iterable[int]) -> dict[int, set[bytes]]:
    """Return listed tags by report id."""
    tags: dict[int, set[bytes]] = {}
    for some in chunks(ids):
        rows = connection.execute(select(Listing.report_id, Listing.tag).where(Listing.report_id.in_(some)))
        for report_id, tag in rows:
            tags.setdefault(report_id, set()).add(bytes(tag))
    return tags


def live_dependants(connection: Connection, ids: Iterable[int]) -> dict[int, list[ReportRow]]:
    """Return the live `account_farm` reports that rest on each of `ids`."""
    dependants: dict[int, list[ReportRow]] = {}
    for some in chunks(ids):
        rows = connection.execute(
            select(ReportLink.linked_id, *_columns(Report, ReportRow))
            .join(Report, Report.id == ReportLink.report_id)
            .where(ReportLink.linked_id.in_(some), Report.live)
            .order_by(Report.id)
        )
        for row in rows:
            dependants.setdefault(row[0], []).append(ReportRow(*row[1:]))
    return dependants


def unlist(connection: Connection, ids: Sequence[int], *, keep_listings: bool = False) -> None:
    """Record that reports are not live any longer: their order may be reported again, and no lookup shows them, unless
    their listings are kept because they protect the person now."""
    for some in chunks(ids):
        connection.execute(update(Report).where(Report.id.in_(some)).values(live=False))
        if not keep_listings:
            connection.execute(delete(Listing).where(Listing.report_id.in_(some)))


def mark_restituted(connection: Connection, ids: Sequence[int]) -> None:
    """Halve the points of these reports' listings."""
    for some in chunks(ids):
        connection.execute(update(Listing).where(Listing.report_id.in_(some)).values(restituted=True))


def page(
    connection: Connection, platform: str, *, limit: int, before_id: int | None, order_ref: bytes | None
) -> list[ReportRow]:
    """Return A platform's reports, newest first, older than `before_id`."""
    statement = select(*_columns(Report, ReportRow)).where(Report.platform == platform)
    if before_id is not None:
        statement = statement.where(Report.id < before_id)
    if order_ref is not None:
        statement = statement.where(Report.order_ref == order_ref)
    rows = connection.execute(statement.order_by(Report.id.desc()).limit(limit))
    return [ReportRow(*row) for row in rows]


def listing_flags(connection: Connection, ids: Iterable[int]) -> dict[int, tuple[bool, bool]]:
    """Return (disputed, unconfirmed) of live reports, by id."""
    flags: dict[int, tuple[bool, bool]] = {}
    for some in chunks(ids):
        rows = connection.execute(
            select(Listing.report_id, Listing.disputed, Listing.unconfirmed).where(Listing.report_id.in_(some))
        )
        flags.update({report_id: (disputed, unconfirmed) for report_id, disputed, unconfirmed in rows})
    return flags

"""Queries on reports and what hangs on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select, tuple_, update

from ledger.rules.acts import ListedReport
from ledger.server.db.base import Base
from ledger.server.db.tables.ledger import Idempotency, Listing, Report, ReportLink, Restitution, Reversal

_CHUNK = 500
"""Values in one IN list: well under SQLite's limit on variables, and few enough to plan quickly."""


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


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The remembered answer to an idempotent request."""

    request_mac: bytes
    status: int
    body: str
    created_at: datetime


def _columns(model: type[Base], row: type[Any]) -> list[Any]:
    return [getattr(model, name) for name in row.__dataclass_fields__]


def _chunks(values: Iterable[Any]) -> Iterable[list[Any]]:
    unique = list(dict.fromkeys(values))
    for start in range(0, len(unique), _CHUNK):
        yield unique[start : start + _CHUNK]


def _by_first(pairs: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    """The second members of `pairs` by the first."""
    found: dict[str, list[Any]] = {}
    for first, second in pairs:
        found.setdefault(first, []).append(second)
    return found


def reports_by_id(connection: Connection, ids: Iterable[int]) -> dict[int, ReportRow]:
    """Reports by id."""
    found: dict[int, ReportRow] = {}
    for some in _chunks(ids):
        for row in connection.execute(select(*_columns(Report, ReportRow)).where(Report.id.in_(some))):
            found[row[0]] = ReportRow(*row)
    return found


def reversals(connection: Connection, ids: Iterable[int]) -> dict[int, ReversalRow]:
    """Reversals by report id."""
    found: dict[int, ReversalRow] = {}
    for some in _chunks(ids):
        for row in connection.execute(select(*_columns(Reversal, ReversalRow)).where(Reversal.report_id.in_(some))):
            found[row[0]] = ReversalRow(*row)
    return found


def restitutions(connection: Connection, ids: Iterable[int]) -> dict[int, RestitutionRow]:
    """Restitutions by report id."""
    found: dict[int, RestitutionRow] = {}
    for some in _chunks(ids):
        statement = select(*_columns(Restitution, RestitutionRow)).where(Restitution.report_id.in_(some))
        for row in connection.execute(statement):
            found[row[0]] = RestitutionRow(*row)
    return found


def replacements(connection: Connection, ids: Iterable[int]) -> dict[int, int]:
    """The report that replaced each of `ids`, where one did."""
    found: dict[int, int] = {}
    for some in _chunks(ids):
        rows = connection.execute(select(Report.replaces, Report.id).where(Report.replaces.in_(some)))
        found.update({old: new for old, new in rows if old is not None})
    return found


def listed_reports(connection: Connection, tags: Iterable[bytes]) -> list[ListedReport]:
    """Live listings of any of `tags`."""
    found: list[ListedReport] = []
    for some in _chunks(tags):
        rows = connection.execute(select(*_columns(Listing, ListedReport)).where(Listing.tag.in_(some)))
        found.extend(ListedReport(*row) for row in rows)
    return found


def tags_of(connection: Connection, ids: Iterable[int]) -> dict[int, set[bytes]]:
    """Listed tags by report id."""
    found: dict[int, set[bytes]] = {}
    for some in _chunks(ids):
        rows = connection.execute(select(Listing.report_id, Listing.tag).where(Listing.report_id.in_(some)))
        for report_id, tag in rows:
            found.setdefault(report_id, set()).add(bytes(tag))
    return found


def live_dependants(connection: Connection, ids: Iterable[int]) -> dict[int, list[ReportRow]]:
    """Live `account_farm` reports that rest on each of `ids`."""
    found: dict[int, list[ReportRow]] = {}
    for some in _chunks(ids):
        rows = connection.execute(
            select(ReportLink.linked_id, *_columns(Report, ReportRow))
            .join(Report, Report.id == ReportLink.report_id)
            .where(ReportLink.linked_id.in_(some), Report.live)
            .order_by(Report.id)
        )
        for row in rows:
            found.setdefault(row[0], []).append(ReportRow(*row[1:]))
    return found


def stored_answers(connection: Connection, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], StoredAnswer]:
    """Remembered answers by (platform, key).

    One statement for each platform: the index begins with it, and SQLite reads a list of pairs by no index at all.
    """
    found: dict[tuple[str, str], StoredAnswer] = {}
    for platform, names in _by_first(keys).items():
        for some in _chunks(names):
            rows = connection.execute(
                select(
                    Idempotency.key,
                    Idempotency.request_mac,
                    Idempotency.status,
                    Idempotency.body,
                    Idempotency.created_at,
                ).where(Idempotency.platform == platform, Idempotency.key.in_(some))
            )
            for key, request_mac, status, body, created_at in rows:
                found[(platform, key)] = StoredAnswer(request_mac, status, body, created_at)
    return found


def forget_answers(connection: Connection, before: datetime, limit: int = 5_000) -> None:
    """Delete remembered answers older than `before`, at most `limit` of them."""
    old = select(Idempotency.platform, Idempotency.key).where(Idempotency.created_at < before).limit(limit).subquery()
    connection.execute(
        delete(Idempotency).where(tuple_(Idempotency.platform, Idempotency.key).in_(select(old.c.platform, old.c.key)))
    )


def drop_answers(connection: Connection, keys: Iterable[tuple[str, str]]) -> None:
    """Delete these remembered answers (expired ones whose key is used anew)."""
    for platform, names in _by_first(keys).items():
        for some in _chunks(names):
            connection.execute(delete(Idempotency).where(Idempotency.platform == platform, Idempotency.key.in_(some)))


def unlist(connection: Connection, ids: Sequence[int], *, keep_listings: bool = False) -> None:
    """Reports that no longer live: their order may be reported again, and no lookup shows them, unless their listings
    are kept because they protect the person now."""
    for some in _chunks(ids):
        connection.execute(update(Report).where(Report.id.in_(some)).values(live=False))
        if not keep_listings:
            connection.execute(delete(Listing).where(Listing.report_id.in_(some)))


def mark_restituted(connection: Connection, ids: Sequence[int]) -> None:
    """Halve the points of these reports' listings."""
    for some in _chunks(ids):
        connection.execute(update(Listing).where(Listing.report_id.in_(some)).values(restituted=True))


def page(
    connection: Connection, platform: str, *, limit: int, before_id: int | None, order_ref: bytes | None
) -> list[ReportRow]:
    """A platform's reports, newest first, older than `before_id`."""
    statement = select(*_columns(Report, ReportRow)).where(Report.platform == platform)
    if before_id is not None:
        statement = statement.where(Report.id < before_id)
    if order_ref is not None:
        statement = statement.where(Report.order_ref == order_ref)
    rows = connection.execute(statement.order_by(Report.id.desc()).limit(limit))
    return [ReportRow(*row) for row in rows]


def listing_flags(connection: Connection, ids: Iterable[int]) -> dict[int, tuple[bool, bool]]:
    """(disputed, unconfirmed) of live reports, by id."""
    found: dict[int, tuple[bool, bool]] = {}
    for some in _chunks(ids):
        rows = connection.execute(
            select(Listing.report_id, Listing.disputed, Listing.unconfirmed).where(Listing.report_id.in_(some))
        )
        found.update({report_id: (disputed, unconfirmed) for report_id, disputed, unconfirmed in rows})
    return found

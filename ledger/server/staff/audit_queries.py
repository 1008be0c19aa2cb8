"""Queries on the audit log. There is none that changes or deletes a row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, func, insert, or_, select

from ledger.server.db.tables.staff import StaffAccount, StaffEvent

DEVICE = "device"
"""Object type of rows about a browser that somebody has signed in with before."""

CASE_OBJECTS = frozenset({"appeal", "report"})
"""Object types whose rows are about a report of some control group, and name that group in `about_group`."""


@dataclass(frozen=True, slots=True)
class AuditEventRow:
    """One thing that somebody did. `staff_name` is None for the command line."""

    id: int
    at: datetime
    staff_id: int | None
    staff_name: str | None
    action: str
    object_type: str | None
    object_id: str | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which rows are wanted; None is any. `since` is included, `until` is not."""

    staff_name: str | None = None
    action: str | None = None
    object_type: str | None = None
    object_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def insert_event(
    connection: Connection,
    at: datetime,
    staff_id: int | None,
    action: str,
    object_type: str | None,
    object_id: str | None,
    detail: str | None,
    about_group: str | None,
) -> None:
    """Add a row."""
    connection.execute(
        insert(StaffEvent).values(
            at=at,
            staff_id=staff_id,
            action=action,
            object_type=object_type,
            object_id=object_id,
            detail=detail,
            about_group=about_group,
        )
    )


def read_events(
    connection: Connection,
    wanted: EventFilter,
    reader_group: str | None,
    limit: int,
    *,
    below: int | None = None,
    skip: int = 0,
) -> list[AuditEventRow]:
    """The newest `limit` rows that a reader of control group `reader_group` (None: of no group) is shown, newest first:
    those with an id below `below`, without the first `skip` of them."""
    query = (
        select(
            StaffEvent.id,
            StaffEvent.at,
            StaffEvent.staff_id,
            StaffAccount.name,
            StaffEvent.action,
            StaffEvent.object_type,
            StaffEvent.object_id,
            StaffEvent.detail,
        )
        .outerjoin(StaffAccount, StaffAccount.id == StaffEvent.staff_id)
        .where(*_shown_to(reader_group))
        .order_by(StaffEvent.id.desc())
        .limit(limit)
    )
    if skip:
        query = query.offset(skip)
    if below is not None:
        query = query.where(StaffEvent.id < below)
    if wanted.staff_name is not None:
        query = query.where(StaffAccount.name == wanted.staff_name)
    if wanted.action is not None:
        query = query.where(StaffEvent.action == wanted.action)
    if wanted.object_type is not None:
        query = query.where(StaffEvent.object_type == wanted.object_type)
    if wanted.object_id is not None:
        query = query.where(StaffEvent.object_id == wanted.object_id)
    if wanted.since is not None:
        query = query.where(StaffEvent.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(StaffEvent.at < wanted.until)
    return [AuditEventRow(*row) for row in connection.execute(query)]


def count_refusals(connection: Connection, device_id: str) -> int:
    """How many attempts to sign in with this device cookie were refused."""
    query = select(func.count()).where(
        StaffEvent.object_id == device_id, StaffEvent.object_type == DEVICE, StaffEvent.action == "login_refused"
    )
    return int(connection.execute(query).scalar_one())


def read_actions(connection: Connection, reader_group: str | None) -> list[str]:
    """Every action that occurs in the rows that a reader of this control group is shown, in order."""
    query = select(StaffEvent.action).where(*_shown_to(reader_group)).distinct().order_by(StaffEvent.action)
    return list(connection.execute(query).scalars())


def _shown_to(reader_group: str | None) -> list[ColumnElement[bool]]:
    """Rows about a report of the reader's own group are left out, and so are rows about cases whose group is not known,
    which an earlier version wrote."""
    if reader_group is None:
        return []
    elsewhere = or_(StaffEvent.object_type.is_(None), StaffEvent.object_type.not_in(sorted(CASE_OBJECTS)))
    return [or_(elsewhere, StaffEvent.about_group != reader_group)]

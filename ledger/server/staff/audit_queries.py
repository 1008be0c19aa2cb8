"""Queries on the audit log. No query changes or deletes a row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, func, insert, or_, select

from ledger.server.db.tables.staff import StaffAccount, StaffEvent

DEVICE = "device"
"""Object type of rows about a browser in which a member of staff has signed in before."""

CASE_OBJECTS = frozenset({"appeal", "report"})
"""Object types of rows about a report of a control group; these rows name the group in `about_group`."""


@dataclass(frozen=True, slots=True)
class AuditEventRow:
    """One action of a member of staff. `staff_name` is None for the command line."""

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
    """Conditions on rows; None matches every row. `since` is included, `until` is not."""

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
    event_filter: EventFilter,
    reader_group: str | None,
    limit: int,
    *,
    below: int | None = None,
    skip: int = 0,
) -> list[AuditEventRow]:
    """Return the newest `limit` rows that match the filter and that a reader of control group `reader_group` (None: of
    no group) may see, newest first: those with an id below `below`, without the first `skip` of them."""
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
    if event_filter.staff_name is not None:
        query = query.where(StaffAccount.name == event_filter.staff_name)
    if event_filter.action is not None:
        query = query.where(StaffEvent.action == event_filter.action)
    if event_filter.object_type is not None:
        query = query.where(StaffEvent.object_type == event_filter.object_type)
    if event_filter.object_id is not None:
        query = query.where(StaffEvent.object_id == event_filter.object_id)
    if event_filter.since is not None:
        query = query.where(StaffEvent.at >= event_filter.since)
    if event_filter.until is not None:
        query = query.where(StaffEvent.at < event_filter.until)
    return [AuditEventRow(*row) for row in connection.execute(query)]


def count_refusals(connection: Connection, device_id: str) -> int:
    """Return how many attempts to sign in with this device cookie were refused."""
    query = select(func.count()).where(
        StaffEvent.object_id == device_id, StaffEvent.object_type == DEVICE, StaffEvent.action == "login_refused"
    )
    return int(connection.execute(query).scalar_one())


def read_actions(connection: Connection, reader_group: str | None) -> list[str]:
    """Return every action that occurs in the rows that a reader of this control group may see, in order."""
    query = select(StaffEvent.action).where(*_shown_to(reader_group)).distinct().order_by(StaffEvent.action)
    return list(connection.execute(query).scalars())


def _shown_to(reader_group: str | None) -> list[ColumnElement[bool]]:
    """Return the condition that leaves out rows about reports of the reader's own group, and rows about cases whose
    group is not known, which an earlier version wrote."""
    if reader_group is None:
        return []
    elsewhere = or_(StaffEvent.object_type.is_(None), StaffEvent.object_type.not_in(sorted(CASE_OBJECTS)))
    return [or_(elsewhere, StaffEvent.about_group != reader_group)]

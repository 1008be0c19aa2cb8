"""Queries on the audit log. There is none that changes or deletes a row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from ledger.store.staff_tables import StaffAccount, StaffEvent


@dataclass(frozen=True, slots=True)
class EventRow:
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
) -> None:
    """Add a row."""
    connection.execute(
        insert(StaffEvent).values(
            at=at, staff_id=staff_id, action=action, object_type=object_type, object_id=object_id, detail=detail
        )
    )


def read_events(connection: Connection, wanted: EventFilter, before: int | None, limit: int) -> list[EventRow]:
    """The newest `limit` rows, of those with an id below `before`, newest first."""
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
        .order_by(StaffEvent.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(StaffEvent.id < before)
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
    return [EventRow(*row) for row in connection.execute(query)]


def read_actions(connection: Connection) -> list[str]:
    """Every action that occurs, in order."""
    return list(connection.execute(select(StaffEvent.action).distinct().order_by(StaffEvent.action)).scalars())

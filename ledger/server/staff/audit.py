"""The audit log: which member of staff did or read what, and when. Rows are only ever added.

Code that shows a subject's record to a member of staff calls `record` in the same transaction, so that no read happens
that is not logged. Details name things, never people: they contain no identifier, element, tag or statement.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from ledger.protocol.encoding import format_time
from ledger.server.db.engine import reading
from ledger.server.staff import audit_queries as store
from ledger.server.staff.audit_queries import AuditEventRow, EventFilter

__all__ = ["AuditEventRow", "EventFilter", "Page", "actions", "export_csv", "export_lines", "page", "record"]

PAGE_ROWS = 50
EXPORT_ROWS = 1000
"""Rows that an export reads at a time; it holds no transaction between them."""

COLUMNS = ("id", "at", "staff", "action", "object_type", "object_id", "detail")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""First characters of a cell that a spreadsheet would take for a formula, full-width forms included."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, newest first; `older` is the argument `before` of the next page (see `page`), None on the last page."""

    events: list[AuditEventRow]
    older: int | None


def record(
    connection: Connection,
    now: datetime,
    staff_id: int | None,
    action: str,
    object_type: str | None = None,
    object_id: str | None = None,
    detail: str | None = None,
    *,
    about_group: str | None = None,
) -> None:
    """Add a row in the caller's transaction.

    `staff_id` None is the command line. `object_id` is a public id of at most 32 characters. A `detail` of more than
    200 characters is cut. `about_group` is the control group whose report the row is about; staff of that group do not
    see the row. Raises ValueError for an object type of `store.CASE_OBJECTS` without `about_group`.
    """
    if object_type in store.CASE_OBJECTS and about_group is None:
        raise ValueError("A row about a case names the control group of the reporter.")
    text = detail[:200] if detail else None
    store.insert_event(connection, now, staff_id, action, object_type, object_id, text, about_group)


def page(
    engine: Engine,
    event_filter: EventFilter,
    reader_group: str | None,
    before: int | None = None,
    limit: int = PAGE_ROWS,
) -> Page:
    """Return the newest rows that match the filter, for a reader of the control group `reader_group` (None: of no
    group). Raises DatabaseUnavailable.

    `before` is the end of the page before (`Page.older`). It is an id for a reader of no group, else a number of rows,
    because gaps between ids would disclose how much was done in cases that the reader must not see.
    """
    with reading(engine) as connection:
        if reader_group is None:
            rows = store.read_events(connection, event_filter, None, limit + 1, below=before)
        else:
            rows = store.read_events(connection, event_filter, reader_group, limit + 1, skip=before or 0)
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], rows[limit - 1].id if reader_group is None else (before or 0) + limit)


def actions(engine: Engine, reader_group: str | None) -> list[str]:
    """Return every action that occurs in the rows that a reader of this control group may see, in order. Raises
    DatabaseUnavailable."""
    with reading(engine) as connection:
        return store.read_actions(connection, reader_group)


def export_csv(engine: Engine, event_filter: EventFilter, reader_group: str | None) -> Iterator[bytes]:
    """Yield the rows that a reader of this control group may see as CSV (RFC 4180, UTF-8), in pieces, newest first.

    A cell that a spreadsheet would run as a formula begins with an apostrophe. The column `id` is empty for a reader
    of a control group (see `page`). Raises DatabaseUnavailable.
    """
    yield (",".join(COLUMNS) + "\r\n").encode()
    for rows in _chunks(engine, event_filter, reader_group):
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerows([[_cell(value) for value in _values(row, reader_group)] for row in rows])
        yield text.getvalue().encode()


def export_lines(engine: Engine, event_filter: EventFilter, reader_group: str | None) -> Iterator[bytes]:
    """Yield the rows of `export_csv` as JSON, one object on each line, in pieces; `id` is null for a reader of a
    control group. Raises DatabaseUnavailable."""
    for rows in _chunks(engine, event_filter, reader_group):
        objects = (dict(zip(COLUMNS, _values(row, reader_group), strict=True)) for row in rows)
        yield "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in objects).encode()


def _chunks(engine: Engine, event_filter: EventFilter, reader_group: str | None) -> Iterator[list[AuditEventRow]]:
    before: int | None = None
    while True:
        chunk = page(engine, event_filter, reader_group, before, EXPORT_ROWS)
        if chunk.events:
            yield chunk.events
        if chunk.older is None:
            return
        before = chunk.older


def _values(row: AuditEventRow, reader_group: str | None) -> tuple[int | str | None, ...]:
    return (
        row.id if reader_group is None else None,
        format_time(row.at),
        row.staff_name,
        row.action,
        row.object_type,
        row.object_id,
        row.detail,
    )


def _cell(value: int | str | None) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text

"""The audit log: who of the staff did or saw what, when. Rows are only ever added.

Whoever shows a subject's record to a member of staff calls `record` in the same transaction, so that a read that was
not logged did not happen. Details name things, never people: no identifier, element, tag or statement goes in.
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
"""What makes a spreadsheet take a cell for a formula, full-width forms included."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, newest first; `older` is the `before` of the next page (see `page`), None on the last one."""

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

    `staff_id` None is the command line; `object_id` is a public id of at most 32 characters; a `detail` of more than
    200 characters is cut. `about_group` is the control group whose report the row is about: staff of that group are not
    shown the row. Raises ValueError where an object type of `store.CASE_OBJECTS` comes without it.
    """
    if object_type in store.CASE_OBJECTS and about_group is None:
        raise ValueError("A row about a case names the control group of the reporter.")
    text = detail[:200] if detail else None
    store.insert_event(connection, now, staff_id, action, object_type, object_id, text, about_group)


def page(
    engine: Engine, wanted: EventFilter, reader_group: str | None, before: int | None = None, limit: int = PAGE_ROWS
) -> Page:
    """The newest rows that fit `wanted`, for a reader of the control group `reader_group` (None: of no group).

    `before` is where the page before ended (`Page.older`): an id for a reader of no group, else a number of rows,
    because gaps between ids would tell how much was done in cases that the reader is not shown.
    """
    with reading(engine) as connection:
        if reader_group is None:
            rows = store.read_events(connection, wanted, None, limit + 1, below=before)
        else:
            rows = store.read_events(connection, wanted, reader_group, limit + 1, skip=before or 0)
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], rows[limit - 1].id if reader_group is None else (before or 0) + limit)


def actions(engine: Engine, reader_group: str | None) -> list[str]:
    """Every action that occurs in the rows that a reader of this control group is shown."""
    with reading(engine) as connection:
        return store.read_actions(connection, reader_group)


def export_csv(engine: Engine, wanted: EventFilter, reader_group: str | None) -> Iterator[bytes]:
    """The rows that a reader of this control group is shown, as CSV (RFC 4180, UTF-8), in pieces, newest first.

    A cell that a spreadsheet would run as a formula has an apostrophe in front. The column `id` is empty for a reader
    of a control group (see `page`).
    """
    yield (",".join(COLUMNS) + "\r\n").encode()
    for rows in _chunks(engine, wanted, reader_group):
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerows([[_cell(value) for value in _values(row, reader_group)] for row in rows])
        yield text.getvalue().encode()


def export_lines(engine: Engine, wanted: EventFilter, reader_group: str | None) -> Iterator[bytes]:
    """The same rows as JSON, one object a line, in pieces; `id` is null for a reader of a control group."""
    for rows in _chunks(engine, wanted, reader_group):
        objects = (dict(zip(COLUMNS, _values(row, reader_group), strict=True)) for row in rows)
        yield "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects).encode()


def _chunks(engine: Engine, wanted: EventFilter, reader_group: str | None) -> Iterator[list[AuditEventRow]]:
    before: int | None = None
    while True:
        found = page(engine, wanted, reader_group, before, EXPORT_ROWS)
        if found.events:
            yield found.events
        if found.older is None:
            return
        before = found.older


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

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

from ledger.core.encoding import format_time
from ledger.store import staff_events as store
from ledger.store.engine import reading
from ledger.store.staff_events import EventFilter, EventRow

__all__ = ["EventFilter", "EventRow", "Page", "actions", "export_csv", "export_lines", "page", "record"]

PAGE_ROWS = 50
EXPORT_ROWS = 1000
"""Rows that an export reads at a time; it holds no transaction between them."""

COLUMNS = ("id", "at", "staff", "action", "object_type", "object_id", "detail")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What makes a spreadsheet take a cell for a formula, full-width forms included."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, newest first; `older` is the `before` of the next page, None on the last one."""

    events: list[EventRow]
    older: int | None


def record(
    connection: Connection,
    now: datetime,
    staff_id: int | None,
    action: str,
    object_type: str | None = None,
    object_id: str | None = None,
    detail: str | None = None,
) -> None:
    """Add a row in the caller's transaction. `staff_id` None is the command line; `object_id` a public id (at most 32
    characters); a longer `detail` than 200 characters is cut."""
    store.insert_event(connection, now, staff_id, action, object_type, object_id, detail[:200] if detail else None)


def page(engine: Engine, wanted: EventFilter, before: int | None = None, limit: int = PAGE_ROWS) -> Page:
    """The newest rows that fit `wanted`, with ids below `before`."""
    with reading(engine) as connection:
        rows = store.read_events(connection, wanted, before, limit + 1)
    more = len(rows) > limit
    return Page(rows[:limit], rows[limit - 1].id if more else None)


def actions(engine: Engine) -> list[str]:
    """Every action that occurs."""
    with reading(engine) as connection:
        return store.read_actions(connection)


def export_csv(engine: Engine, wanted: EventFilter) -> Iterator[bytes]:
    """The rows as CSV (RFC 4180, UTF-8), in pieces, newest first. A cell that a spreadsheet would run as a formula has
    an apostrophe in front."""
    yield (",".join(COLUMNS) + "\r\n").encode()
    for rows in _chunks(engine, wanted):
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerows([[_cell(value) for value in _values(row)] for row in rows])
        yield text.getvalue().encode()


def export_lines(engine: Engine, wanted: EventFilter) -> Iterator[bytes]:
    """The rows as JSON, one object a line, in pieces, newest first."""
    for rows in _chunks(engine, wanted):
        objects = (dict(zip(COLUMNS, _values(row), strict=True)) for row in rows)
        yield "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects).encode()


def _chunks(engine: Engine, wanted: EventFilter) -> Iterator[list[EventRow]]:
    before: int | None = None
    while True:
        found = page(engine, wanted, before, EXPORT_ROWS)
        if found.events:
            yield found.events
        if found.older is None:
            return
        before = found.older


def _values(row: EventRow) -> tuple[int | str | None, ...]:
    return (
        row.id,
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

"""Walking large tables in pieces, each selected by an index.

Such queries read a small piece of tables that change faster than their statistics. Without these settings PostgreSQL
takes a table for small and reads all of it for each piece.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select, text
from sqlalchemy.orm import InstrumentedAttribute

_PLANS = ("seqscan", "bitmapscan", "nestloop", "hashjoin", "mergejoin", "sort")
_BY_INDEX, _BY_TABLE = (
    text("SELECT " + ", ".join([f"set_config('enable_{plan}', '{plan in used}', true)" for plan in _PLANS]))
    for used in (("nestloop",), ("seqscan", "hashjoin", "sort"))
)


def by_index(connection: Connection) -> None:
    """Make PostgreSQL use indexes until the end of the transaction. SQLite's planner needs no setting."""
    if connection.dialect.name == "postgresql":
        connection.execute(_BY_INDEX)


def by_table(connection: Connection) -> None:
    """Make PostgreSQL read whole tables until the end of the transaction. SQLite's planner needs no setting."""
    if connection.dialect.name == "postgresql":
        connection.execute(_BY_TABLE)


def last_report(connection: Connection, report_id: InstrumentedAttribute[int], after: int, rows: int) -> int | None:
    """Return the report id of the last of the next `rows` rows beyond report `after`, None if there are none.

    `report_id` is the column of the table that is walked, which has an index that starts with it."""
    by_index(connection)
    ids = select(report_id).where(report_id > after).order_by(report_id).limit(rows).subquery()
    last: int | None = connection.execute(select(func.max(ids.c[0]))).scalar_one()
    return last

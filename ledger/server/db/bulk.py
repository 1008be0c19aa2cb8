"""Inserting rows: many at once (arrays on PostgreSQL, executemany on SQLite), or only those that do not exist yet.

A transaction of the sequencer writes one to ten rows per report into half a dozen tables. On PostgreSQL the rows of
each table are sent as arrays, one per column, in one statement whose text is the same for any number of rows. COPY is
not faster (2,000 rows: 46 against 28 ms). It also causes harm when its client disappears without closing the
connection: the server then waits for the rest of the rows while it holds the lock on the log's head, and none of its
timeouts ends that wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, String, Table, insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.orm import DeclarativeBase

from ledger.server.db.base import Base
from ledger.server.db.types import Bytes32, UtcDateTime

Value = TypeVar("Value")

MAX_IN_LIST = 500
"""Values in one IN list: well under SQLite's limit on variables, and few enough for fast planning."""


def chunks(values: Iterable[Value]) -> list[list[Value]]:
    """Return the distinct `values` in order, in lists of at most `MAX_IN_LIST`."""
    distinct = list(dict.fromkeys(values))
    if len(distinct) <= MAX_IN_LIST:
        return [distinct] if distinct else []
    return [distinct[start : start + MAX_IN_LIST] for start in range(0, len(distinct), MAX_IN_LIST)]


def insert_rows(connection: Connection, model: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert `rows` into the table of `model`. All rows have the same keys, which are column names.

    Raises the errors of SQLAlchemy for a failed insert, on both engines.
    """
    if not rows:
        return
    if connection.dialect.name != "postgresql":
        connection.execute(insert(model), list(rows))
        return
    insert_together(connection, [(model, rows)])


def insert_together(connection: Connection, tables: Sequence[tuple[type[Base], Sequence[Mapping[str, Any]]]]) -> None:
    """Insert rows into several tables, each as `insert_rows` does; on PostgreSQL in one statement, which is one round
    trip. Each column is sent as one array, so the statement is the same for any number of rows.

    Raises the errors of SQLAlchemy for a failed insert.
    """
    present = [(model, rows) for model, rows in tables if rows]
    if connection.dialect.name != "postgresql" or not present:
        for model, rows in present:
            insert_rows(connection, model, rows)
        return
    statement, checks = _array_statement(tuple([(model, tuple(rows[0])) for model, rows in present]))
    columns = [(rows, name) for _, rows in present for name in rows[0]]
    values = [[_checked(row[name], check) for row in rows] for (rows, name), check in zip(columns, checks, strict=True)]
    connection.exec_driver_sql(statement, tuple(values))


@lru_cache(maxsize=64)
def _array_statement(tables: tuple[tuple[type[Base], tuple[str, ...]], ...]) -> tuple[str, list[Any]]:
    """Return one statement with an `INSERT ... SELECT FROM unnest(...)` for each table, and the types that check
    values."""
    inserts, checks = [], []
    for model, names in tables:
        table = table_of(model)
        types = [table.c[name].type for name in names]
        columns = ", ".join(f'"{name}"' for name in names)
        # A cast to varchar(n) would cut a text that is too long. A value of type text is refused by the insert.
        arrays = ", ".join(f"%b::{'text' if isinstance(kind, String) else kind.compile(_DIALECT)}[]" for kind in types)
        inserts.append(f'INSERT INTO "{table.name}" ({columns}) SELECT * FROM unnest({arrays})')
        checks += [kind if isinstance(kind, Bytes32 | UtcDateTime) else None for kind in types]
    *first, last = inserts
    before = ", ".join(f"i{place} AS ({statement})" for place, statement in enumerate(first))
    return (f"WITH {before} {last}" if first else last), checks


def upsert(connection: Connection, model: type[DeclarativeBase]) -> Any:
    """Return an `INSERT` into the table of `model` that supports `ON CONFLICT` on this engine. The syntax of both
    engines is the same; SQLAlchemy has a class for each."""
    return insert_of(connection.dialect.name, model)


def insert_of(dialect: str, model: type[DeclarativeBase]) -> Any:
    """Return the `INSERT` of `upsert` for the engine of this name, for statements that are made once."""
    table = table_of(model)
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def table_of(model: type[DeclarativeBase]) -> Table:
    """Return the `Table` object of a model."""
    table = model.__table__
    assert isinstance(table, Table)
    return table


def _checked(value: Any, kind: Any) -> Any:
    """Return `value` as its column type binds it. Arrays bypass SQLAlchemy's binding, so our own checks run here."""
    return value if kind is None else kind.process_bind_param(value, _DIALECT)


_DIALECT: Dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]

"""What a database does for the statements that the code really executes: each table that grows is read by an index.

`Captured` listens to an engine and keeps every statement with its parameters; `unindexed` asks the database for the
plan of each and names the statements that would read a growing table from end to end.

- PostgreSQL: the statistics say that each growing table has a million rows a page, in a transaction that is rolled
  back, and the planner plans for that size. A sequential scan is found, and so is an index scan whose condition does
  not hold the first column of its index: it walks the whole index, which is no better.
- SQLite: `EXPLAIN QUERY PLAN` says SEARCH for an index with a condition and SCAN for a walk through everything.

A statement without a condition that orders by an index and has a LIMIT ends after as many rows, and is left out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event

SMALL = frozenset(
    {
        "alembic_version",
        "control_group",
        "id_block",
        "key_epoch",
        "key_holder",  # a few for each sharing of the key
        "key_sharing",
        "log_head",
        "platform",
        "platform_key",
        "snapshot",  # the few that are not deleted yet
        "webhook_endpoint",
    }
)
"""Tables that do not grow with what is reported or looked up: one row, or a few for each member. All others must be
read by an index."""

_NEWEST = re.compile(r"\ASELECT [^()]*\sFROM \w+\s+ORDER BY [\w.]+( DESC)?\s+LIMIT \S+( OFFSET \S+)?\Z", re.DOTALL)
_VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")


class Captured:
    """Statements with the parameters of their first execution, by text."""

    def __init__(self) -> None:
        self.statements: dict[str, Any] = {}

    def __call__(
        self, connection: Connection, cursor: object, statement: str, parameters: Any, context: object, many: bool
    ) -> None:
        if statement.lstrip().upper().startswith(_VERBS) and not _NEWEST.search(statement):
            self.statements.setdefault(statement, parameters[0] if many else parameters)


@contextmanager
def capturing(engine: Engine) -> Iterator[Captured]:
    """Keep what is executed on `engine` inside the block, by any thread."""
    captured = Captured()
    event.listen(engine, "before_cursor_execute", captured)
    try:
        yield captured
    finally:
        event.remove(engine, "before_cursor_execute", captured)


def unindexed(engine: Engine, captured: Captured) -> list[str]:
    """One line for each read of a growing table that no index serves: the step of the plan, and the statement.

    PostgreSQL is asked again about what was found: its own upkeep may resize a table between two questions. What lacks
    an index is found each time.
    """
    results: list[str] = []
    for _ in range(3 if engine.dialect.name == "postgresql" else 1):
        results = _unindexed(engine, captured)
        if not results:
            break
        time.sleep(0.3)
    return results


def _unindexed(engine: Engine, captured: Captured) -> list[str]:
    results: list[str] = []
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            _enlarge(connection)
        judge = _postgresql if engine.dialect.name == "postgresql" else _sqlite
        for statement, parameters in captured.statements.items():
            results += [f"{step}: {statement}" for step in judge(connection, statement, parameters)]
        connection.rollback()
    return results


def _sqlite(connection: Connection, statement: str, parameters: Any) -> list[str]:
    names = {name.lower(): name for name in _aliases(statement)}
    results = []
    for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
        step = str(row[3])
        whole = re.match(r"SCAN (\w+)", step)
        # "ANY(column)" is a skip scan: it walks the values of a first column that the statement does not name.
        if whole is not None or "ANY(" in step:
            name = step.split()[1]
            if names.get(name.lower(), name) not in SMALL and not _made_here(name, statement):
                results.append(step)
    return results


def _aliases(statement: str) -> dict[str, str]:
    """Alias -> table, of `FROM table AS alias`."""
    return {alias: table for table, alias in re.findall(r'\b"?(\w+)"? AS "?(\w+)"?', statement)}


def _made_here(name: str, statement: str) -> bool:
    """Whether `name` is an expression of the statement itself (a subquery, a list of values), whose own parts are
    steps of their own."""
    return (
        name.isdigit()
        or re.search(rf"\bAS {name}\b|\b{name} AS \(|\({name}\)", statement) is not None
        or name
        in (
            "CONSTANT",
            "json_each",
        )
    )


def _postgresql(connection: Connection, statement: str, parameters: Any) -> list[str]:
    first = _first_columns(connection)
    results = []
    for seqscan in ("on", "off"):
        connection.exec_driver_sql(f"SET LOCAL enable_seqscan = {seqscan}")
        (row,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).one()
        for node in _nodes(row[0]["Plan"]):
            index = node.get("Index Name")
            table = first[index][0] if index is not None else node.get("Relation Name")
            if table is None or table in SMALL or _empty(connection, table) is (seqscan == "on"):
                continue
            if index is None and "Seq Scan" in node["Node Type"]:
                results.append(f"Seq Scan on {table}")
            elif (
                index is not None
                and seqscan == "on"
                and not re.search(rf"\b{first[index][1]}\b", str(node.get("Index Cond", "")))
            ):
                results.append(f"{node['Node Type']} using {index} without its first column")
    return results


def _empty(connection: Connection, table: str) -> bool:
    """Whether a table has no page, so that no statistics make the planner believe in rows. With `enable_seqscan = off`
    its plan shows if there is any index for the statement."""
    return bool(connection.exec_driver_sql(f"SELECT pg_relation_size('\"{table}\"') = 0").scalar_one())


def _enlarge(connection: Connection) -> None:
    """Make the planner believe in a million rows a page of every growing table and its indexes, and forget what it
    gathered of their values."""
    connection.exec_driver_sql("DELETE FROM pg_statistic")
    connection.exec_driver_sql(
        "UPDATE pg_class c SET relpages = 1, reltuples = 1e6 FROM pg_class t LEFT JOIN pg_index x ON x.indrelid = t.oid"
        " WHERE (c.oid = t.oid OR c.oid = x.indexrelid) AND t.relnamespace = 'public'::regnamespace"
        " AND t.relkind = 'r' AND t.relname <> ALL (%(small)s)",
        {"small": sorted(SMALL)},
    )


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _first_columns(connection: Connection) -> dict[str, tuple[str, str]]:
    """(table, first column) of each index."""
    rows = connection.exec_driver_sql(
        "SELECT i.relname, t.relname, a.attname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid"
        " JOIN pg_class t ON t.oid = x.indrelid"
        " JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]"
        " WHERE t.relnamespace = 'public'::regnamespace"
    )
    return {index: (table, column) for index, table, column in rows}

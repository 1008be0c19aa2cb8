"""Which errors of PostgreSQL and SQLite mean that the database is away, and which that a statement is wrong."""

from __future__ import annotations

import sqlite3

import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ledger.server.db.outages import DatabaseVerdict, is_outage, verdict

FAULT, OUTAGE, LOST = DatabaseVerdict.FAULT, DatabaseVerdict.OUTAGE, DatabaseVerdict.LOST
TABLE = {
    "08000": LOST,  # connection exception
    "08003": LOST,  # connection does not exist
    "08006": LOST,  # connection failure
    "08P01": LOST,  # protocol violation: PgBouncer's own errors
    "53000": OUTAGE,  # insufficient resources
    "53100": OUTAGE,  # disk full
    "53200": OUTAGE,  # out of memory
    "53300": OUTAGE,  # too many connections
    "55P03": OUTAGE,  # lock not available
    "57014": OUTAGE,  # statement timeout
    "57P01": LOST,  # admin shutdown
    "57P02": LOST,  # crash shutdown
    "57P03": LOST,  # cannot connect now
    "57P05": LOST,  # idle session timeout
    "58000": OUTAGE,  # system error
    "58030": OUTAGE,  # I/O error
    "25006": LOST,  # read-only transaction
    "25P03": LOST,  # idle in transaction for too long
    "25P04": LOST,  # transaction timeout
    "40001": OUTAGE,  # serialization failure
    "40P01": OUTAGE,  # deadlock
    None: OUTAGE,  # the driver's own: refused, lost, not answered
    "0A000": FAULT,  # not supported
    "22001": FAULT,  # too long
    "23505": FAULT,  # unique violation
    "25001": FAULT,  # active transaction
    "25P02": FAULT,  # in a failed transaction
    "26000": FAULT,  # no such prepared statement
    "28P01": FAULT,  # wrong password
    "3D000": FAULT,  # no such database
    "42501": FAULT,  # no privilege
    "42P01": FAULT,  # no such table
    "42601": FAULT,  # syntax error
    "54000": FAULT,  # a program's limit
    "54001": FAULT,  # statement too complex
    "55000": FAULT,  # not in the state for it
    "XX000": FAULT,  # internal error
    "XX001": FAULT,  # data corrupted
}


@pytest.mark.parametrize(("sqlstate", "expected"), TABLE.items())
def test_sqlstates(sqlstate: str | None, expected: DatabaseVerdict) -> None:
    assert verdict(sqlstate) is expected
    if sqlstate is not None and sqlstate != "25006":
        wrapped = DBAPIError.instance("SELECT 1", None, errors.lookup(sqlstate)("words"), Exception)
        assert is_outage(wrapped) is (expected is not FAULT)


@pytest.mark.parametrize("sqlstate", ["0A000", "25001", "25006", "55000"])
def test_what_a_standby_refuses_is_no_fault_of_the_statement(sqlstate: str) -> None:
    assert verdict(sqlstate, read_only_server=True, asked_to_read=True) is LOST


@pytest.mark.parametrize("sqlstate", ["23505", "42P01", "XX000"])
def test_a_wrong_statement_is_wrong_on_a_standby_too(sqlstate: str) -> None:
    assert verdict(sqlstate, read_only_server=True) is FAULT


def test_a_write_in_a_transaction_that_was_begun_to_read_is_a_fault() -> None:
    assert verdict("25006", asked_to_read=True) is FAULT


def test_a_pool_that_gives_no_connection_is_an_outage() -> None:
    assert is_outage(PoolTimeout("QueuePool limit"))
    assert not is_outage(ValueError("x"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SQLITE_BUSY", True),
        ("SQLITE_BUSY_SNAPSHOT", True),
        ("SQLITE_FULL", True),
        ("SQLITE_IOERR_WRITE", True),
        ("SQLITE_READONLY", True),
        ("SQLITE_READONLY_DBMOVED", True),
        ("SQLITE_CANTOPEN", True),
        ("SQLITE_ERROR", False),
        ("SQLITE_CONSTRAINT_UNIQUE", False),
        ("SQLITE_CORRUPT", False),
    ],
)
def test_sqlite_s_result_codes(name: str, expected: bool) -> None:
    error = sqlite3.OperationalError("words")
    error.sqlite_errorname = name
    assert is_outage(OperationalError("SELECT 1", None, error)) is expected

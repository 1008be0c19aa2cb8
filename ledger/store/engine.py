"""Engines and transactions for SQLite and PostgreSQL.

SQLite: WAL, synchronous=FULL, foreign keys on; a transaction that writes begins IMMEDIATE, so that a reader never
has to become a writer half-way (which SQLite answers with "database is locked" whatever the timeout). The driver's own
transaction handling is switched off (`isolation_level=None`), because it does not open a transaction before a
SAVEPOINT and so would not roll back to it.

PostgreSQL: lock, statement and idle-in-transaction timeouts on every connection, and `synchronous_commit` on: an
acknowledged report is on disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ledger.errors import ConfigurationError, DatabaseUnavailable

BUSY_TIMEOUT_MS = 10_000
"""How long a SQLite connection waits for another process's write."""


def open_engine(
    url: str,
    *,
    lock_timeout_ms: int = 5_000,
    statement_timeout_ms: int = 30_000,
    idle_timeout_ms: int = 60_000,
    pool_size: int = 10,
) -> Engine:
    """An engine for `url`, with the pragmas or timeouts of the module's docstring."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ConfigurationError("The database must be a file: SQLite in memory would lose acknowledged reports.")
        create_private(Path(parsed.database))
        engine = create_engine(
            url,
            hide_parameters=True,  # an error message must never carry an element or a tag
            pool_size=pool_size,
            max_overflow=10,
            connect_args={"check_same_thread": False},
        )
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", _sqlite_begin)
        return engine
    if parsed.get_backend_name() == "postgresql":
        options = (
            f"-c lock_timeout={lock_timeout_ms} -c statement_timeout={statement_timeout_ms}"
            f" -c idle_in_transaction_session_timeout={idle_timeout_ms} -c timezone=UTC"
        )
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            hide_parameters=True,
            pool_size=pool_size,
            max_overflow=10,
            pool_timeout=5,
            connect_args={"options": options, "connect_timeout": 5, "application_name": "refund-ledger"},
        )
    raise ConfigurationError("The database must be SQLite or PostgreSQL.")


def create_private(path: Path) -> None:
    """Make an SQLite file that only its owner may read, unless it exists: it will hold elements and salts. (The files
    that SQLite puts beside it, -wal and -shm, get the same mode.)"""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _sqlite_connect(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",  # what is erased must not stay readable in free pages
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes; commits on success, rolls back on any error.

    Raises DatabaseUnavailable when the database cannot be reached, is locked for too long, or cut the connection.
    """
    with _translated(), engine.connect().execution_options(sqlite_begin="IMMEDIATE") as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads. Raises DatabaseUnavailable as `writing` does."""
    with _translated(), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def snapshot_reading(engine: Engine) -> Iterator[Connection]:
    """As `reading`, and everything that is read is of one moment: that of the first statement.

    (PostgreSQL: REPEATABLE READ. On SQLite every transaction is like that.)
    """
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with reading(engine) as connection:
        yield connection


def lock_table(connection: Connection, name: str) -> None:
    """Let no other transaction write to the table `name` until this one ends; reading goes on. For rules about a whole
    table (at most so many rows), which READ COMMITTED does not keep by itself.

    (On SQLite a transaction of `writing` is the only one that writes.)
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f'LOCK TABLE "{name}" IN SHARE ROW EXCLUSIVE MODE')


@contextmanager
def connected(engine: Engine) -> Iterator[Connection]:
    """A connection for `transaction`s one after the other. Raises DatabaseUnavailable as `writing` does."""
    with _translated(), engine.connect() as connection:
        yield connection


@contextmanager
def transaction(connection: Connection, *, writes: bool) -> Iterator[None]:
    """A transaction on `connection`, as `writing` or `reading` would begin it."""
    connection.execution_options(sqlite_begin="IMMEDIATE" if writes else "DEFERRED")
    with connection.begin():
        yield


def by_statement(engine: Engine) -> Engine:
    """`engine` for transactions of one statement each: on PostgreSQL a statement is a transaction by itself, without
    the round trips of BEGIN and COMMIT. On SQLite, which has none to save, it is `engine`."""
    return engine.execution_options(isolation_level="AUTOCOMMIT") if engine.dialect.name == "postgresql" else engine


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        if is_outage(error):
            raise DatabaseUnavailable("The database cannot be reached. Try again.", retry_after_seconds=1) from error
        raise


_SQLITE_OUTAGES = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_READONLY")


def is_outage(error: BaseException) -> bool:
    """Whether `error` means "try again later" rather than "this statement is wrong".

    psycopg's OperationalError is just that: connection lost or refused, timeouts, deadlocks, shutdown. SQLite calls
    every failure operational, also a wrong statement, so its result code decides.
    """
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    name = getattr(error.orig, "sqlite_errorname", None)
    if name is not None:
        return str(name).startswith(_SQLITE_OUTAGES)
    return isinstance(error, OperationalError | InterfaceError)

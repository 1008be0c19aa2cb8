"""Engines and transactions for SQLite and PostgreSQL.

SQLite: WAL, synchronous=FULL, foreign keys on. A transaction that writes begins IMMEDIATE, so that a reader never has
to become a writer in the middle (SQLite answers that with "database is locked" whatever the timeout). The driver's own
transaction handling is switched off (`isolation_level=None`), because it does not open a transaction before a SAVEPOINT
and so would not roll back to it.

PostgreSQL: the server enforces lock, statement and idle-in-transaction timeouts; the client enforces deadlines for the
case that the server does not answer at all (`ledger.server.db.pg_connection`). `synchronous_commit` is on: an
acknowledged report is on disk. Several hosts may be named (`ledger.server.db.database_url`); the host that accepts
writes is used.

A connection that was cut, or that leads to a server that accepts no writes, is dropped together with all older
connections of its pool, so that the next transaction gets a new one. `ledger.server.db.outages` says which errors mean
that. Idle connections are checked before they are used, without a query to the server. A transaction that only reads
may be repeated once (`read_again`). A transaction that writes is never repeated: only the caller can find out whether
its COMMIT was executed.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, PendingRollbackError, SQLAlchemyError

from ledger.errors import DatabaseUnavailable
from ledger.server.db.database_url import PostgresqlPlace, parse_database_url
from ledger.server.db.outages import DatabaseVerdict, is_outage, verdict

__all__ = [
    "answers_within",
    "by_statement",
    "connected",
    "create_private",
    "is_outage",
    "lock_table",
    "open_engine",
    "read_again",
    "reading",
    "reading_first",
    "snapshot_reading",
    "take_time",
    "transaction",
    "within",
    "writing",
]

BUSY_TIMEOUT_MS = 10_000
"""How long a SQLite connection waits for another process's write."""


ANSWER_MARGIN_MS = 5_000
"""How much longer a client waits for an answer than the server's statement timeout allows."""

LONG_READING_SECONDS = 20.0
"""The minimum time for which a long reading waits before it may be cut because a short reading got no answer."""

T = TypeVar("T")


def open_engine(
    url: str,
    *,
    lock_timeout_ms: int = 5_000,
    statement_timeout_ms: int = 30_000,
    idle_timeout_ms: int = 30_000,
    read_deadline_ms: int = 1_500,
    write_deadline_ms: int = 6_000,
    connect_deadline_ms: int = 3_000,
    pool_size: int = 10,
    pooler: str = "auto",
) -> Engine:
    """Return an engine for `url`, with the pragmas, timeouts and deadlines of the module docstring. Does not connect
    yet.

    `pooler` is "auto", or "transaction" for a pooler of PostgreSQL that cannot be recognised. Raises ConfigurationError
    for a URL that names no database.
    """
    place = parse_database_url(url)
    if isinstance(place, PostgresqlPlace):
        return _postgresql(
            place,
            timeouts_ms=(lock_timeout_ms, statement_timeout_ms, idle_timeout_ms),
            read_deadline_ms=read_deadline_ms,
            write_deadline_ms=write_deadline_ms,
            connect_deadline_ms=connect_deadline_ms,
            pool_size=pool_size,
            pooled=pooler == "transaction",
        )
    create_private(place.path)
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


def _postgresql(
    place: PostgresqlPlace,
    *,
    timeouts_ms: tuple[int, int, int],
    read_deadline_ms: int,
    write_deadline_ms: int,
    connect_deadline_ms: int,
    pool_size: int,
    pooled: bool,
) -> Engine:
    from ledger.server.db.pg_connection import Dialler, SessionSettings  # loads psycopg, which SQLite does not need

    dialler = Dialler(
        place,
        SessionSettings(*timeouts_ms),
        pooled=pooled,
        connect_seconds=connect_deadline_ms / 1000,
        answer_seconds=(timeouts_ms[1] + ANSWER_MARGIN_MS) / 1000,
        commit_seconds=write_deadline_ms / 1000,
        suspicious_seconds=read_deadline_ms / 1000,
    )
    engine = create_engine(
        _shown(place),
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=10,
        pool_timeout=5,
        use_native_hstore=False,  # True would query the type at every start
    )

    def connect(_dialect: object, _record: object, _args: object, options: dict[str, Any]) -> Any:
        return dialler.connect(context=options.get("context"))

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "checkout", _postgresql_checkout)
    event.listen(engine, "handle_error", _postgresql_error)
    return engine


def _shown(place: PostgresqlPlace) -> URL:
    """Return the first host as a URL of SQLAlchemy, which `engine.url` shows; the dialler has the other hosts."""
    named = place.parameters
    host, port = place.hosts[0] if place.hosts else (None, None)
    socket = host is not None and host.startswith("/")
    return URL.create(
        "postgresql+psycopg",
        username=named.get("user"),
        password=named.get("password"),
        host=None if socket else host,
        port=port,
        database=named.get("dbname"),
        query={"host": host} if socket and host is not None else {},
    )


def _postgresql_checkout(connection: Any, _record: object, _proxy: object) -> None:
    if not connection.begin_use():
        raise InvalidatePoolError("the connection was ended while it was idle")


def _postgresql_error(context: ExceptionContext) -> None:
    """Mark the connection, and its pool, as lost where the error says that it cannot be used any longer."""
    cursor = getattr(context.execution_context, "cursor", None)
    if context.is_disconnect and cursor is not None:
        with contextlib.suppress(Exception):
            cursor.close()  # SQLAlchemy leaves the cursor of a lost connection open
    if context.connection is None or context.is_disconnect:
        return
    fairy = context.connection.connection
    driver: Any = fairy.dbapi_connection
    outcome = verdict(
        getattr(context.original_exception, "sqlstate", None),
        read_only_server=driver.read_only_server(),
        asked_to_read=driver.read_only is True,
    )
    if outcome is DatabaseVerdict.LOST:
        context.is_disconnect = True


def create_private(path: Path) -> None:
    """Create an SQLite file that only its owner may read, unless it exists: it will hold elements and salts. SQLite
    gives its -wal and -shm files the same mode."""
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
        "secure_delete=ON",  # erased data must not stay readable in free pages
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Run a transaction that writes; it commits on success and rolls back on any error.

    Raises DatabaseUnavailable when the database cannot be reached, is locked for too long, cut the connection, or does
    not answer in time. After an error of COMMIT it is unknown whether the transaction was executed.
    """
    with _translated(), _opened(engine, writes=True) as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Run a transaction that only reads. Raises DatabaseUnavailable as `writing` does."""
    with _translated(), _opened(engine) as connection, connection.begin():
        yield connection


@contextmanager
def snapshot_reading(engine: Engine) -> Iterator[Connection]:
    """Run a transaction as `reading` does, with all reads as of one moment: that of the first statement.

    PostgreSQL uses REPEATABLE READ for it. On SQLite every transaction works like that. Raises DatabaseUnavailable as
    `writing` does.
    """
    with reading(_of_one_moment(engine)) as connection:
        yield connection


def read_again(engine: Engine, read: Callable[[Connection], T], *, of_one_moment: bool = False) -> T:
    """Return the result of `read` in a transaction that only reads.

    It is repeated once, on a new connection, if the first connection was cut and the engine's deadline (`within`)
    leaves time. `of_one_moment`: as `snapshot_reading`. Raises DatabaseUnavailable as `writing` does.
    """
    with reading_first(_of_one_moment(engine) if of_one_moment else engine, read) as (_, value):
        return value


@contextmanager
def reading_first(engine: Engine, read: Callable[[Connection], T]) -> Iterator[tuple[Connection, T]]:
    """Yield a connection for `transaction`s, with the result of `read` in a first transaction on it, repeated as by
    `read_again`. Raises DatabaseUnavailable as `writing` does."""
    ends_at = _ends_at(engine)
    with _translated():
        with contextlib.ExitStack() as first:
            connection = first.enter_context(_opened(engine, ends_at))
            try:
                with transaction(connection, writes=False):
                    value = read(connection)
            except DBAPIError as error:
                if not error.connection_invalidated or time.monotonic() >= ends_at:
                    raise
            else:
                yield connection, value
                return
        with _opened(engine, ends_at) as connection:
            with transaction(connection, writes=False):
                value = read(connection)
            yield connection, value


def within(engine: Engine, deadline_ms: int) -> Engine:
    """Return `engine` with a deadline: each of its blocks (`writing`, `reading`, `connected`, ...) ends within
    `deadline_ms`, connecting and COMMIT included, at the latest with DatabaseUnavailable.

    On SQLite it returns `engine` itself: a file answers, or its disk hangs.
    """
    return engine.execution_options(deadline_ms=deadline_ms) if engine.dialect.name == "postgresql" else engine


def answers_within(engine: Engine, deadline_ms: int) -> float | None:
    """Return for how many seconds a caller waits for work under `within(engine, deadline_ms)`; None where it has no
    deadline."""
    return deadline_ms / 1000 if engine.dialect.name == "postgresql" else None


def take_time(connection: Connection, seconds: int) -> None:
    """Let each further statement of this transaction run for `seconds`, whatever the statement timeout and deadline
    are. Raises the errors of SQLAlchemy."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL statement_timeout = '{seconds}s'"))
        driver = _driver(connection)
        driver.ends_at, driver.tells, driver.idle_ms = math.inf, False, 0
        driver.least_seconds = LONG_READING_SECONDS
        driver.answer_seconds = max(driver.answer_seconds, seconds + ANSWER_MARGIN_MS / 1000)


def interrupt(connection: Connection) -> None:
    """Stop, from another thread, the database call that the thread using `connection` waits for; that thread gets an
    error soon.

    Does nothing if it already got an error, as after an earlier call. The caller ensures that the connection is not
    returned to the pool meanwhile.
    """
    if connection.invalidated:  # access to its driver would connect again, or fail
        return
    with contextlib.suppress(PendingRollbackError):  # it got its error in the meantime
        if connection.dialect.name == "postgresql":
            _driver(connection).cut()
        else:
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            driver.interrupt()


def _of_one_moment(engine: Engine) -> Engine:
    if engine.dialect.name != "postgresql":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _ends_at(engine: Engine) -> float:
    deadline_ms: int | None = engine.get_execution_options().get("deadline_ms")
    return math.inf if deadline_ms is None else time.monotonic() + deadline_ms / 1000


def _driver(connection: Connection) -> Any:
    """Return the `LedgerConnection` behind a connection to PostgreSQL."""
    return connection.connection.dbapi_connection


@contextmanager
def _opened(engine: Engine, ends_at: float | None = None, *, writes: bool = False) -> Iterator[Connection]:
    """Yield a connection whose answers all arrive by `ends_at` (monotonic; default: by the engine's deadline)."""
    ends_at = _ends_at(engine) if ends_at is None else ends_at
    if ends_at == math.inf:
        opened = engine.connect()
    else:
        from ledger.server.db.pg_connection import ending

        with ending(ends_at):
            opened = engine.connect()
    with opened as connection:
        if engine.dialect.name == "sqlite":
            yield connection.execution_options(sqlite_begin="IMMEDIATE") if writes else connection
            return
        options, driver = engine.get_execution_options(), _driver(connection)
        driver.ends_at = ends_at
        driver.tells = ends_at != math.inf and not writes
        driver.idle_ms = options.get("deadline_ms", 0) // 2 if writes else 0
        if options.get("by_statement") and not driver.pooled:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        yield connection


def lock_table(connection: Connection, name: str) -> None:
    """Block writes of other transactions to the table `name` until this one ends; reads continue.

    It serves rules about a whole table (at most N rows), which READ COMMITTED alone does not keep. On SQLite a
    transaction of `writing` is the only one that writes. Raises the errors of SQLAlchemy.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f'LOCK TABLE "{name}" IN SHARE ROW EXCLUSIVE MODE')


@contextmanager
def connected(engine: Engine) -> Iterator[Connection]:
    """Yield a connection for `transaction`s one after the other. Raises DatabaseUnavailable as `writing` does."""
    with _translated(), _opened(engine) as connection:
        yield connection


@contextmanager
def transaction(connection: Connection, *, writes: bool) -> Iterator[None]:
    """Run a transaction on `connection`, begun as `writing` or `reading` begins it. Raises the errors of SQLAlchemy."""
    if connection.dialect.name == "sqlite":
        connection.execution_options(sqlite_begin="IMMEDIATE" if writes else "DEFERRED")
    elif writes:  # it may wait for a lock or for a standby although the server is healthy
        _driver(connection).tells = False
    with connection.begin():
        yield


def by_statement(engine: Engine) -> Engine:
    """Return `engine` for transactions of one statement each: on PostgreSQL a statement is its own transaction, without
    the round trips of BEGIN and COMMIT.

    Behind a pooler, where the settings are sent with BEGIN, and on SQLite, which has no round trips, it works like
    `engine`.
    """
    return engine.execution_options(by_statement=True) if engine.dialect.name == "postgresql" else engine


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        if is_outage(error):
            raise DatabaseUnavailable("The database cannot be reached. Try again.", retry_after_seconds=1) from error
        raise

"""Connections to a PostgreSQL that does not answer: every wait ends, and dead connections are replaced."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, Engine, insert, make_url, select, text

from ledger.errors import DatabaseUnavailable
from ledger.server.db.engine import (
    by_statement,
    connected,
    open_engine,
    read_again,
    reading,
    reading_first,
    take_time,
    transaction,
    within,
    writing,
)
from ledger.server.db.tables.lookups import IdBlock
from tests import pg
from tests.faults.wire import Wire, wire

READ_MS, WRITE_MS, CONNECT_MS = 300, 700, 3_000
SLACK_SECONDS = 2.0
"""For a machine that has much to do."""

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def database(pg_admin_url: str, postgresql_schema: Callable[[], str]) -> Iterator[str]:
    url = pg.create_database(make_url(pg_admin_url), make_url(postgresql_schema())).render_as_string(False)
    yield url
    pg.drop_database(url)


@pytest.fixture
def path(database: str) -> Iterator[Wire]:
    with wire(f"{make_url(database).query['host']}/.s.PGSQL.5432") as opened:
        yield opened


@pytest.fixture
def engine(database: str, path: Wire) -> Iterator[Engine]:
    opened = through(path, database)
    yield opened
    opened.dispose()


def through(path: Wire, database: str, *, before: str = "", connect_ms: int = CONNECT_MS) -> Engine:
    """Return an engine whose connections use the path; `before` names hosts that it tries first."""
    return open_engine(
        f"postgresql://postgres@{before}127.0.0.1:{path.port}/{make_url(database).database}",
        read_deadline_ms=READ_MS,
        write_deadline_ms=WRITE_MS,
        connect_deadline_ms=connect_ms,
        lock_timeout_ms=10_000,
        pool_size=5,
    )


def select_one(connection: Connection) -> int:
    return int(connection.scalar(text("SELECT 1")) or 0)


def soon(engine: Engine) -> Engine:
    return within(engine, READ_MS)


def answers(engine: Engine) -> bool:
    """True if the server answers within 10 s: on a busy machine one attempt may exceed its short deadline."""
    end = time.monotonic() + 10
    while True:
        try:
            return read_again(engine, select_one) == 1
        except DatabaseUnavailable:
            if time.monotonic() > end:
                return False


def refused_within(limit_ms: int, work: Callable[[], object]) -> None:
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        work()
    assert time.monotonic() - started < limit_ms / 1000 + SLACK_SECONDS


@pytest.mark.parametrize("how", [lambda engine: engine, by_statement], ids=["in transactions", "by statement"])
def test_a_server_that_falls_silent(engine: Engine, path: Wire, how: Callable[[Engine], Engine]) -> None:
    hurried = how(soon(engine))
    assert answers(hurried)
    path.go_dark()
    refused_within(READ_MS, lambda: read_again(hurried, select_one))
    refused_within(READ_MS, lambda: read_again(hurried, select_one))  # connecting
    path.answer()
    assert answers(hurried)
    assert answers(engine), "no connection of before is given out"


def test_a_commit_that_is_not_answered(engine: Engine, path: Wire) -> None:
    """It is unknown whether it was executed. The wait ends, and the next connection is another one."""

    def write() -> None:
        with writing(engine) as connection:
            connection.execute(insert(IdBlock).values(name="dark", next=1))
            path.go_dark()

    assert answers(engine)
    refused_within(WRITE_MS, write)
    path.answer()
    assert answers(engine)


def test_a_slow_statement_is_given_up_in_time(engine: Engine) -> None:
    refused_within(READ_MS, lambda: read_again(soon(engine), lambda connection: connection.execute(SLEEP)))

    def write() -> None:
        with writing(within(engine, WRITE_MS)) as connection:
            for _ in range(20):  # each is fast enough, all together are not
                connection.execute(text("SELECT pg_sleep(0.1)"))

    refused_within(WRITE_MS, write)


SLEEP = text("SELECT pg_sleep(3)")


def test_a_reading_may_ask_for_more_time(database: str, path: Wire) -> None:
    opened = open_engine(
        f"postgresql://postgres@127.0.0.1:{path.port}/{make_url(database).database}", statement_timeout_ms=200
    )
    nap = text("SELECT pg_sleep(0.4)")
    try:
        with pytest.raises(DatabaseUnavailable), reading(opened) as connection:
            connection.execute(nap)
        with reading(within(opened, 200)) as connection:
            take_time(connection, 5)
            connection.execute(nap)
        with pytest.raises(DatabaseUnavailable), reading(opened) as connection:
            connection.execute(nap)
    finally:
        opened.dispose()


def test_a_patient_reading_on_a_dead_server_is_ended_when_a_short_one_fails(engine: Engine, path: Wire) -> None:
    def wait_patiently() -> float:
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable), reading(engine) as connection:  # its own patience: 35 s
            select_one(connection)
            path.go_dark()
            select_one(connection)
        return time.monotonic() - started

    assert answers(soon(engine))
    with ThreadPoolExecutor(1) as pool:
        patient = pool.submit(wait_patiently)
        end = time.monotonic() + 10
        while not path.silent:
            assert time.monotonic() < end
            time.sleep(0.01)
        while not patient.done():
            assert time.monotonic() < end
            with pytest.raises(DatabaseUnavailable):
                read_again(soon(engine), select_one)
        assert patient.result() < 3


def test_a_wait_for_a_lock_is_not_taken_for_a_dead_server(engine: Engine) -> None:
    """A short reading that is answered shows that the server is well."""
    with writing(engine) as first:
        first.execute(text("LOCK TABLE id_block IN ACCESS EXCLUSIVE MODE"))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: read_again(engine, lambda c: c.execute(select(IdBlock.name)).all()))
            for _ in range(10):
                time.sleep(0.05)
                assert read_again(within(engine, 5_000), select_one) == 1
            first.rollback()
            waiting.result(60)


def test_connections_that_were_ended_while_idle_are_replaced(engine: Engine, database: str) -> None:
    for again in range(3):
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda _: read_again(within(engine, 5_000), select_one), range(12))) == [1] * 12, again
        assert pg.terminate_backends(database) > 0
        time.sleep(0.3)  # until the end has come through to this machine's side
        with writing(engine) as connection:  # looked at before it is given out: even a write meets no dead one
            connection.execute(text("SELECT 1"))


def test_a_reading_whose_connection_ends_is_asked_once_more_and_a_write_never(engine: Engine, database: str) -> None:
    asked: list[int] = []

    def read(connection: Connection) -> int:
        asked.append(1)
        if len(asked) == 1:
            pg.terminate_backends(database)
        return select_one(connection)

    with (
        reading_first(by_statement(within(engine, 5_000)), read) as (connection, value),
        transaction(connection, writes=False),
    ):
        assert (value, select_one(connection), len(asked)) == (1, 1, 2)
    asked.clear()
    with pytest.raises(DatabaseUnavailable), writing(engine) as connection:
        read(connection)
    assert len(asked) == 1


def test_a_reading_is_asked_no_third_time(engine: Engine, database: str) -> None:
    asked: list[int] = []

    def read(connection: Connection) -> int:
        asked.append(1)
        pg.terminate_backends(database)
        return select_one(connection)

    with pytest.raises(DatabaseUnavailable):
        read_again(engine, read)
    assert len(asked) == 2


def test_a_wrong_statement_is_not_asked_again(engine: Engine) -> None:
    asked: list[int] = []

    def read(connection: Connection) -> object:
        asked.append(1)
        return connection.execute(text("SELECT * FROM no_such_table"))

    with pytest.raises(Exception, match="no_such_table"):
        read_again(engine, read)
    assert len(asked) == 1


def test_a_dead_host_leaves_time_for_the_next(database: str, path: Wire) -> None:
    with wire(1) as dead:
        dead.go_dark()
        opened = through(path, database, before=f"127.0.0.1:{dead.port},", connect_ms=1_000)
        try:
            started = time.monotonic()
            assert answers(opened)
            first = time.monotonic() - started
            opened.dispose()
            asked = len(dead._waiting)
            assert read_again(within(opened, 5_000), select_one) == 1
            assert first >= 0.5
            assert len(dead._waiting) == asked, "the host that answered is asked first"
        finally:
            opened.dispose()


def test_a_server_that_takes_no_writes_is_left_for_one_that_does(engine: Engine, database: str) -> None:
    name = make_url(database).database
    with writing(engine) as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    try:
        assert read_again(engine, select_one) == 1, "sessions of before do not know it yet"
        pg.terminate_backends(database)
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable), reading(engine) as connection:
                select_one(connection)
    finally:
        admin = open_engine(make_url(database).set(database="postgres").render_as_string(False))
        with writing(admin) as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'))
        admin.dispose()
    assert answers(engine)


def test_a_refused_write_drops_the_connection_unless_it_was_begun_to_read(engine: Engine) -> None:
    with connected(engine) as connection, transaction(connection, writes=False):
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
    with (
        pytest.raises(Exception, match="read-only") as caught,
        reading(engine.execution_options(postgresql_readonly=True)) as connection,
    ):
        connection.execute(insert(IdBlock).values(name="x", next=1))
    assert not isinstance(caught.value, DatabaseUnavailable)
    with reading(engine) as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) == pid
    with pytest.raises(DatabaseUnavailable), writing(engine) as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        connection.execute(insert(IdBlock).values(name="x", next=1))
    with reading(engine) as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) != pid


def test_the_kernel_looks_for_dead_peers(engine: Engine) -> None:
    with connected(engine) as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        with socket.socket(fileno=driver.pgconn.socket) as seen:
            names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            options = [(socket.IPPROTO_TCP, name) for name in names]
            values = [seen.getsockopt(*option) for option in [(socket.SOL_SOCKET, socket.SO_KEEPALIVE), *options]]
            seen.detach()
    assert values == [1, 10, 3, 3, 10_000]

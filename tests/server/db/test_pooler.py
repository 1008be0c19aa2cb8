"""Session settings and prepared statements behind PgBouncer, in session and in transaction mode."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, make_url, text

from ledger.errors import DatabaseUnavailable
from ledger.server.db.engine import by_statement, connected, open_engine, reading, transaction, within, writing
from tests import pg
from tests.pooler import pgbouncer

SETTINGS = {
    "lock_timeout": "311ms",
    "statement_timeout": "1711ms",
    "idle_in_transaction_session_timeout": "2711ms",
    "TimeZone": "UTC",
    "synchronous_commit": "on",
}

pytestmark = pytest.mark.postgresql


def opened(url: str) -> Engine:
    return open_engine(url, lock_timeout_ms=311, statement_timeout_ms=1711, idle_timeout_ms=2711)


def in_force(engine: Engine, how: Callable[[Engine], object] = lambda engine: engine) -> dict[str, str]:
    with connected(how(engine)) as connection, transaction(connection, writes=False):  # type: ignore[arg-type]
        query = ", ".join(f"current_setting('{name}')" for name in SETTINGS)
        row = connection.execute(text(f"SELECT {query}")).one()
    return dict(zip(SETTINGS, row, strict=True))


@pytest.fixture(scope="module")
def database(pg_admin_url: str, postgresql_schema: Callable[[], str]) -> Iterator[str]:
    url = pg.create_database(make_url(pg_admin_url), make_url(postgresql_schema())).render_as_string(False)
    yield url
    pg.drop_database(url)


@pytest.fixture(scope="module", params=["session", "transaction"])
def engine(request: pytest.FixtureRequest, database: str) -> Iterator[Engine]:
    with pgbouncer(database, request.param) as url:
        engine = opened(url)
        yield engine
        engine.dispose()


def test_settings_hold_in_every_transaction(engine: Engine) -> None:
    settings: list[dict[str, str]] = []

    def ask() -> None:
        for how in (lambda engine: engine, by_statement) * 4:
            settings.append(in_force(engine, how))

    threads = [threading.Thread(target=ask) for _ in range(4)]  # more than the pooler has server connections
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert settings == [SETTINGS] * 32


def test_they_are_not_left_to_the_pooler_s_next_client(engine: Engine) -> None:
    in_force(engine)
    other = open_engine(engine.url.render_as_string(False), statement_timeout_ms=9_000)
    for _ in range(4):
        with reading(other) as connection:
            assert connection.scalar(text("SHOW statement_timeout")) == "9s"
        assert in_force(engine) == SETTINGS
    other.dispose()


def test_the_server_s_timeouts_act(engine: Engine) -> None:
    with pytest.raises(DatabaseUnavailable), writing(engine) as first:
        first.execute(text("LOCK TABLE checkpoint IN ACCESS EXCLUSIVE MODE"))
        with writing(engine) as second:
            second.execute(text("SELECT count(*) FROM checkpoint"))
    with pytest.raises(DatabaseUnavailable), reading(engine) as connection:
        connection.execute(text("SELECT pg_sleep(5)"))
    assert in_force(engine) == SETTINGS


def test_the_same_statement_again_and_again(engine: Engine) -> None:
    """psycopg prepares a statement that comes often, on the server connection that it then happens to have."""
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            for number in range(20):
                with reading(engine) as connection:
                    query = text("SELECT size FROM checkpoint WHERE size = :size")
                    assert connection.scalar(query, {"size": number}) is None
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def many_rows(engine: Engine, name: str) -> None:
    """Rows that psycopg sends in a pipeline, as the first statement of a transaction."""
    with writing(engine) as connection:
        statement = text("INSERT INTO id_block (name, next) VALUES (:name, :next)")
        connection.execute(statement, [{"name": f"{name}{number}", "next": number} for number in range(5)])
        assert connection.scalar(text("SHOW lock_timeout")) == SETTINGS["lock_timeout"]
    with writing(engine) as connection:
        query = text("DELETE FROM id_block WHERE name LIKE :name")
        assert connection.execute(query, {"name": f"{name}_"}).rowcount == 5


def test_many_rows_at_once(engine: Engine) -> None:
    for how in (lambda engine: engine, lambda engine: within(engine, 5_000)):
        many_rows(how(engine), "pooled")


def test_a_direct_connection_has_them_without_asking_each_time(database: str) -> None:
    engine = opened(database)
    try:
        assert in_force(engine) == in_force(engine, by_statement) == SETTINGS
        many_rows(engine, "direct")
        many_rows(within(engine, 5_000), "direct")
        with connected(by_statement(engine)) as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            assert (driver.pooled, driver.autocommit, driver.prepare_threshold) == (False, True, 5)
    finally:
        engine.dispose()


def test_a_server_that_would_acknowledge_before_the_disk_is_overruled(
    make_database: Callable[..., str], postgresql_schema: Callable[[], str]
) -> None:
    url = make_database("postgresql", postgresql_schema())
    plain = open_engine(url)
    with writing(plain) as connection:
        name = connection.scalar(text("SELECT current_database()"))
        connection.execute(text(f'ALTER DATABASE "{name}" SET synchronous_commit = off'))
    plain.dispose()
    for pooler in ("auto", "transaction"):
        engine = open_engine(url, lock_timeout_ms=311, statement_timeout_ms=1711, idle_timeout_ms=2711, pooler=pooler)
        try:
            assert in_force(engine) == SETTINGS
        finally:
            engine.dispose()

"""The traps of both engines: transactions, savepoints, times, widths, and what an outage looks like."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, StatementError

from ledger.errors import ConfigurationError, DatabaseUnavailable
from ledger.server.db import migrate
from ledger.server.db.engine import interrupt, open_engine, reading, writing
from ledger.server.db.tables.log import CheckpointRow

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
ROW = {"size": 1, "root": b"r" * 32, "note": "n", "published_at": NOW}


@pytest.fixture
def engine(migrated_url: str) -> Iterator[Engine]:
    engine = open_engine(migrated_url, lock_timeout_ms=300, statement_timeout_ms=1000)
    yield engine
    engine.dispose()


def sizes(engine: Engine) -> list[int]:
    with reading(engine) as connection:
        return list(connection.scalars(select(CheckpointRow.size).order_by(CheckpointRow.size)))


def test_a_failed_transaction_leaves_nothing(engine: Engine) -> None:
    with pytest.raises(IntegrityError), writing(engine) as connection:
        connection.execute(insert(CheckpointRow), [ROW])
        connection.execute(insert(CheckpointRow), [ROW])
    assert sizes(engine) == []


def test_a_savepoint_rolls_back_alone(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(insert(CheckpointRow), [ROW])
        with pytest.raises(IntegrityError), connection.begin_nested():
            connection.execute(insert(CheckpointRow), [{**ROW, "size": 2}])
            connection.execute(insert(CheckpointRow), [{**ROW, "size": 2}])
    assert sizes(engine) == [1]


def test_times_come_back_aware_and_equal(engine: Engine) -> None:
    shanghai = datetime(2026, 3, 1, 20, 30, tzinfo=timezone(timedelta(hours=8)))
    with writing(engine) as connection:
        connection.execute(insert(CheckpointRow), [{**ROW, "published_at": shanghai}])
    with reading(engine) as connection:
        read = connection.scalar(select(CheckpointRow.published_at))
    assert read == NOW
    assert read is not None
    assert read.utcoffset() == timedelta(0)


def test_naive_times_are_refused(engine: Engine) -> None:
    with pytest.raises(StatementError, match="zone"), writing(engine) as connection:
        connection.execute(insert(CheckpointRow), [{**ROW, "published_at": NOW.replace(tzinfo=None)}])


def test_a_hash_of_the_wrong_width_is_refused(engine: Engine) -> None:
    with pytest.raises(StatementError, match="32 bytes"), writing(engine) as connection:
        connection.execute(insert(CheckpointRow), [{**ROW, "root": b"short"}])


def test_error_messages_carry_no_values(engine: Engine) -> None:
    secret = "a-note-nobody-may-read"
    with pytest.raises(IntegrityError) as caught, writing(engine) as connection:
        connection.execute(insert(CheckpointRow), [{**ROW, "note": secret}])
        connection.execute(insert(CheckpointRow), [{**ROW, "note": secret}])
    assert secret not in str(caught.value)


def test_a_wrong_statement_is_not_called_an_outage(engine: Engine) -> None:
    with pytest.raises(Exception, match="no_such_table") as caught, reading(engine) as connection:
        connection.execute(text("SELECT * FROM no_such_table"))
    assert not isinstance(caught.value, DatabaseUnavailable)


def test_locks_time_out(engine: Engine, migrated_url: str) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite waits for its busy timeout")
    migrate.check_current(engine)
    with writing(engine) as first:
        first.execute(text("LOCK TABLE checkpoint IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(DatabaseUnavailable), writing(engine) as second:
            second.execute(insert(CheckpointRow), [ROW])


def test_statements_time_out(engine: Engine) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no server to wait for")
    with pytest.raises(DatabaseUnavailable), reading(engine) as connection:
        connection.execute(text("SELECT pg_sleep(5)"))


def test_an_unreachable_server_is_an_outage() -> None:
    engine = open_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailable), reading(engine):
        pass
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/x"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_engine(url)


def test_durability_settings(engine: Engine) -> None:
    with reading(engine) as connection:
        if engine.dialect.name == "sqlite":
            assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
            assert connection.scalar(text("PRAGMA synchronous")) == 2
            assert connection.scalar(text("PRAGMA foreign_keys")) == 1
        else:
            assert connection.scalar(text("SHOW synchronous_commit")) == "on"
            assert connection.scalar(text("SHOW lock_timeout")) == "300ms"
            assert connection.scalar(text("SHOW statement_timeout")) == "1s"


def test_what_was_interrupted_may_be_interrupted_again(engine: Engine) -> None:
    """A process that closes does so, while the reading thread may not have given the connection back yet."""
    with pytest.raises(InterruptedError), reading(engine) as connection:
        assert connection.scalar(text("SELECT 1")) == 1
        if engine.dialect.name == "postgresql":
            interrupt(connection)
            with pytest.raises(OperationalError):
                connection.execute(text("SELECT 1"))
        else:
            connection.invalidate()
        assert connection.invalidated
        interrupt(connection)
        raise InterruptedError


def test_a_wrong_table_on_postgresql_is_a_programming_error(engine: Engine) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite calls it an operational error")
    with pytest.raises(ProgrammingError), reading(engine) as connection:
        connection.execute(text("SELECT * FROM no_such_table"))


def test_an_sqlite_ledger_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.db"
    migrate.upgrade(f"sqlite:///{path}")
    engine = open_engine(f"sqlite:///{path}")
    with writing(engine) as connection:
        connection.execute(insert(CheckpointRow), [ROW])
        assert {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {
            "ledger.db": 0o600,
            "ledger.db-wal": 0o600,
            "ledger.db-shm": 0o600,
        }
    engine.dispose()

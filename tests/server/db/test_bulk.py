"""Bulk inserts: what SQLAlchemy would store and raise, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError, StatementError

from ledger.errors import DatabaseUnavailable
from ledger.server.db.bulk import insert_rows
from ledger.server.db.engine import open_engine, reading, writing
from ledger.server.db.tables.log import CheckpointRow, EntryBody
from ledger.server.db.tables.reports import Subject
from tests import pg

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SECRET = b"\x00\\.\t\n" + b"s" * 27
ROW = {"entry_index": 1, "type": "report", "hour": NOW, "salt": SECRET, "body": b"\\N\x00\t\nbody"}


@pytest.fixture
def engine(migrated_url: str) -> Iterator[Engine]:
    engine = open_engine(migrated_url)
    yield engine
    engine.dispose()


def test_values_come_back_as_they_went_in(engine: Engine) -> None:
    rows = [{**ROW, "entry_index": index, "body": bytes([index]) * index} for index in range(200)]
    with writing(engine) as connection:
        insert_rows(connection, EntryBody, rows)
        insert_rows(connection, Subject, [])
    with reading(engine) as connection:
        read = connection.execute(select(EntryBody.__table__).order_by(EntryBody.entry_index)).mappings()
        assert [dict(row) for row in read] == rows


def test_a_time_in_another_zone_is_the_same_moment(engine: Engine) -> None:
    shanghai = NOW.astimezone(timezone(timedelta(hours=8)))
    with writing(engine) as connection:
        insert_rows(connection, EntryBody, [{**ROW, "hour": shanghai}])
    with reading(engine) as connection:
        assert connection.scalar(select(EntryBody.hour)) == NOW


def test_a_duplicate_is_an_integrity_error_that_quotes_nothing(engine: Engine) -> None:
    with pytest.raises(IntegrityError) as caught, writing(engine) as connection:
        insert_rows(connection, EntryBody, [ROW, {**ROW, "body": b"a body nobody may read"}])
    assert "nobody may read" not in str(caught.value)
    with reading(engine) as connection:
        assert connection.scalar(select(EntryBody.entry_index)) is None


@pytest.mark.parametrize("change", [{"salt": b"short"}, {"hour": NOW.replace(tzinfo=None)}])
def test_column_types_keep_checking(engine: Engine, change: dict[str, object]) -> None:
    with pytest.raises((StatementError, ValueError)), writing(engine) as connection:
        insert_rows(connection, EntryBody, [{**ROW, **change}])
    with writing(engine) as connection:  # the connection is none the worse
        insert_rows(connection, EntryBody, [ROW])


def test_a_cut_connection_is_an_outage(engine: Engine, migrated_url: str) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no connection to cut")
    with pytest.raises(DatabaseUnavailable), writing(engine) as connection:
        insert_rows(connection, EntryBody, [ROW])
        pg.terminate_backends(migrated_url)
        insert_rows(connection, CheckpointRow, [{"size": 1, "root": SECRET, "note": "n", "published_at": NOW}])
    with writing(engine) as connection:
        insert_rows(connection, EntryBody, [ROW])

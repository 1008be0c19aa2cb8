"""What lookups are answered from, read in one statement; and rows of several tables, inserted in one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, make_url, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from ledger.errors import DatabaseUnavailable
from ledger.server.db import migrate
from ledger.server.db.engine import by_statement, connected, open_engine, reading, transaction, writing
from ledger.server.db.tables.lookups import LookupLog, LookupTag
from ledger.server.db.tables.reports import Listing
from ledger.server.keys.epochs import EpochRow, insert_epoch
from ledger.server.log import queries as log_store
from ledger.server.lookups.queries import ListingRow, LookupView, listings, log_disclosures, read_view
from tests import pg
from tests.conftest import ENGINES

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


@pytest.fixture(scope="module", params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in ENGINES])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A database with a log of 41 entries and four key epochs, shared by the module's tests: each uses tags and ids of
    its own."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('views') / 'ledger.db'}"
        migrate.upgrade(url)
    else:
        template = make_url(request.getfixturevalue("postgresql_schema")())
        url = pg.create_database(template, template).render_as_string(False)
    engine = open_engine(url)
    with writing(engine) as connection:
        log_store.create_head(connection, NOW)
        log_store.move_head(connection, 41, NOW)
        for number, state in enumerate(("retired", "previous", "current", "next"), 1):
            insert_epoch(connection, EpochRow(number, state, "ledger", secrets.token_bytes(32), number, None, NOW))
    yield engine
    engine.dispose()
    if request.param == "postgresql":
        pg.drop_database(url)


def listed(number: int, tag: bytes) -> dict[str, Any]:
    return {
        "tag": tag, "report_id": number, "slot": 0, "epoch": 3, "kind": "phone", "act_id": number,
        "control_group": "g", "conduct": "wardrobing", "amount_minor": 1, "currency": "CNY", "act_day": 20_000,
        "effective_hour": 480_000, "expires_day": 20_090, "disputed": number % 2 == 0, "unconfirmed": False,
        "restituted": False, "has_statement": True,
    }  # fmt: skip


def seen(engine: Engine, tags: list[bytes], hour: int = 10**6) -> LookupView:
    with connected(by_statement(engine)) as connection, transaction(connection, writes=False):
        return read_view(connection, tags, hour)


def test_one_statement_sees_size_epochs_and_listings(engine: Engine) -> None:
    one, two, stranger = (secrets.token_bytes(32) for _ in range(3))
    with writing(engine) as connection:
        connection.execute(
            insert(Listing), [listed(1, one), listed(2, one), listed(3, two), listed(4, secrets.token_bytes(32))]
        )
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    view = seen(engine, [one, two, stranger, one])
    event.remove(engine, "before_cursor_execute", note)
    assert len([statement for statement in asked if "SELECT" in statement]) == 1
    assert (view.size, view.epochs) == (41, {2: "previous", 3: "current", 4: "next"})
    with reading(engine) as connection:
        expected = listings(connection, [one, two, stranger])
    assert {tag: sorted(rows) for tag, rows in view.listings.items()} == {
        tag: sorted(rows) for tag, rows in expected.items()
    }
    assert [row.report_id for row in sorted(view.listings[one], key=lambda row: row.report_id)] == [1, 2]
    assert all(isinstance(row, ListingRow) and row.has_statement is True for row in view.listings[one])


def test_what_still_cools_is_not_in_the_view(engine: Engine) -> None:
    """And it takes the same one statement."""
    cools = secrets.token_bytes(32)
    with writing(engine) as connection:
        connection.execute(insert(Listing), [{**listed(1, cools), "effective_hour": 480_024}])
    before, after = (seen(engine, [cools], hour) for hour in (480_023, 480_024))
    assert (before.size, before.epochs, before.listings) == (41, after.epochs, {})
    assert [row.report_id for row in after.listings[cools]] == [1]


def test_who_is_not_listed_has_size_and_epochs_all_the_same(engine: Engine) -> None:
    for tags in ([], [secrets.token_bytes(32)]):
        view = seen(engine, tags)
        assert (view.size, sorted(view.epochs), view.listings) == (41, [2, 3, 4], {})


def test_more_tags_than_one_statement_takes(engine: Engine) -> None:
    tags = [secrets.token_bytes(32) for _ in range(1100)]
    with writing(engine) as connection:
        connection.execute(insert(Listing), [listed(1000 + number, tags[number]) for number in (0, 499, 500, 1099)])
    view = seen(engine, tags)
    assert set(view.listings) == {tags[number] for number in (0, 499, 500, 1099)}
    assert (view.size, len(view.epochs)) == (41, 3)


def test_before_genesis_there_is_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    migrate.upgrade(url)
    engine = open_engine(url)
    assert seen(engine, [bytes(32)]) == LookupView(0, {}, {})
    engine.dispose()


def disclosure(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": number, "platform": "acme", "purpose": "refund_review", "order_ref": secrets.token_bytes(32),
        "consent_ref": None, "claim": "damaged", "tier": "watch", "as_of_index": 2**40, "asked_at": NOW, **changes,
    }  # fmt: skip


def log(engine: Engine, lookups: list[dict[str, Any]], tags: list[dict[str, Any]]) -> None:
    with connected(by_statement(engine)) as connection, transaction(connection, writes=True):
        log_disclosures(connection, lookups, tags)


def test_disclosures_come_back_as_they_went_in(engine: Engine) -> None:
    shanghai = NOW.astimezone(timezone(timedelta(hours=8)))
    rows = [disclosure(1), disclosure(2, consent_ref='c"\\,{}', claim=None), disclosure(2**62, asked_at=shanghai)]
    tags = [{"tag": secrets.token_bytes(32), "lookup_id": one["id"]} for one in rows for _ in range(3)]
    log(engine, rows, tags)
    with reading(engine) as connection:
        mine = LookupLog.id.in_([one["id"] for one in rows])
        found = connection.execute(select(LookupLog.__table__).where(mine).order_by(LookupLog.id)).mappings()
        assert [dict(row) for row in found] == rows
        of_tags = select(LookupTag.tag, LookupTag.lookup_id).where(LookupTag.lookup_id.in_([one["id"] for one in rows]))
        pairs = {(bytes(tag), number) for tag, number in connection.execute(of_tags)}
    assert pairs == {(one["tag"], one["lookup_id"]) for one in tags}


def test_both_tables_or_none(engine: Engine) -> None:
    tag = {"tag": secrets.token_bytes(32), "lookup_id": 5}
    with pytest.raises(IntegrityError) as caught:
        log(engine, [disclosure(5, consent_ref="never shown")], [tag, tag])
    assert "never shown" not in str(caught.value)
    with reading(engine) as connection:
        assert connection.scalar(select(LookupLog.id).where(LookupLog.id == 5)) is None
    log(engine, [disclosure(5)], [tag])


def test_a_text_that_is_too_long_is_refused_and_not_cut(engine: Engine) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite does not look at the length of texts")
    with pytest.raises(DBAPIError):
        log(engine, [disclosure(6, platform="x" * 33)], [])


@pytest.mark.parametrize(
    ("number", "change"), [(7, {"order_ref": b"short"}), (8, {"asked_at": NOW.replace(tzinfo=None)})]
)
def test_column_types_keep_checking(engine: Engine, number: int, change: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"expected 32 bytes|must carry its zone"):
        log(engine, [disclosure(number, **change)], [])
    log(engine, [disclosure(number)], [])


def test_a_cut_connection_is_an_outage(engine: Engine) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no connection to cut")
    seen(engine, [bytes(32)])
    with pytest.raises(DatabaseUnavailable), connected(by_statement(engine)) as connection:
        pg.terminate_backends(engine.url.render_as_string(False))
        with transaction(connection, writes=False):
            read_view(connection, [bytes(32)], 10**6)
    assert seen(engine, [bytes(32)]).size == 41

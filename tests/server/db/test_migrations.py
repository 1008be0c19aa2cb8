"""Migrations run up and down on both engines, and create exactly the tables that the models describe."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import Engine, inspect, make_url, text

from ledger.errors import ConfigurationError
from ledger.protocol.tags import tag
from ledger.server.db import migrate
from ledger.server.db.engine import open_engine, reading, writing
from ledger.server.db.schema import Base
from ledger.server.keys.epochs import read_epochs
from ledger.server.lookups.disclosures import count_old, shown_lookups
from ledger.server.lookups.queries import log_disclosures
from ledger.tlog.entries import GovernanceType, governance_leaf, key_rotation_body
from tests import pg
from tests.conftest import OF_ENGINES
from tests.counts import trials
from tests.forked import ForkedProcess
from tests.support import ROOT, sqlite_schema


@pytest.fixture(params=OF_ENGINES)
def current_url(
    request: pytest.FixtureRequest, make_database: Callable[..., str], postgresql_schema: Callable[[], str]
) -> str:
    """A copy, which a test may change, of a database that the migrations have made."""
    if request.param == "postgresql":
        return make_database("postgresql", postgresql_schema())
    url = make_database("sqlite")
    Path(str(make_url(url).database)).write_bytes(sqlite_schema())
    return url


def test_up_and_down(current_url: str) -> None:
    engine = open_engine(current_url)
    assert set(inspect(engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    migrate.downgrade(current_url)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    migrate.upgrade(current_url)
    migrate.check_current(engine)
    engine.dispose()


@pytest.mark.checks_code
def test_models_and_migrations_do_not_drift_and_a_drift_is_found(current_url: str) -> None:
    config = migrate.alembic_config(current_url)
    command.check(config)
    engine = open_engine(current_url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE tile ADD COLUMN stray INTEGER"))
    engine.dispose()
    with pytest.raises(CommandError, match="New upgrade operations"):
        command.check(config)


def test_two_deployments_may_migrate_at_once(database_url: str) -> None:
    processes = [
        ForkedProcess("tests.server.db.upgrading", [database_url], environment=os.environ, folder=ROOT)
        for _ in range(trials(2, 3))
    ]
    outcomes = []
    for process in processes:
        assert process.stderr is not None
        outcomes.append((process.stderr.read(), process.wait(60)))
        process.close()
    assert {code for _, code in outcomes} == {0}, outcomes
    engine = open_engine(database_url)
    migrate.check_current(engine)
    engine.dispose()


def test_a_database_without_the_schema_is_refused(current_url: str, make_database: Callable[..., str]) -> None:
    empty = open_engine(make_database(make_url(current_url).get_backend_name()))
    with pytest.raises(ConfigurationError, match="keys init"):
        migrate.check_current(empty)
    empty.dispose()
    engine = open_engine(current_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'other'"))
    with pytest.raises(ConfigurationError, match="schema of a newer version"):
        migrate.check_current(engine)
    engine.dispose()


ELEMENTS = [secrets.token_bytes(32) for _ in range(3)]
KINDS = ["phone", "phone", "email"]


def fill_0001(engine: Engine) -> None:
    """One epoch, with two identifiers of one kind in one report, so the slot follows from the tag alone."""
    leaf = governance_leaf(
        0,
        GovernanceType.KEY_ROTATION,
        datetime(2026, 1, 2, 3, tzinfo=UTC),
        key_rotation_body(epoch=7, holders=[("ledger", b"k" * 32)], log_origin="x/log", log_key="x/log+1+a"),
    )
    with engine.begin() as connection:
        insert = "INSERT INTO {} VALUES ({})"
        connection.execute(text(insert.format("log_entry", "0, :leaf")), {"leaf": leaf})
        connection.execute(text(insert.format("governance_entry", "0, 'key_rotation'")))
        for slot, (kind, element) in enumerate(zip(KINDS, ELEMENTS, strict=True)):
            connection.execute(
                text("INSERT INTO subject (report_id, slot, epoch, kind, element, salt) VALUES (4, :s, 7, :k, :e, :e)"),
                {"s": slot, "k": kind, "e": element},
            )
            connection.execute(
                text(
                    "INSERT INTO listing (tag, report_id, kind, act_id, control_group, conduct, amount_minor, currency,"
                    " act_day, effective_hour, expires_day, disputed, unconfirmed, restituted, has_statement) VALUES"
                    " (:tag, 4, :k, 4, 'g', 'wardrobing', 1, 'CNY', 1, 1, 1, :no, :no, :no, :no)"
                ),
                {"tag": tag(kind, element), "k": kind, "no": False},
            )


# order: (what was done in the case, with the state after it; how the report was reversed)
STORIES: dict[str, tuple[list[tuple[str, str]], str | None]] = {
    "given up": ([("open", "submitted"), ("report_gone", "closed")], "withdrawal"),
    "replaced": ([("open", "submitted"), ("take", "under_review"), ("report_gone", "closed")], "replacement"),
    "after the appeal": (
        [("open", "submitted"), ("withdraw", "withdrawn"), ("report_gone", "closed")],
        "withdrawal",
    ),
    "after a decision": ([("open", "submitted"), ("decide", "decided"), ("report_gone", "closed")], "withdrawal"),
    "expired": ([("open", "submitted"), ("report_gone", "closed")], None),
    "overturned": ([("open", "submitted"), ("decide", "decided"), ("close", "closed")], "overturned"),
}
ORDER_REFS = {name: secrets.token_bytes(32) for name in STORIES}


def fill_0008(engine: Engine) -> None:
    """Closed cases."""
    moment = {"at": datetime(2026, 1, 2, tzinfo=UTC)}
    with engine.begin() as connection:
        for number, (name, (events, reversal)) in enumerate(STORIES.items(), 1):
            values = {"n": number, "ref": ORDER_REFS[name], "kind": reversal, "no": False, **moment}
            connection.execute(
                text(
                    "INSERT INTO report (id, platform, control_group, order_ref, conduct, amount_minor, currency,"
                    " outcome, act_ended_at, notice_sent_at, recorded_at, effective_hour, expires_day, act_id, live)"
                    " VALUES (:n, 'acme', 'east', :ref, 'wardrobing', 1, 'CNY', 'x', :at, :at, :at, 1, 90000, :n, :no)"
                ),
                values,
            )
            connection.execute(
                text(
                    "INSERT INTO appeal_case (id, group_id, report_id, round, state, grounds, profile, locale,"
                    " filed_via, filed_by_subject, platform, control_group, conduct, severity, opened_at, due_at,"
                    " extended, overdue) VALUES (:n, :n, :n, 1, 'closed', 'other', 'CN', 'en', 'b', :no, 'acme',"
                    " 'east', 'wardrobing', 1, :at, :at, :no, :no)"
                ),
                values,
            )
            if reversal is not None:
                connection.execute(
                    text(
                        "INSERT INTO reversal (report_id, entry_index, kind, reason, recorded_at)"
                        " VALUES (:n, 100 + :n, :kind, 'other', :at)"
                    ),
                    values,
                )
            for action, state in events:
                connection.execute(
                    text(
                        "INSERT INTO case_event (case_id, round, at, action, actor, state, visible_to)"
                        " VALUES (:n, 1, :at, :action, 'ledger', :state, 'all')"
                    ),
                    {**values, "action": action, "state": state},
                )


def fill_0010(engine: Engine) -> None:
    """Accounts of staff, and what the audit log says of their enrolment."""
    at = datetime(2026, 1, 2, 3, tzinfo=UTC)
    with engine.begin() as connection:
        for number, name in enumerate(("ann", "cleo", "bo", "dan"), 1):
            connection.execute(
                text(
                    "INSERT INTO staff (id, name, role, language, password_hash, totp_secret, must_change_password, "
                    "failed_count, created_at) VALUES (:id, :name, 'admin', 'en', '', :none, :no, 0, :at)"
                ),
                {"id": number, "name": name, "none": b"", "no": False, "at": at},
            )
        for by, action, about in (
            (None, "staff_added", 1),
            (None, "staff_added", 2),
            (1, "staff_added", 3),
            (2, "staff_reset", 3),
            (3, "login", None),
            (1, "staff_added", 4),
            (None, "staff_reset", 4),
        ):
            connection.execute(
                text(
                    "INSERT INTO staff_event (at, staff_id, action, object_type, object_id) "
                    "VALUES (:at, :by, :action, 'staff', :about)"
                ),
                {"at": at, "by": by, "action": action, "about": None if about is None else str(about)},
            )


MINE = secrets.token_bytes(32)


def fill_0012(engine: Engine) -> None:
    """Single rows of lookups."""
    asked_at = datetime(2026, 1, 2, 3, tzinfo=UTC)
    with writing(engine) as connection:
        rows = [
            {
                "id": number,
                "platform": "acme" if number else "bolt",
                "purpose": "refund_review",
                "order_ref": b"o" * 32,
                "consent_ref": None,
                "claim": "damaged",
                "tier": "watch",
                "as_of_index": 9,
                "asked_at": asked_at + timedelta(minutes=number),
            }
            for number in range(4)
        ]
        log_disclosures(connection, rows, [{"tag": MINE, "lookup_id": row["id"]} for row in rows])


FILLS = {"0001": fill_0001, "0008": fill_0008, "0010": fill_0010, "0012": fill_0012}


@pytest.fixture(scope="module", params=OF_ENGINES)
def grown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The database of a ledger that was used in each of the versions of FILLS, and has been upgraded step by step. Each
    test reads the tables of its own version."""
    url = f"sqlite:///{tmp_path_factory.mktemp('grown') / 'ledger.db'}"
    if request.param == "postgresql":
        created = pg.create_database(make_url(request.getfixturevalue("pg_admin_url")))
        url = created.render_as_string(hide_password=False)
    engine = open_engine(url)
    for revision, fill in FILLS.items():
        command.upgrade(migrate.alembic_config(url), revision)
        fill(engine)
    migrate.upgrade(url)
    yield engine
    engine.dispose()
    if request.param == "postgresql":
        pg.drop_database(url)


def test_what_one_epoch_held_is_under_that_epoch_afterwards(grown: Engine) -> None:
    """0001 -> 0002 with data."""
    with grown.connect() as connection:
        rows = connection.execute(text("SELECT tag, slot, epoch FROM listing ORDER BY slot")).all()
        assert [(bytes(row[0]), *row[1:]) for row in rows] == [
            (tag(kind, element), slot, 7) for slot, (kind, element) in enumerate(zip(KINDS, ELEMENTS, strict=True))
        ]
        (epoch,) = read_epochs(connection)
    assert (epoch.epoch, epoch.state, epoch.holder, bytes(epoch.public_key)) == (7, "current", "ledger", b"k" * 32)
    assert (epoch.entry_index, epoch.announced_at) == (0, datetime(2026, 1, 2, 3, tzinfo=UTC))


def test_lines_of_an_earlier_ledger(grown: Engine) -> None:
    """0008 -> 0009 with cases: which orders were given up while a case was open is read from the timelines."""
    with grown.connect() as connection:
        closures = connection.execute(text("SELECT control_group, order_ref, case_id FROM order_closure")).all()
        cases = connection.execute(text("SELECT count(*), count(reporter_round) FROM appeal_case")).one()
        connection.execute(text("UPDATE appeal_case SET round = 3 WHERE id = 1"))
    assert {(group, bytes(ref), case) for group, ref, case in closures} == {
        ("east", ORDER_REFS["given up"], 1),
        ("east", ORDER_REFS["replaced"], 2),
    }
    assert tuple(cases) == (len(STORIES), 0)


def test_accounts_of_an_earlier_version_rest_on_who_enrolled_them_by_the_audit_log(grown: Engine) -> None:
    """0010 -> 0011: the newest of adding, resetting and changing the role counts; none is the command line's."""
    with grown.connect() as connection:
        rows = connection.execute(text("SELECT name, enrolled_by, last_login_at FROM staff ORDER BY id")).all()
    assert {name: by for name, by, _ in rows} == {"ann": None, "cleo": None, "bo": 2, "dan": None}
    assert [name for name, _, seen in rows if seen is not None] == ["bo"]


def test_lookups_of_an_older_ledger_are_counted_and_stay_in_the_record(grown: Engine) -> None:
    """0012 -> 0013 with data: single rows of years, which become counts by and by and are read the same meanwhile."""
    with reading(grown) as connection:
        before = shown_lookups(connection, [MINE], "acme")
    assert [(lookup["asked_by"], lookup["times"], lookup["asked_at"]) for lookup in before] == [
        ("acme", 3, "2026-01-02T03:03:00Z"),
        (None, 1, "2026-01-02T03:00:00Z"),
    ]
    assert count_old(grown, datetime(2026, 6, 1, tzinfo=UTC)) == 4
    with reading(grown) as connection:
        assert shown_lookups(connection, [MINE], "acme") == before
        assert connection.execute(text("SELECT count(*) FROM lookup_log")).scalar_one() == 0


def test_a_key_of_one_holder_goes_to_the_earlier_schema_and_back_and_a_shared_one_does_not(current_url: str) -> None:
    """0016 -> 0017 with data, and back."""
    config = migrate.alembic_config(current_url)
    command.downgrade(config, "0016")
    engine = open_engine(current_url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO key_epoch (epoch, state, holder, public_key, entry_index, switch_index, announced_at) "
                "VALUES (1, 'current', 'ledger', :key, 0, 0, :at)"
            ),
            {"key": b"k" * 32, "at": datetime(2026, 1, 2, 3, tzinfo=UTC)},
        )
    migrate.upgrade(current_url)
    with reading(engine) as connection:
        (row,) = read_epochs(connection)
    assert (row.holder, row.threshold, row.generation, row.holders, row.is_shared) == ("ledger", 1, 1, (), False)
    engine.dispose()
    command.downgrade(config, "0016")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT holder FROM key_epoch")).scalar_one() == "ledger"
    engine.dispose()
    migrate.upgrade(current_url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO key_sharing (epoch, generation, kind, entry_index, statement, logged_at) "
                "VALUES (1, 1, 'generate', 0, :text, :at)"
            ),
            {"text": b"{}", "at": datetime(2026, 1, 2, 3, tzinfo=UTC)},
        )
    engine.dispose()
    with pytest.raises(RuntimeError, match="several holders"):
        command.downgrade(config, "0016")

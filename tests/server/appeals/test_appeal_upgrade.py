"""A ledger of the version with one case a report is upgraded: ways, freed rounds, letters, standings."""

from __future__ import annotations

from datetime import timedelta

import pytest
from alembic import command
from sqlalchemy import text

from ledger.errors import ActionRefused
from ledger.protocol.encoding import day_floor
from ledger.protocol.public_ids import decode_id
from ledger.rules.appeals import Outcome
from ledger.server.appeals import consumer, staff_actions
from ledger.server.db import migrate
from ledger.server.db.engine import writing
from tests.server import log_oracle as oracle
from tests.server.appeals.rights_kit import file_for, somebody
from tests.server.appeals.test_appeals import ANNA, BEN, case_row, contest, session_of
from tests.server.conftest import LedgerFixture


def test_an_earlier_ledger_keeps_its_standings_and_gives_withdrawn_rounds_back(ledger: LedgerFixture) -> None:
    context, people = (
        ledger.rt.context,
        {name: somebody() for name in ("filed", "own", "taken back", "late", "reopened")},
    )
    reports = {name: ledger.report(ledger.acme, person, order=name) for name, person in people.items()}
    sessions = {name: session_of(ledger, person) for name, person in people.items()}
    cases = {"filed": file_for(ledger, ledger.bolt, people["filed"], reports["filed"]["id"])}
    for name in ("own", "taken back", "late", "reopened"):
        (cases[name],) = contest(ledger, people[name], reports[name])
    for name in ("taken back", "late"):
        consumer.withdraw(context, sessions[name], cases[name])
        consumer.reopen(context, sessions[name], cases[name], "After all.")
    consumer.withdraw(context, sessions["taken back"], cases["taken back"])
    for name in ("late", "reopened"):
        staff_actions.take(context, cases[name], ANNA)
        staff_actions.decide(context, cases[name], ANNA, Outcome.UNCONFIRMED, f"About {name}.")
    letter = consumer.own_letter(context, sessions["reopened"], cases["reopened"], "decided", "en").to_text()
    consumer.reopen(context, sessions["reopened"], cases["reopened"], "No.")
    standings = {name: ledger.lookup(person) for name, person in people.items()}

    config = migrate.alembic_config(ledger.rt.settings.database_url)
    command.downgrade(config, "0009")
    _as_it_was_stored(ledger, [cases["taken back"], cases["late"]])
    migrate.upgrade(ledger.rt.settings.database_url)

    rows = {name: case_row(ledger, case) for name, case in cases.items()}
    assert {name: row.filing_group for name, row in rows.items()} == dict.fromkeys(rows) | {"filed": "bolt-group"}
    assert {name: row.round for name, row in rows.items()} == dict.fromkeys(rows, 1) | {"reopened": 2}
    assert {name: row.withdrawals for name, row in rows.items()} == {
        "filed": 0, "own": 0, "taken back": 2, "late": 1, "reopened": 0,
    }  # fmt: skip
    assert all(row.suspends for row in rows.values())
    for name, person in people.items():
        answer = ledger.lookup(person)
        kept = ("tier", "points", "credit", "disputed", "events", "reasons")
        assert {member: answer[member] for member in kept} == {member: standings[name][member] for member in kept}
    logged = oracle.read_log(ledger.rt.engine, ledger.rt.policy)
    assert oracle.listings(ledger.rt.engine) == oracle.expected_listings(logged, day_floor(ledger.clock()))

    late = rows["late"]
    assert late.decided_at is not None
    assert (late.state, late.reopen_until) == ("decided", late.decided_at + timedelta(days=60))
    consumer.reopen(context, sessions["late"], cases["late"], "The round was never used.")
    assert contest(ledger, people["filed"], reports["filed"]) == [cases["filed"]], "the platform's case is taken over"
    (again,) = contest(ledger, people["taken back"], reports["taken back"])
    assert again != cases["taken back"]
    case, session = cases["reopened"], sessions["reopened"]
    assert consumer.own_letter(context, session, case, "decided", "en").to_text() != ""
    old = consumer.own_letter(context, session, case, "decided", "en", 1).to_text()
    assert "About reopened." in old
    assert old.split("\n\n")[1] == letter.split("\n\n")[1], "the same verdict, of the same day"
    staff_actions.take(context, case, BEN)
    staff_actions.decide(context, case, BEN, Outcome.UNCONFIRMED, "It stays.")
    with pytest.raises(ActionRefused):
        consumer.reopen(context, session, case, "A third time.")


def _as_it_was_stored(ledger: LedgerFixture, counted: list[str]) -> None:
    """Let a reopening after a withdrawal count as the second round, after which nothing was left."""
    ids = {decode_id("ap", case, ledger.rt.settings.service) for case in counted}
    with writing(ledger.rt.engine) as connection:
        for case in ids:
            given = {"case": case}
            begun = connection.execute(
                text("SELECT id FROM case_event WHERE case_id = :case AND action = 'reopen'"), given
            ).scalar_one()
            later = {**given, "begun": begun}
            connection.execute(text("UPDATE case_event SET round = 2 WHERE case_id = :case AND id >= :begun"), later)
            connection.execute(text("UPDATE case_handler SET round = 2 WHERE case_id = :case"), given)
            connection.execute(
                text("UPDATE appeal_case SET round = 2, reopen_until = NULL, state = 'closed' WHERE id = :case"), given
            )

"""Texts of people at every entrance of the service: pasted marks are dropped, and a text that shows nothing is refused
and changes nothing, least of all a clock."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ledger.errors import AppealInvalid, InvalidRequest
from ledger.rules.appeals import Outcome
from ledger.server.appeals import consumer, staff_actions
from ledger.server.appeals.case_changes import case_number, changing, load_case
from ledger.server.appeals.participants import Participant, Party, add_message
from ledger.server.db.engine import reading
from ledger.server.records import case_queries as store
from ledger.server.stats.platform_health import clean_reason
from ledger.server.texts.letters import Letter
from tests.server.appeals.contested import contest
from tests.server.appeals.test_appeals import ANNA, BEN, session_of
from tests.server.conftest import LedgerFixture

pytestmark = pytest.mark.one_engine
"""What the database does here, other tests do on both engines."""

PASTED, SHOWN = "\ufeff\u2068+86 138 0013 8000\u2069\x0bcall me\u200b", "+86 138 0013 8000\ncall me"
NOTHING = ("\u200b\u200b", "\u2066 \u2069\x0b\u3164", "")


def preview(ledger: LedgerFixture, case: str, reasons: str) -> Letter:
    """The letter of a decision that is being written."""
    with reading(ledger.rt.engine) as connection:
        row = store.case(connection, case_number(ledger.rt.context, case))
        assert row is not None
        return staff_actions.preview(
            connection, ledger.rt.context, row, ANNA, staff_actions.DraftDecision(Outcome.UPHELD, reasons), "en"
        )[0]


def test_every_entrance_cleans(ledger: LedgerFixture) -> None:
    context, person = ledger.rt.context, ledger.person()
    first, second = ledger.report(ledger.acme, person), ledger.report(ledger.bolt, person)
    session = session_of(ledger, person)
    (case,) = contest(ledger, person, first, statement=PASTED)

    def reporter(text: str) -> None:
        with changing(context) as batch:
            add_message(
                batch,
                load_case(batch, case_number(context, case)),
                Participant(Party.REPORTER, "acme", "acme-group"),
                text,
            )

    def texts() -> list[str]:
        with reading(ledger.rt.engine) as connection:
            events = store.events(connection, case_number(context, case))
        return [str(event.text) for event in events if event.text]

    staff_actions.take(context, case, ANNA)
    entrances: list[Callable[[str], object]] = [
        lambda text: consumer.add_message(context, session, case, text),
        lambda text: staff_actions.note(context, case, ANNA, text),
        lambda text: staff_actions.ask_reporter(context, case, ANNA, text),
        reporter,
        lambda text: staff_actions.ask_subject(context, case, ANNA, text),
        lambda text: consumer.add_message(context, session, case, text),
        lambda text: staff_actions.decide(context, case, ANNA, Outcome.UNCONFIRMED, text),
        lambda text: consumer.reopen(context, session, case, text),
    ]
    for number, entrance in enumerate(entrances):
        before = texts()
        for nothing in NOTHING:
            with pytest.raises(AppealInvalid):
                entrance(nothing)
        assert texts() == before, number
        entrance(PASTED)
        assert texts() == [*before, SHOWN], number
    assert texts()[0] == SHOWN

    others: list[Callable[[str], object]] = [
        lambda text: contest(ledger, person, second, statement=text),
        lambda text: consumer.add_statement(context, session, str(second["id"]), text, "en"),
        lambda text: preview(ledger, case, text),
        lambda text: staff_actions.extend(context, case, ANNA, text),
        lambda text: staff_actions.decline(context, case, BEN, text),
    ]
    for entrance in others:
        for nothing in NOTHING:
            with pytest.raises(AppealInvalid, match="shows nothing"):
                entrance(nothing)
    assert consumer.add_statement(context, session, str(second["id"]), PASTED, "en").text == SHOWN
    assert clean_reason(PASTED) == SHOWN.replace("\n", " ")
    with pytest.raises(InvalidRequest):
        clean_reason("a\u200b\u200bb")


def test_an_answer_that_shows_nothing_ends_no_clock(ledger: LedgerFixture) -> None:
    context, person = ledger.rt.context, ledger.person()
    (case,) = contest(ledger, person, ledger.report(ledger.acme, person))
    staff_actions.take(context, case, ANNA)
    asked = staff_actions.ask_reporter(context, case, ANNA, "Please send the carrier's record.")
    with pytest.raises(AppealInvalid, match="shows nothing ends no clock"), changing(context) as batch:
        row = load_case(batch, case_number(context, case))
        add_message(batch, row, Participant(Party.REPORTER, "acme", "acme-group"), "\u200b\u200b")
    with reading(ledger.rt.engine) as connection:
        after = store.case(connection, asked.id)
    assert after is not None
    assert (after.state, after.question_due_at) == ("awaiting_reporter", asked.question_due_at)


def test_a_note_of_nothing_is_no_note(ledger: LedgerFixture) -> None:
    context = ledger.rt.context
    (case,) = contest(ledger, ledger.person(), ledger.report(ledger.acme, ledger.person()))
    staff_actions.take(context, case, ANNA)
    staff_actions.hand_back(context, case, ANNA, "\u200b")
    with reading(ledger.rt.engine) as connection:
        assert store.events(connection, case_number(context, case))[-1].text is None

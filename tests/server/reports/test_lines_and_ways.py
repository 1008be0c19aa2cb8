"""Where lines of orders meet several cases about one report: the reporter's round, takeovers, and clocks."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import timedelta
from itertools import count

import pytest

from ledger.errors import LinkedReportInvalid
from ledger.protocol.encoding import day_floor, format_time
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.rules.conduct import Conduct
from ledger.rules.order_lines import LineState, replay
from ledger.server.appeals import consumer, participants, staff_actions
from ledger.server.appeals.case_changes import case_number, changing, load_case
from ledger.server.appeals.consumer import own_case, own_letter
from ledger.server.appeals.participants import Participant, Party, agree, concede
from ledger.server.db.engine import reading
from ledger.server.platforms.queries import outcome_counts
from ledger.server.records import case_queries as store
from ledger.server.records import order_line_queries as line_store
from ledger.server.records.queries import reports_by_id
from tests.server.appeals.rights_kit import FOREIGN, file_for, refusal
from tests.server.appeals.test_appeals import case_row, contest, session_of
from tests.server.conftest import LedgerFixture, LedgerSeed
from tests.server.reports.lines import PLACES, LedgerPart, farm, ledger_part, lost, record, shared_ledger, somebody

pytestmark = pytest.mark.one_engine

_staff = count(5000)


@pytest.fixture(scope="module", params=PLACES)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, seed: LedgerSeed
) -> Iterator[LedgerFixture]:
    yield from shared_ledger(request, tmp_path_factory.mktemp("ways"), seed)


@pytest.fixture
def ledger(shared: LedgerFixture) -> LedgerPart:
    return ledger_part(shared)


def decided(ledger: LedgerFixture, case: str, outcome: Outcome, conduct: Conduct | None = None) -> None:
    """Somebody who has not worked on the case decides it."""
    reviewer = Staff(next(_staff), "reviewer")
    staff_actions.take(ledger.rt.context, case, reviewer)
    staff_actions.decide(ledger.rt.context, case, reviewer, outcome, "It was looked into.", conduct=conduct)


def as_reporter(ledger: LedgerFixture) -> Participant:
    return Participant(Party.REPORTER, ledger.acme.name, ledger.acme.control_group)


def ask(ledger: LedgerFixture, case: str) -> None:
    """acme asks that the case is opened again."""
    with changing(ledger.rt.context) as batch:
        row = load_case(batch, case_number(ledger.rt.context, case))
        participants.ask_reopening(batch, row, as_reporter(ledger), secrets.token_bytes(32), "There is a video.")


def reporters_round(ledger: LedgerFixture, case: str) -> None:
    ask(ledger, case)
    staff_actions.grant_reopening(ledger.rt.context, case, Staff(next(_staff), "reviewer"), "The video is new.")


def line_of(ledger: LedgerFixture, number: int) -> LineState:
    with reading(ledger.rt.engine) as connection:
        row = reports_by_id(connection, [number])[number]
        order = (row.control_group, row.order_ref)
        return replay(line_store.histories(connection, [order])[order])


def test_a_report_is_opened_again_for_its_reporter_once_whatever_cases_there_are(ledger: LedgerPart) -> None:
    person = somebody()
    report = ledger.report(ledger.acme, person, order="1")
    theirs = file_for(ledger, FOREIGN[0], person, report["id"])
    decided(ledger, theirs, Outcome.UNCONFIRMED)
    (own,) = contest(ledger, person, report)
    decided(ledger, own, Outcome.UNCONFIRMED)
    ask(ledger, theirs)
    assert refusal(lambda: ask(ledger, own)) == "action_refused"
    assert refusal(lambda: ask(ledger, theirs)) == "action_refused"


def test_a_report_upheld_for_new_evidence_stands_though_another_case_said_unconfirmed(ledger: LedgerPart) -> None:
    person = somebody()
    report = ledger.report(ledger.acme, person, order="1")
    theirs = file_for(ledger, FOREIGN[0], person, report["id"])
    decided(ledger, theirs, Outcome.UNCONFIRMED)
    (own,) = contest(ledger, person, report)
    decided(ledger, own, Outcome.UNCONFIRMED)
    assert line_of(ledger, report["entry_index"]).closed_by is not None
    reporters_round(ledger, theirs)
    assert ledger.lookup(person)["events"] == 0
    decided(ledger, theirs, Outcome.UPHELD)
    assert ledger.lookup(person)["events"] == 1
    line = line_of(ledger, report["entry_index"])
    assert line.stands(day_floor(ledger.clock()))
    assert line.live is not None
    assert not line.live.unconfirmed
    # The person still has the reopening of their own case, which suspends the report.
    consumer.reopen(ledger.rt.context, session_of(ledger, person), own, "No.")
    assert ledger.lookup(person)["disputed"]
    decided(ledger, own, Outcome.AMENDED, Conduct.WARDROBING)
    assert line_of(ledger, report["entry_index"]).closed_by == case_row(ledger, own).id


def test_no_linked_accounts_rest_on_a_report_whose_newest_decision_is_unconfirmed(ledger: LedgerPart) -> None:
    """The older decision of another case does not hide it: reports that rest on one without points have none either."""
    person, other = somebody(), somebody()
    report, second = ledger.report(ledger.acme, person, order="1"), ledger.report(ledger.acme, other, order="2")
    (own,) = contest(ledger, person, report)
    decided(ledger, own, Outcome.UPHELD)
    decided(ledger, file_for(ledger, FOREIGN[0], person, report["id"]), Outcome.UPHELD)
    consumer.reopen(ledger.rt.context, session_of(ledger, person), own, "Look again.")
    decided(ledger, own, Outcome.UNCONFIRMED)
    with pytest.raises(LinkedReportInvalid):
        farm(ledger, [report["id"], second["id"]], person, order="3")
    assert ledger.lookup(person)["points"] == 0


def test_what_a_platform_agreed_to_is_open_again_when_the_person_takes_the_case_over(ledger: LedgerPart) -> None:
    person, before = somebody(), lost(ledger)
    report = ledger.report(ledger.acme, person, order="1")
    case = file_for(ledger, FOREIGN[0], person, report["id"])
    with changing(ledger.rt.context) as batch:
        row = concede(
            batch, load_case(batch, case_number(ledger.rt.context, case)), as_reporter(ledger), Conduct.WARDROBING
        )
        agree(batch, row, Participant(Party.SUBJECT, FOREIGN[0].name, FOREIGN[0].control_group))
    assert contest(ledger, person, report) == [case]
    view = own_case(ledger.rt.context, session_of(ledger, person), case)
    assert (view["concession"]["agreed_at"], view["can_agree"]) == (None, True)
    decided(ledger, case, Outcome.AMENDED, Conduct.WARDROBING)
    with reading(ledger.rt.engine) as connection:
        counts = outcome_counts(connection, ledger.clock() - timedelta(days=700))["acme-group"]
    assert counts.get("amended", 0) >= 1  # it enters the weight: the person did not agree
    assert lost(ledger) == before


def test_letters_of_a_round_of_the_reporters_say_whose_it_is(ledger: LedgerPart) -> None:
    person = somebody()
    report = ledger.report(ledger.acme, person, order="1")
    (own,) = contest(ledger, person, report)
    decided(ledger, own, Outcome.UNCONFIRMED)
    reporters_round(ledger, own)
    session = session_of(ledger, person)
    text = own_letter(ledger.rt.context, session, own, "received", "en").to_text()
    assert "The platform that made the report has new evidence" in text
    for untrue in ("You asked us", "Take your appeal back", "see that you contest it"):
        assert untrue not in text
    first = own_letter(ledger.rt.context, session, own, "received", "en", 1).to_text()
    assert "We have received your appeal" in first
    assert record(ledger, person)[report["id"]]["status"] == "unconfirmed"


@pytest.mark.parametrize("how", ["replaced", "withdrawn"])
def test_an_earlier_report_of_a_contested_order_counts_for_what_is_like_it(ledger: LedgerPart, how: str) -> None:
    """The reporter names one identifier, then another in a further report of the order; the person contests that."""
    (phone, wallet) = somebody()
    first = ledger.report(ledger.acme, [phone], order="1")
    told = {"notice_sent_at": format_time(ledger.clock())}
    if how == "withdrawn":
        ledger.withdraw(ledger.acme, first["id"])
        second = ledger.report(ledger.acme, [wallet], order="1", **told)
    else:
        second = ledger.report(ledger.acme, [wallet], order="1", replaces=first["id"], **told)
    contest(ledger, [phone, wallet], second)
    ledger.withdraw(ledger.acme, second["id"])
    again = ledger.report(ledger.acme, [phone], order="2")
    assert again["status"] == "held"
    assert ledger.lookup([phone, wallet])["events"] == 0
    assert first["id"] in record(ledger, [phone])


def test_open_cases_about_held_reports_do_not_keep_the_clocks_busy(ledger: LedgerPart) -> None:
    """A held report has no listings, as an expired one has none. Its case is due for its own dates only."""
    person = somebody()
    report = ledger.report(ledger.acme, person, order="1")
    contest(ledger, person, report)
    held = ledger.report(ledger.acme, person, order="2")
    assert held["status"] == "held"
    contest(ledger, person, held)
    now = ledger.clock()
    with reading(ledger.rt.engine) as connection:
        due = store.due_cases(connection, now, day_floor(now), 10_000)
    assert held["entry_index"] not in {row.report_id for row in due}

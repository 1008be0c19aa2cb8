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
from ledger.rules.order_lines import Line, replay
from ledger.server.appeals import reopenings, subject
from ledger.server.appeals import staff_actions as desk
from ledger.server.appeals.concessions import agree, concede
from ledger.server.appeals.parties import Party, Speaker
from ledger.server.appeals.subject_cases import own_case, own_letter
from ledger.server.appeals.transaction import case_number, changing, load_case
from ledger.server.db.engine import reading
from ledger.server.platforms.queries import outcome_counts
from ledger.server.records import case_queries as store
from ledger.server.records import order_line_queries as line_store
from ledger.server.records.queries import reports_by_id
from tests.server.appeals.rights_kit import FOREIGN, file_for, refusal
from tests.server.appeals.test_appeals import case_row, contest, session_of
from tests.server.conftest import Founding, Town
from tests.server.reports.lines import PLACES, Street, farm, lost, record, shared_town, somebody, street

pytestmark = pytest.mark.one_engine

_staff = count(5000)


@pytest.fixture(scope="module", params=PLACES)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, founding: Founding
) -> Iterator[Town]:
    yield from shared_town(request, tmp_path_factory.mktemp("ways"), founding)


@pytest.fixture
def town(shared: Town) -> Street:
    return street(shared)


def decided(town: Town, case: str, outcome: Outcome, conduct: Conduct | None = None) -> None:
    """Somebody who has not worked on the case decides it."""
    reviewer = Staff(next(_staff), "reviewer")
    desk.take(town.rt.context, case, reviewer)
    desk.decide(town.rt.context, case, reviewer, outcome, "It was looked into.", conduct=conduct)


def as_reporter(town: Town) -> Speaker:
    return Speaker(Party.REPORTER, town.acme.name, town.acme.control_group)


def ask(town: Town, case: str) -> None:
    """acme asks that the case is opened again."""
    with changing(town.rt.context) as batch:
        row = load_case(batch, case_number(town.rt.context, case))
        reopenings.ask_reopening(batch, row, as_reporter(town), secrets.token_bytes(32), "There is a video.")


def reporters_round(town: Town, case: str) -> None:
    ask(town, case)
    reopenings.grant(town.rt.context, case, Staff(next(_staff), "reviewer"), "The video is new.")


def line_of(town: Town, number: int) -> Line:
    with reading(town.rt.engine) as connection:
        row = reports_by_id(connection, [number])[number]
        order = (row.control_group, row.order_ref)
        return replay(line_store.histories(connection, [order])[order])


def test_a_report_is_opened_again_for_its_reporter_once_whatever_cases_there_are(town: Street) -> None:
    person = somebody()
    report = town.report(town.acme, person, order="1")
    theirs = file_for(town, FOREIGN[0], person, report["id"])
    decided(town, theirs, Outcome.UNCONFIRMED)
    (own,) = contest(town, person, report)
    decided(town, own, Outcome.UNCONFIRMED)
    ask(town, theirs)
    assert refusal(lambda: ask(town, own)) == "action_refused"
    assert refusal(lambda: ask(town, theirs)) == "action_refused"


def test_a_report_upheld_for_new_evidence_stands_though_another_case_said_unconfirmed(town: Street) -> None:
    person = somebody()
    report = town.report(town.acme, person, order="1")
    theirs = file_for(town, FOREIGN[0], person, report["id"])
    decided(town, theirs, Outcome.UNCONFIRMED)
    (own,) = contest(town, person, report)
    decided(town, own, Outcome.UNCONFIRMED)
    assert line_of(town, report["entry_index"]).closed_by is not None
    reporters_round(town, theirs)
    assert town.lookup(person)["events"] == 0
    decided(town, theirs, Outcome.UPHELD)
    assert town.lookup(person)["events"] == 1
    line = line_of(town, report["entry_index"])
    assert line.stands(day_floor(town.clock()))
    assert line.live is not None
    assert not line.live.unconfirmed
    # The person still has the reopening of their own case, which suspends the report.
    subject.contest_again(town.rt.context, session_of(town, person), own, "No.")
    assert town.lookup(person)["disputed"]
    decided(town, own, Outcome.AMENDED, Conduct.WARDROBING)
    assert line_of(town, report["entry_index"]).closed_by == case_row(town, own).id


def test_no_linked_accounts_rest_on_a_report_whose_newest_decision_is_unconfirmed(town: Street) -> None:
    """The older decision of another case does not hide it: reports that rest on one without points have none either."""
    person, other = somebody(), somebody()
    report, second = town.report(town.acme, person, order="1"), town.report(town.acme, other, order="2")
    (own,) = contest(town, person, report)
    decided(town, own, Outcome.UPHELD)
    decided(town, file_for(town, FOREIGN[0], person, report["id"]), Outcome.UPHELD)
    subject.contest_again(town.rt.context, session_of(town, person), own, "Look again.")
    decided(town, own, Outcome.UNCONFIRMED)
    with pytest.raises(LinkedReportInvalid):
        farm(town, [report["id"], second["id"]], person, order="3")
    assert town.lookup(person)["points"] == 0


def test_what_a_platform_agreed_to_is_open_again_when_the_person_takes_the_case_over(town: Street) -> None:
    person, before = somebody(), lost(town)
    report = town.report(town.acme, person, order="1")
    case = file_for(town, FOREIGN[0], person, report["id"])
    with changing(town.rt.context) as batch:
        row = concede(
            batch, load_case(batch, case_number(town.rt.context, case)), as_reporter(town), Conduct.WARDROBING
        )
        agree(batch, row, Speaker(Party.SUBJECT, FOREIGN[0].name, FOREIGN[0].control_group))
    assert contest(town, person, report) == [case]
    view = own_case(town.rt.context, session_of(town, person), case)
    assert (view["concession"]["agreed_at"], view["can_agree"]) == (None, True)
    decided(town, case, Outcome.AMENDED, Conduct.WARDROBING)
    with reading(town.rt.engine) as connection:
        counts = outcome_counts(connection, town.clock() - timedelta(days=700))["acme-group"]
    assert counts.get("amended", 0) >= 1  # it enters the weight: the person did not agree
    assert lost(town) == before


def test_letters_of_a_round_of_the_reporters_say_whose_it_is(town: Street) -> None:
    person = somebody()
    report = town.report(town.acme, person, order="1")
    (own,) = contest(town, person, report)
    decided(town, own, Outcome.UNCONFIRMED)
    reporters_round(town, own)
    session = session_of(town, person)
    text = own_letter(town.rt.context, session, own, "received", "en").to_text()
    assert "The platform that made the report has new evidence" in text
    for untrue in ("You asked us", "Take your appeal back", "see that you contest it"):
        assert untrue not in text
    first = own_letter(town.rt.context, session, own, "received", "en", 1).to_text()
    assert "We have received your appeal" in first
    assert record(town, person)[report["id"]]["status"] == "unconfirmed"


@pytest.mark.parametrize("how", ["replaced", "withdrawn"])
def test_an_earlier_report_of_a_contested_order_counts_for_what_is_like_it(town: Street, how: str) -> None:
    """The reporter names one identifier, then another in a further report of the order; the person contests that."""
    (phone, wallet) = somebody()
    first = town.report(town.acme, [phone], order="1")
    told = {"notice_sent_at": format_time(town.clock())}
    if how == "withdrawn":
        town.withdraw(town.acme, first["id"])
        second = town.report(town.acme, [wallet], order="1", **told)
    else:
        second = town.report(town.acme, [wallet], order="1", replaces=first["id"], **told)
    contest(town, [phone, wallet], second)
    town.withdraw(town.acme, second["id"])
    again = town.report(town.acme, [phone], order="2")
    assert again["status"] == "held"
    assert town.lookup([phone, wallet])["events"] == 0
    assert first["id"] in record(town, [phone])


def test_open_cases_about_held_reports_do_not_keep_the_clocks_busy(town: Street) -> None:
    """A held report has no listings, as an expired one has none. Its case is due for its own dates only."""
    person = somebody()
    report = town.report(town.acme, person, order="1")
    contest(town, person, report)
    held = town.report(town.acme, person, order="2")
    assert held["status"] == "held"
    contest(town, person, held)
    now = town.clock()
    with reading(town.rt.engine) as connection:
        due = store.due_cases(connection, now, day_floor(now), 10_000)
    assert held["entry_index"] not in {row.report_id for row in due}

"""Appeals through the service, on both engines: what each step does to the standing, the log and the parties' views."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from ledger.errors import (
    ActionRefused,
    CaseExists,
    CaseTaken,
    ConflictOfInterest,
    DecisionInvalid,
    LedgerError,
    NotFound,
)
from ledger.protocol.encoding import format_time
from ledger.protocol.public_ids import decode_id, encode_id
from ledger.protocol.tags import tag
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.rules.conduct import Conduct
from ledger.rules.webhooks import WebhookType
from ledger.server.appeals import consumer, staff_actions
from ledger.server.appeals.case_changes import case_number, changing, load_case, run_clocks
from ledger.server.appeals.consumer_record import own_record
from ledger.server.appeals.participants import Participant, Party, add_message
from ledger.server.appeals.sessions import SubjectSessionRow
from ledger.server.db.engine import reading
from ledger.server.db.tables.log import EntryBody
from ledger.server.db.tables.webhooks import WebhookMessage
from ledger.server.records import case_queries as store
from ledger.server.records.case_queries import CaseRow
from ledger.server.reports.reports import get_report
from ledger.server.settings import Settings
from ledger.server.webhooks import endpoints
from tests.server.conftest import LedgerFixture, Subjects
from tests.support import evidence, with_settings

pytestmark = pytest.mark.one_engine

ANNA, BEN, CLEO = Staff(1, "reviewer"), Staff(2, "reviewer"), Staff(3, "supervisor")
GRAVE: dict[str, Any] = {"conduct": "switched_return", "evidence": evidence("serial_mismatch", "intake_photo")}


def session_of(ledger: LedgerFixture, person: Subjects, platform: str = "bolt") -> SubjectSessionRow:
    """A session of `person`, as the platform would have it opened."""
    subjects = tuple((kind.value, tag(kind, element)) for kind, element in person)
    return SubjectSessionRow(
        1, platform, f"{platform}-group", "CN", "en", ledger.rt.keys.epoch, subjects, None, ledger.clock()
    )


def contest(
    ledger: LedgerFixture, person: Subjects, *reports: dict[str, Any], grounds: str = "wrong_facts"
) -> list[str]:
    """File an appeal; the public ids of the cases."""
    session = session_of(ledger, person)
    ids = [report["id"] for report in reports]
    rows = consumer.open_cases(ledger.rt.context, session, ids, grounds, "The parcel came broken.", "en")
    return [public(ledger, row) for row in rows]


def public(ledger: LedgerFixture, row: CaseRow) -> str:
    return encode_id("ap", row.id, ledger.rt.settings.service)


def case_row(ledger: LedgerFixture, case: str) -> CaseRow:
    with reading(ledger.rt.engine) as connection:
        row = store.case(connection, decode_id("ap", case, ledger.rt.settings.service))
    assert row is not None
    return row


def bodies(ledger: LedgerFixture, *types: str) -> list[dict[str, Any]]:
    """Bodies of the log's private entries of these types, in order."""
    with reading(ledger.rt.engine) as connection:
        rows = connection.execute(select(EntryBody.type, EntryBody.body).order_by(EntryBody.entry_index))
        return [json.loads(body) for type_, body in rows if type_ in types]


def test_an_appeal_stops_the_report_from_counting_at_once(ledger: LedgerFixture) -> None:
    person = ledger.person()
    report = ledger.report(ledger.acme, person)
    assert ledger.lookup(person)["tier"] == "watch"
    (case,) = contest(ledger, person, report)
    answer = ledger.lookup(person)
    assert (answer["tier"], answer["disputed"], answer["events"]) == ("clear", True, 0)
    assert get_report(ledger.rt.context, ledger.acme.member(), report["id"])["status"] == "disputed"
    (entry,) = bodies(ledger, "dispute")
    assert (entry["report"], entry["case"], entry["grounds"]) == (report["id"], case, "wrong_facts")
    assert "broken" not in json.dumps(entry)


def test_nobody_contests_a_report_about_somebody_else(ledger: LedgerFixture) -> None:
    report = ledger.report(ledger.acme, ledger.person())
    with pytest.raises(NotFound):
        contest(ledger, ledger.person(1), report)
    assert ledger.lookup(ledger.person())["tier"] == "watch"


def test_a_report_has_one_case(ledger: LedgerFixture) -> None:
    person = ledger.person()
    report = ledger.report(ledger.acme, person)
    (case,) = contest(ledger, person, report)
    with pytest.raises(CaseExists) as refused:
        contest(ledger, person, report)
    assert refused.value.details["case"] == case


OUTCOMES: dict[Outcome, tuple[str, str, dict[str, Any]]] = {
    Outcome.UPHELD: ("watch", "counting", {}),
    Outcome.AMENDED: ("watch", "counting", {"conduct": Conduct.WARDROBING}),
    Outcome.OVERTURNED: ("clear", "overturned", {}),
    Outcome.UNCONFIRMED: ("clear", "unconfirmed", {}),
    Outcome.VICTIM: ("clear", "victim", {}),
    Outcome.UNLINKED: ("clear", "counting", {"slots": [0]}),
}


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_its_effect(ledger: LedgerFixture, outcome: Outcome) -> None:
    tier, status, more = OUTCOMES[outcome]
    person = ledger.person()
    report = ledger.report(ledger.acme, person)
    (case,) = contest(ledger, person, report)
    staff_actions.take(ledger.rt.context, case, ANNA)
    staff_actions.decide(ledger.rt.context, case, ANNA, outcome, "Because of the carrier's record.", **more)
    seen = person[:1] if outcome is Outcome.UNLINKED else person
    answer = ledger.lookup(seen)
    assert (answer["tier"], answer["disputed"]) == (tier, False)
    assert answer["protected"] == (outcome is Outcome.VICTIM)
    view = get_report(ledger.rt.context, ledger.acme.member(), report["id"])
    assert (view["status"], view["appeal"]["outcome"]) == (status, outcome.value)
    entry = bodies(ledger, "resolution")[-1]
    assert (entry["outcome"], entry["staff"]) == (outcome.value, [1])
    if outcome is Outcome.UNLINKED:
        assert ledger.lookup(person[1:])["tier"] == "watch", "the other identifier keeps the report"
    if outcome is Outcome.AMENDED:
        assert view["expires_at"] < report["expires_at"], "a lighter conduct is kept for less time"


def test_a_grave_report_is_upheld_by_two_people(ledger: LedgerFixture) -> None:
    person = ledger.person()
    report = ledger.report(ledger.acme, person, **GRAVE)
    (case,) = contest(ledger, person, report)
    context = ledger.rt.context
    staff_actions.take(context, case, ANNA)
    row = staff_actions.decide(context, case, ANNA, Outcome.UPHELD, "The serial numbers differ.")
    assert row.state == "awaiting_signoff"
    assert ledger.lookup(person)["disputed"], "nothing counts before the second signature"
    with pytest.raises(ConflictOfInterest):
        staff_actions.sign(context, case, ANNA)
    row = staff_actions.sign(context, case, BEN)
    assert (row.state, row.outcome, row.reasons) == ("decided", "upheld", "The serial numbers differ.")
    assert ledger.lookup(person)["tier"] == "watch"
    assert bodies(ledger, "resolution")[-1]["staff"] == [1, 2]


def test_who_belongs_to_the_reporter_decides_nothing_about_it(ledger: LedgerFixture) -> None:
    person = ledger.person()
    (case,) = contest(ledger, person, ledger.report(ledger.acme, person))
    with pytest.raises(ConflictOfInterest):
        staff_actions.take(ledger.rt.context, case, Staff(9, "reviewer", "acme-group"))
    with pytest.raises(ActionRefused):
        staff_actions.take(ledger.rt.context, case, Staff(9, "auditor"))
    staff_actions.take(ledger.rt.context, case, ANNA)
    with pytest.raises(CaseTaken):
        staff_actions.decide(ledger.rt.context, case, BEN, Outcome.OVERTURNED, "No.")
    with pytest.raises(ActionRefused):
        staff_actions.take(ledger.rt.context, case, BEN)


def test_silence_of_the_reporter_overturns_and_costs_weight(ledger: LedgerFixture) -> None:
    person = ledger.person()
    report = ledger.report(ledger.acme, person)
    (case,) = contest(ledger, person, report)
    staff_actions.take(ledger.rt.context, case, ANNA)
    asked = staff_actions.ask_reporter(ledger.rt.context, case, ANNA, "Please send the carrier's record.")
    assert asked.question_due_at is not None
    ledger.clock.moment = asked.question_due_at - timedelta(seconds=1)
    assert run_clocks(ledger.rt.context) == 0
    ledger.clock.moment = asked.question_due_at
    assert run_clocks(ledger.rt.context) == 1
    assert get_report(ledger.rt.context, ledger.acme.member(), report["id"])["status"] == "overturned"
    ledger.rt.members.refresh()
    assert ledger.rt.members.weights()["acme-group"] == 40, "weights are taken anew at UTC midnight"
    ledger.clock.moment += timedelta(days=1)
    assert ledger.rt.members.weights()["acme-group"] == 35, "1 - 1 / 11, rounded down to eighths"


def test_an_overdue_case_takes_the_mark_away_and_keeps_the_report_out(ledger: LedgerFixture) -> None:
    person = ledger.person()
    report = ledger.report(ledger.acme, person)
    (case,) = contest(ledger, person, report)
    due = case_row(ledger, case).due_at
    ledger.clock.moment = due
    assert run_clocks(ledger.rt.context) == 1
    answer = ledger.lookup(person)
    assert (answer["tier"], answer["disputed"]) == ("clear", False)
    assert bodies(ledger, "resolution")[-1]["outcome"] == "overdue"
    assert run_clocks(ledger.rt.context) == 0, "it happens once"
    staff_actions.take(ledger.rt.context, case, ANNA)
    staff_actions.decide(ledger.rt.context, case, ANNA, Outcome.UPHELD, "Late, but sure.")
    assert ledger.lookup(person)["tier"] == "watch"


def test_a_reporter_that_withdraws_what_is_contested_has_lost(ledger: LedgerFixture) -> None:
    person = ledger.person()
    report = ledger.report(ledger.acme, person)
    (case,) = contest(ledger, person, report)
    view = ledger.withdraw(ledger.acme, report["id"])
    assert view["appeal"]["state"] == "closed"
    assert case_row(ledger, case).state == "closed"
    ledger.rt.members.refresh()
    ledger.clock.moment += timedelta(days=1)
    assert ledger.rt.members.weights()["acme-group"] == 35


def test_it_is_reopened_once_for_somebody_new_and_never_gets_worse(ledger: LedgerFixture) -> None:
    context, person = ledger.rt.context, ledger.person()
    report = ledger.report(ledger.acme, person)
    (case,) = contest(ledger, person, report)
    session = session_of(ledger, person)
    staff_actions.take(context, case, ANNA)
    staff_actions.decide(context, case, ANNA, Outcome.UNCONFIRMED, "It cannot be shown.")
    consumer.reopen(context, session, case, "I want it gone.")
    assert ledger.lookup(person)["disputed"]
    with pytest.raises(ConflictOfInterest):
        staff_actions.take(context, case, ANNA)
    staff_actions.take(context, case, BEN)
    with pytest.raises(DecisionInvalid):
        staff_actions.decide(context, case, BEN, Outcome.UPHELD, "Rather yes.")
    staff_actions.decide(context, case, BEN, Outcome.UNCONFIRMED, "It stays like this.")
    assert ledger.lookup(person)["tier"] == "clear"
    with pytest.raises(ActionRefused):
        consumer.reopen(context, session, case, "Again!")


def test_an_appeal_that_is_taken_back_leaves_things_as_they_were(ledger: LedgerFixture) -> None:
    context, person = ledger.rt.context, ledger.person()
    report = ledger.report(ledger.acme, person)
    (case,) = contest(ledger, person, report)
    consumer.withdraw(context, session_of(ledger, person), case)
    assert ledger.lookup(person)["tier"] == "watch"
    assert case_row(ledger, case).state == "withdrawn"


def test_the_own_record_names_the_opener_only(ledger: LedgerFixture) -> None:
    person = ledger.person()
    mine = ledger.report(ledger.bolt, person, order="o1")
    other = ledger.report(ledger.acme, person, order="o2", amount_minor=777)
    ledger.lookup(person)
    (case,) = contest(ledger, person, other)
    consumer.add_statement(ledger.rt.context, session_of(ledger, person), mine["id"], "I sent it back.", "en")
    record = own_record(ledger.rt.context, ledger.rt.members.weights(), session_of(ledger, person))
    assert {report["id"]: report["reported_by"] for report in record["reports"]} == {
        mine["id"]: "bolt",
        other["id"]: None,
    }
    assert "acme" not in json.dumps(record)
    by_id = {report["id"]: report for report in record["reports"]}
    assert by_id[other["id"]]["case"]["id"] == case
    assert by_id[mine["id"]]["statement"]["text"] == "I sent it back."
    assert by_id[mine["id"]]["evidence"] == ["carrier_record"]
    assert record["lookups"][0]["asked_by"] == "bolt"
    assert ledger.lookup(person)["has_statement"]


def test_expiry_closes_a_case(ledger: LedgerFixture) -> None:
    person = ledger.person()
    old = format_time(ledger.clock() - timedelta(days=88))
    report = ledger.report(
        ledger.acme, person, conduct="wardrobing", evidence=evidence("intake_photo", "policy_clause"), act_ended_at=old
    )
    (case,) = contest(ledger, person, report)
    ledger.clock.moment += timedelta(days=3)
    assert run_clocks(ledger.rt.context) == 1
    assert case_row(ledger, case).state == "closed"


def test_errors_leave_nothing_behind(ledger: LedgerFixture) -> None:
    person = ledger.person()
    report = ledger.report(ledger.acme, person)
    with pytest.raises(LedgerError):
        contest(ledger, person, report, {"id": "rp_nonsense"})
    assert bodies(ledger, "dispute") == []
    assert not ledger.lookup(person)["disputed"]


def test_both_platforms_are_told_and_nothing_more_than_they_may_know(settings: Settings, ledger: LedgerFixture) -> None:
    rt = with_settings(ledger.rt, settings.model_copy(update={"webhook_allow_private": True}))
    types = [type_.value for type_ in WebhookType if type_.value.startswith(("appeal", "report"))]
    for platform in (ledger.acme, ledger.bolt):
        endpoints.create(rt.webhooks, platform.member(), "http://127.0.0.1:9/", types)
    person = ledger.person()
    report = ledger.report(ledger.acme, person)
    (case,) = contest(ledger, person, report)
    staff_actions.take(rt.context, case, ANNA)
    staff_actions.ask_reporter(rt.context, case, ANNA, "A secret question?")
    with changing(rt.context) as batch:
        participant = Participant(Party.REPORTER, "acme", "acme-group")
        add_message(batch, load_case(batch, case_number(rt.context, case)), participant, "A secret answer.")
    staff_actions.decide(rt.context, case, ANNA, Outcome.OVERTURNED, "A secret reason.")
    with reading(rt.engine) as connection:
        messages = connection.execute(
            select(WebhookMessage.platform, WebhookMessage.type, WebhookMessage.body).order_by(WebhookMessage.id)
        ).all()
    assert [(name, type_) for name, type_, _ in messages] == [
        ("acme", "appeal.opened"),
        ("bolt", "appeal.opened"),
        ("acme", "appeal.question_asked"),
        ("acme", "appeal.decided"),
        ("bolt", "appeal.decided"),
        ("acme", "report.voided"),
    ]
    for name, _, body in messages:
        assert "secret" not in body
        assert case in body or report["id"] in body
        assert name == "acme" or report["id"] not in body
        assert {"acme": "bolt", "bolt": "acme"}[name] not in body

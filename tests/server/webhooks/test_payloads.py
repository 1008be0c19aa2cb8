"""The webhooks that each platform receives over the course of an appeal: real messages are the rows of their events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, select

from ledger.rules.appeals import Outcome
from ledger.rules.webhooks import SUBSCRIBABLE, MessageSource, Recipient, WebhookType, message_body
from ledger.server.appeals import consumer, staff_actions
from ledger.server.appeals.case_changes import case_number, changing, load_case
from ledger.server.appeals.participants import Participant, Party, add_message
from ledger.server.db.engine import reading
from ledger.server.db.tables.webhooks import WebhookMessage
from ledger.server.webhooks import endpoints
from tests.server.appeals.test_appeals import ANNA, public, session_of
from tests.server.conftest import LedgerFixture, LedgerSeed, Subjects
from tests.server.reports.lines import PLACES, LedgerPart, decide, farm, ledger_part, shared_ledger, somebody
from tests.support import Platform, with_settings

Received = list[tuple[str, str, dict[str, Any]]]


@pytest.fixture(scope="module", params=PLACES[:1])
def base_ledger(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, seed: LedgerSeed
) -> Iterator[LedgerFixture]:
    for ledger in shared_ledger(request, tmp_path_factory.mktemp("ledger"), seed):
        ledger.rt.sender.close()
        for platform in (ledger.acme, ledger.bolt):
            endpoint(ledger, platform, *SUBSCRIBABLE)
        yield ledger


@pytest.fixture
def ledger(base_ledger: LedgerFixture) -> LedgerPart:
    """This test's part of the ledger that all tests here share."""
    return ledger_part(base_ledger)


def endpoint(ledger: LedgerFixture, platform: Platform, *types: str) -> str:
    """Register an endpoint that receives nothing, and return its id."""
    rt = with_settings(ledger.rt, ledger.rt.settings.model_copy(update={"webhook_allow_private": True}))
    return str(endpoints.create(rt.webhooks, platform.member(), "http://127.0.0.1:9/", types)["id"])


def contest(ledger: LedgerFixture, person: Subjects, report: dict[str, Any], through: str = "bolt") -> str:
    """File an appeal through a platform, and return the case's id."""
    session = session_of(ledger, person, through)
    (row,) = consumer.open_cases(ledger.rt.context, session, [report["id"]], "wrong_facts", "It came broken.", "en")
    return public(ledger, row)


class Reading:
    """The messages that were written since this was made, each checked against its event's row."""

    def __init__(self, ledger: LedgerFixture) -> None:
        self.ledger = ledger
        with reading(ledger.rt.engine) as connection:
            self.last = connection.scalar(select(func.max(WebhookMessage.id))) or 0

    def received(self) -> Received:
        """Return (platform, type and recipient, data) of each message, in order."""
        query = select(WebhookMessage.platform, WebhookMessage.type, WebhookMessage.body)
        with reading(self.ledger.rt.engine) as connection:
            rows = connection.execute(query.where(WebhookMessage.id > self.last).order_by(WebhookMessage.id)).all()
        settings, messages = self.ledger.rt.settings, []
        for platform, type_, body in rows:
            document = json.loads(body)
            recipient = Recipient(document["recipient"])
            source = MessageSource(settings.service, settings.environment)
            event = WebhookType(type_)
            assert body == message_body(event, recipient, source, self.ledger.clock(), document["data"])
            messages.append((platform, f"{type_} {recipient}", document["data"]))
        return messages


def test_an_appeal_from_its_opening_to_its_decision(ledger: LedgerPart) -> None:
    person, rt = somebody(), ledger.rt
    report, read = ledger.report(ledger.acme, person), Reading(ledger)
    case = contest(ledger, person, report)
    staff_actions.take(rt.context, case, ANNA)
    staff_actions.ask_reporter(rt.context, case, ANNA, "A secret question?")
    with changing(rt.context) as batch:
        row = load_case(batch, case_number(rt.context, case))
        add_message(batch, row, Participant(Party.REPORTER, "acme", "acme-group"), "A secret answer.")
    staff_actions.ask_subject(rt.context, case, ANNA, "A secret question?")
    consumer.add_message(rt.context, session_of(ledger, person), case, "A secret answer.")
    staff_actions.decide(rt.context, case, ANNA, Outcome.OVERTURNED, "A secret reason.")
    mine = {"appeal": case, "report": report["id"]}
    assert read.received() == [
        ("acme", "appeal.opened reporter", {**mine, "state": "submitted"}),
        ("bolt", "appeal.opened filer", {"appeal": case, "state": "submitted"}),
        ("acme", "appeal.question_asked reporter", {**mine, "state": "awaiting_reporter", "party": "reporter"}),
        ("bolt", "appeal.question_asked filer", {"appeal": case, "state": "awaiting_subject", "party": "subject"}),
        ("acme", "appeal.decided reporter", {**mine, "state": "decided"}),
        ("bolt", "appeal.decided filer", {"appeal": case, "state": "decided"}),
        ("acme", "report.voided reporter", {"report": report["id"], "reason": "overturned"}),
    ]


def test_an_appeal_that_is_taken_back_is_not_said_to_be_decided(ledger: LedgerPart) -> None:
    person = somebody()
    report, read = ledger.report(ledger.acme, person), Reading(ledger)
    case = contest(ledger, person, report)
    consumer.withdraw(ledger.rt.context, session_of(ledger, person), case)
    assert read.received()[2:] == [
        ("acme", "appeal.ended reporter", {"appeal": case, "report": report["id"], "state": "withdrawn"}),
        ("bolt", "appeal.ended filer", {"appeal": case, "state": "withdrawn"}),
    ]
    consumer.reopen(ledger.rt.context, session_of(ledger, person), case, "Once more.")
    assert read.received()[4:] == [
        ("acme", "appeal.opened reporter", {"appeal": case, "report": report["id"], "state": "submitted"}),
        ("bolt", "appeal.opened filer", {"appeal": case, "state": "submitted"}),
    ]


@pytest.mark.parametrize("decided", [False, True], ids=["open", "decided"])
def test_an_appeal_whose_report_is_taken_back_ended_without_a_decision(ledger: LedgerPart, decided: bool) -> None:
    person = somebody()
    report = ledger.report(ledger.acme, person)
    case = contest(ledger, person, report)
    if decided:
        decide(ledger, case, Outcome.UNCONFIRMED)
    read = Reading(ledger)
    ledger.withdraw(ledger.acme, report["id"])
    assert read.received() == [
        ("acme", "appeal.ended reporter", {"appeal": case, "report": report["id"], "state": "closed"}),
        ("bolt", "appeal.ended filer", {"appeal": case, "state": "closed"}),
    ]


def test_a_platform_that_is_reporter_and_filer_gets_one_message_and_questions_as_each(ledger: LedgerPart) -> None:
    person, rt = somebody(), ledger.rt
    report, read = ledger.report(ledger.acme, person), Reading(ledger)
    case = contest(ledger, person, report, through="acme")
    staff_actions.take(rt.context, case, ANNA)
    staff_actions.ask_subject(rt.context, case, ANNA, "What came?")
    assert read.received() == [
        ("acme", "appeal.opened reporter", {"appeal": case, "report": report["id"], "state": "submitted"}),
        ("acme", "appeal.question_asked filer", {"appeal": case, "state": "awaiting_subject", "party": "subject"}),
    ]


def test_a_report_that_falls_with_another_is_voided_for_its_reporter_too(ledger: LedgerPart) -> None:
    reports = [ledger.report(ledger.acme, somebody(), order=f"F-{number}") for number in range(2)]
    linked = farm(ledger, [report["id"] for report in reports], somebody(), order="F-farm")
    read = Reading(ledger)
    ledger.withdraw(ledger.acme, reports[0]["id"])
    voided = {"report": linked["id"], "reason": "linked_report_void"}
    assert read.received() == [("acme", "report.voided reporter", voided)], "what it took back itself it knows"


def test_a_subscription_to_decisions_gets_what_earlier_versions_sent_as_such(ledger: LedgerPart) -> None:
    person = somebody()
    report = ledger.report(ledger.acme, person)
    case = contest(ledger, person, report)
    both = endpoint(ledger, ledger.bolt, "appeal.decided", "appeal.ended")
    only, other = endpoint(ledger, ledger.bolt, "appeal.decided"), endpoint(ledger, ledger.bolt, "appeal.opened")
    read = Reading(ledger)
    consumer.withdraw(ledger.rt.context, session_of(ledger, person), case)
    assert [name for _, name, _ in read.received()] == ["appeal.ended reporter", "appeal.ended filer"]
    listed = {
        endpoint_id: endpoints.deliveries(ledger.rt.webhooks, ledger.bolt.member(), endpoint_id, 100, None)["data"]
        for endpoint_id in (both, only, other)
    }
    assert {endpoint_id: [row["type"] for row in rows] for endpoint_id, rows in listed.items()} == {
        both: ["appeal.ended"],
        only: ["appeal.ended"],
        other: [],
    }
    for endpoint_id in listed:
        endpoints.delete(ledger.rt.webhooks, ledger.bolt.member(), endpoint_id)


def test_a_payload_that_is_not_its_rows_stops_the_transaction(ledger: LedgerPart) -> None:
    """A wrong payload raises where it is written, also while no platform subscribes."""
    read = Reading(ledger)
    with pytest.raises(ValueError, match=r"has the members"), changing(ledger.rt.context) as batch:
        batch.notify("acme2", WebhookType.APPEAL_OPENED, Recipient.FILER, appeal="ap_abcdefgh", report="rp_abcdefgh")
    assert read.received() == []

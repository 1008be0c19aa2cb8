"""The SDK and what an order remembers: a correction waits for the end of an appeal; orders are found by number."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import pytest

from ledger.protocol.encoding import b64url
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.rules.reports import former_order_ref, order_ref
from ledger.server.appeals import staff_actions
from ledger.server.context import Context
from tests.kit import Connect, person, report_arguments, reports_of

ANNA = Staff(1, "reviewer")


def test_a_correction_of_a_contested_report_waits_in_the_outbox(connect: Connect, reviewers: Context) -> None:
    acme, bazaar = connect("acme"), connect("bazaar")
    who, order = person(), secrets.token_hex(8)
    first = acme.reports.create(acme.tag(**who), **report_arguments(order=order)).report
    assert first is not None
    (case,) = bazaar.appeals.open([first.id], "wrong_facts", "I sent it back.", "en", bazaar.tag(**who))
    correction = report_arguments(order=order, replaces=first.id, notice_sent_at=datetime.now(UTC))
    waits = acme.reports.create(acme.tag(**who), **correction)
    assert (waits.state, waits.error and waits.error.code) == ("parked", "report_disputed")
    assert waits.retry_at is not None
    assert acme.outbox.flush() == [], "it is not due"
    assert [delivery.state for delivery in acme.outbox.flush(parked=True)] == ["parked"]
    staff_actions.take(reviewers, case.id, ANNA)
    staff_actions.decide(reviewers, case.id, ANNA, Outcome.OVERTURNED, "It was looked into.")
    (over,) = acme.outbox.flush(parked=True)
    assert (over.state, over.error and over.error.code) == ("refused", "order_decided")
    assert over.error is not None
    assert over.error.details["case"] == case.id


def test_an_order_is_found_however_its_number_is_written(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    acme = connect("acme")
    number = secrets.token_hex(8)
    sent = acme.reports.create(acme.tag(**person()), **report_arguments(order=f"\ufeff {number}\u3000")).report
    assert sent is not None
    for spelling in (number, f"{number} ", f"\u200b{number}"):
        assert reports_of(acme, spelling) == [sent.id]
    # A report of an earlier version, whose order number was hashed as it was typed.
    old = f"{secrets.token_hex(8)} "
    key = acme._session.order_key()
    assert former_order_ref(key, old) not in (None, order_ref(key, old))
    monkeypatch.setattr("ledger.client.reports.building.core_reports.order_ref", former_order_ref)
    former = acme.reports.create(acme.tag(**person()), **report_arguments(order=old)).report
    monkeypatch.undo()
    assert former is not None
    assert acme.reports.get(former.id).order_ref == b64url(former_order_ref(key, old) or b"")
    assert reports_of(acme, old) == [former.id]

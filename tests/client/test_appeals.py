"""The SDK in appeals, against a real server: the customer's platform, the reporter, and a reviewer between them."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger.client import Evidence, Lookup, Query, RefundLedger, evidence
from ledger.client.models.appeals import parse_appeal
from ledger.errors import (
    ActionRefused,
    AttachmentRefused,
    CaseExists,
    ConfigurationError,
    ConflictOfInterest,
    IdempotencyMismatch,
    InvalidRequest,
    NotFound,
    ScopeMissing,
    Unavailable,
    UnexpectedAnswer,
)
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.server.appeals import staff_actions
from ledger.server.context import Context
from tests.faulty import free_port
from tests.kit import Connect, person, report_arguments
from tests.support import CONSENT

ANNA = Staff(1, "reviewer")


def reported(ledger: RefundLedger, who: dict[str, str], proof: list[Evidence] | None = None) -> str:
    """The id of a new report about the person."""
    changes = {} if proof is None else {"evidence": proof}
    sent = ledger.reports.create(ledger.tag(**who), **report_arguments(**changes))
    assert sent.report is not None
    return sent.report.id


def test_a_case_from_filing_to_its_letter(connect: Connect, reviewers: Context, tmp_path: Path) -> None:
    acme, bazaar, who = connect("acme"), connect("bazaar"), person()
    record = tmp_path / "carrier.txt"
    record.write_text(f"The carrier never had {secrets.token_hex(4)}.\n")
    digest = hashlib.sha256(record.read_bytes()).digest()
    report = reported(acme, who, [evidence("carrier_record", sha256=digest)])
    (filed,) = bazaar.appeals.open([report], "wrong_facts", "I sent it back.", "en", bazaar.tag(**who))
    assert (filed.report, filed.state, filed.group) == (report, "submitted", filed.id)
    assert timedelta(days=19) < filed.due_at - datetime.now(UTC) < timedelta(days=22)

    contested = acme.reports.get(report).appeal
    assert contested is not None
    assert (contested.id, contested.state, contested.outcome) == (filed.id, "submitted", None)
    assert contested.due_at == filed.due_at

    staff_actions.take(reviewers, filed.id, ANNA)
    staff_actions.ask_reporter(reviewers, filed.id, ANNA, "Please send the carrier's record.")
    waiting = acme.appeals.list(role="reported", state="awaiting_reporter", limit=1)
    assert waiting.appeals[0].id == filed.id
    seen = acme.appeals.get(filed.id)
    assert (seen.party, seen.question and seen.question.text) == ("reporter", "Please send the carrier's record.")
    assert waiting.appeals[0].answer_due_at == (seen.question and seen.question.due_at)
    kept = acme.appeals.attach(filed.id, "reporter", record)
    assert (kept.name, kept.evidence_index, kept.party) == ("carrier.txt", 0, "reporter")
    assert acme.appeals.attach(filed.id, "reporter", record, 0) == kept, "the same bytes are one file"
    answered = acme.appeals.answer(filed.id, "reporter", "It is attached.")
    assert (answered.state, answered.question, answered.attachments) == ("under_review", None, (kept,))
    assert bazaar.appeals.read_attachment(filed.id, kept.id) == record.read_bytes()

    staff_actions.decide(reviewers, filed.id, ANNA, Outcome.UNCONFIRMED, "It cannot be shown.")
    decided = bazaar.appeals.get(filed.id)
    assert decided.decision is not None
    assert (decided.decision.outcome, decided.decision.reasons) == ("unconfirmed", "It cannot be shown.")
    assert [event.action for event in decided.timeline][-1] == "decide"
    assert bazaar.appeals.list_letters(filed.id) == ("received", "decided")
    letter = bazaar.appeals.get_letter(filed.id, "decided")
    assert letter.locale == "en"
    assert "It cannot be shown." in letter.text
    assert bazaar.appeals.get_letter(filed.id, "decided", "zh-CN").locale == "zh-CN"
    reopened = bazaar.appeals.reopen(filed.id, "I have new proof.")
    assert (reopened.round, reopened.state) == (2, "submitted")
    assert bazaar.appeals.list_letters(filed.id) == ("received",)
    assert [(letter.round, letter.kind) for letter in bazaar.appeals.list_earlier_letters(filed.id)] == [
        (1, "received"),
        (1, "decided"),
    ]
    for earlier in (
        bazaar.appeals.get_letter(filed.id, "decided"),
        bazaar.appeals.get_letter(filed.id, "decided", round=1),
    ):
        assert earlier.text == letter.text
    assert (
        bazaar.appeals.get_letter(filed.id, "received", round=1).text
        != bazaar.appeals.get_letter(filed.id, "received").text
    )
    assert bazaar.appeals.withdraw(filed.id).state == "withdrawn"


def test_refusals_have_their_names(connect: Connect, tmp_path: Path) -> None:
    acme, bazaar, who = connect("acme"), connect("bazaar"), person()
    report, buyer = reported(acme, who), bazaar.tag(**who)
    with pytest.raises(NotFound):
        bazaar.appeals.open([report], "other", "Not mine.", "en", bazaar.tag(**person()))
    (filed,) = bazaar.appeals.open([report], "other", "Not mine.", "en", buyer)
    with pytest.raises(CaseExists) as there:
        bazaar.appeals.open([report], "other", "Again.", "en", buyer)
    assert there.value.details["case"] == filed.id
    with pytest.raises(ActionRefused):
        bazaar.appeals.reopen(filed.id, "Now?")
    for read in (
        acme.appeals.list_letters,
        lambda case: acme.appeals.get_letter(case, "received"),
        connect("corner").appeals.get,
    ):
        with pytest.raises(NotFound):
            read(filed.id)
    with pytest.raises(ScopeMissing):
        connect("asker").appeals.get(filed.id)
    page = tmp_path / "page.html"
    page.write_text("<html></html>")
    with pytest.raises(AttachmentRefused) as refused:
        bazaar.appeals.attach(filed.id, "subject", page)
    assert refused.value.details["reason"] == "markup"
    with pytest.raises(ConfigurationError):
        bazaar.appeals.attach(filed.id, "subject", tmp_path / "missing.txt")
    own = reported(acme, who)
    for own_buyer in (None, acme.tag(**who)):
        with pytest.raises(ConflictOfInterest):
            acme.appeals.open([own], "other", "For our customer.", "en", own_buyer)
    assert acme.appeals.get(filed.id, "reporter").suspends


@pytest.mark.parametrize("odd", ["", "rp_Xk3mPq9a", "ap_", "ap_../../suite", "ap_x?party=subject", "ap_x\n"])
def test_odd_ids_never_become_paths(connect: Connect, odd: str) -> None:
    bazaar = connect("bazaar")
    for call in (bazaar.appeals.get, bazaar.appeals.list_letters, bazaar.appeals.withdraw):
        with pytest.raises(InvalidRequest):
            call(odd)
    for read in (
        lambda: bazaar.appeals.get_letter("ap_Xk3mPq9a", "../x"),  # type: ignore[arg-type]
        lambda: bazaar.statements(odd),
    ):
        with pytest.raises(InvalidRequest):
            read()


def test_a_key_of_ones_own_makes_it_happen_once(connect: Connect) -> None:
    acme, bazaar, who = connect("acme"), connect("bazaar"), person()
    report, buyer, key = reported(acme, who), bazaar.tag(**who), secrets.token_hex(8)
    first = bazaar.appeals.open([report], "not_me", "It was not me.", "zh-CN", buyer, idempotency_key=key)
    assert bazaar.appeals.open([report], "not_me", "It was not me.", "zh-CN", buyer, idempotency_key=key) == first
    with pytest.raises(IdempotencyMismatch):
        bazaar.appeals.open([report], "not_me", "It was me.", "zh-CN", buyer, idempotency_key=key)


def test_a_link_and_its_secret(connect: Connect) -> None:
    bazaar = connect("bazaar")
    link = bazaar.appeals.open_record(bazaar.tag(**person()), "zh-CN")
    assert "/me#" in link.url
    assert link.url not in repr(link)
    assert timedelta(0) < link.expires_at - datetime.now(UTC) < timedelta(minutes=11)


def test_statements_of_a_lookup(connect: Connect) -> None:
    acme, bazaar, who = connect("acme"), connect("bazaar"), person()
    reported(acme, who)
    (outcome,) = bazaar.lookup_many([Query(bazaar.tag(**who), secrets.token_hex(4), consent_ref=CONSENT)])
    assert isinstance(outcome, Lookup)
    assert outcome.id is not None
    assert bazaar.statements(outcome) == bazaar.statements(outcome.id) == ()
    with pytest.raises(NotFound):
        acme.statements(outcome)


def test_an_outage_is_the_callers_to_see(connect: Connect) -> None:
    away = connect("bazaar", f"http://127.0.0.1:{free_port()}", budget_seconds=0.2)
    with pytest.raises(Unavailable):
        away.appeals.open(["rp_Xk3mPq9a"], "other", "x")
    assert away.outbox.list() == [], "an appeal that waits on a disk would not be filed"


def test_what_is_no_case_is_refused() -> None:
    state: dict[str, Any] = {
        "id": "ap_Xk3mPq9a",
        "state": "submitted",
        "opened_at": "2026-02-03T09:00:00Z",
        "due_at": "2026-02-23T16:00:00Z",
        "overdue": False,
    }
    assert parse_appeal(state).party is None
    changed = [{**state, **change} for change in ({"overdue": "no"}, {"due_at": "soon"}, {"party": "subject"})]
    for broken in (None, {}, *changed):
        with pytest.raises(UnexpectedAnswer):
            parse_appeal(broken)

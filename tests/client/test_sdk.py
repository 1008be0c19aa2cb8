"""The SDK against a real server over HTTP: the main job, and the errors a platform will meet."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

import pytest

from ledger.client import Lookup, Query, Refund, SubjectIds, buyers
from ledger.errors import (
    AlreadyExpired,
    AlreadyReversed,
    ConsentMissing,
    EvidenceInsufficient,
    InvalidPhone,
    InvalidReport,
    InvalidRequest,
    LedgerError,
    NotFound,
    OrderAlreadyReported,
    RestitutionInvalid,
    ScopeMissing,
    StaleEpoch,
    SubjectsInvalid,
)
from ledger.rules.appeals import CaseState, Grounds
from ledger.rules.guidance import Claim
from ledger.rules.reports import RefundOutcome
from ledger.tlog.entries import WithdrawalReason
from tests.kit import Connect, person, report_arguments, reports_of
from tests.support import CONSENT


def test_report_look_up_prove_and_take_back(connect: Connect) -> None:
    acme, bazaar = connect("acme"), connect("bazaar")
    who = person()
    buyer = bazaar.tag(**who)
    refund = Refund(12_900, "CNY", "damaged")
    before = bazaar.lookup(buyer, order="B-1", consent_ref=CONSENT, refund=refund)
    assert (before.tier, before.credit, before.guidance, before.events) == ("clear", 100, ("approve",), 0)

    order = secrets.token_hex(8)
    sent = acme.reports.create(acme.tag(**who), **report_arguments(order=order))
    assert sent.state == "accepted"
    assert sent.report is not None
    assert sent.report.status == "counting"

    seen = sent.report.entry_index + 1
    after = bazaar.lookup(buyer, order="B-1", consent_ref=CONSENT, refund=refund, min_index=seen)
    assert (after.tier, after.events, after.reporters) == ("watch", 1, 1)
    assert set(after.matched_kinds) == {"phone", "payment"}
    assert after.guidance == ("live_reshoot",)
    assert all(reason.en and reason.zh_cn for reason in after.reasons)
    assert after.as_of_index is not None
    assert after.as_of_index > sent.report.entry_index
    assert after.expires_at is not None
    assert after.as_of is not None
    assert after.expires_at - after.as_of == timedelta(minutes=15)

    by_tags = bazaar.lookup(
        type(buyer).from_tags(buyer.epoch, buyer.tags()), order="B-1", consent_ref=CONSENT, min_index=seen
    )
    assert (by_tags.tier, by_tags.points) == (after.tier, after.points)
    assert bazaar.lookup(who, order="B-1", consent_ref=CONSENT, min_index=seen).tier == "watch", (
        "raw identifiers are blinded on the way"
    )

    verified = acme.reports.receipt(sent.report)
    assert verified.receipt.index == sent.report.entry_index
    assert verified.receipt.entry["body"]["conduct"] == "fake_return_tracking"
    assert acme.reports.receipt(sent.report.id).receipt.entry == verified.receipt.entry

    view = acme.reports.get(sent.report.id)
    assert (view.status, view.amount_minor, view.withdrawal_reason) == ("counting", 12_900, None)
    assert reports_of(acme, order) == [sent.report.id]
    with pytest.raises(NotFound):
        bazaar.reports.get(sent.report.id)

    paid = acme.reports.restitute(sent.report.id, datetime.now(UTC), 12_900, "CNY")
    assert paid.report is not None
    assert paid.report.restituted_at is not None
    halved = bazaar.lookup(buyer, order="B-1", consent_ref=CONSENT)
    assert (halved.points or 0) < (after.points or 0)

    gone = acme.reports.withdraw(sent.report.id, "wrong_person")
    assert gone.report is not None
    assert (gone.report.status, gone.report.withdrawal_reason) == ("withdrawn", "wrong_person")
    assert bazaar.lookup(buyer, order="B-1", consent_ref=CONSENT).tier == "clear"
    with pytest.raises(AlreadyReversed):
        acme.reports.withdraw(sent.report.id, "other")
    assert [item.operation for item in acme.outbox.list("refused")] == ["withdraw"]
    assert acme.outbox.list("pending") == []


def test_what_the_rules_refuse_is_refused_before_it_is_sent(connect: Connect) -> None:
    acme = connect("acme", url="http://127.0.0.1:1")  # nothing listens there
    live = connect("acme", state_dir=None)
    buyer = live.tag(**person())
    cases: list[tuple[dict[str, object], type[LedgerError]]] = [
        ({"conduct": "ai_fabricated_image"}, EvidenceInsufficient),
        ({"conduct": "murder"}, InvalidReport),
        ({"consent_ref": None}, ConsentMissing),
        ({"currency": "XXZ"}, InvalidReport),
        ({"amount_minor": -1}, InvalidReport),
        ({"order": ""}, InvalidReport),
        ({"act_ended_at": datetime.now(UTC) - timedelta(days=400)}, AlreadyExpired),
    ]
    for changes, error in cases:
        with pytest.raises(error):
            acme.reports.create(buyer, **report_arguments(**changes))
    tagged = type(buyer)(buyer.epoch, tuple(SubjectIds(subject.kind, subject.tag) for subject in buyer.subjects))
    with pytest.raises(SubjectsInvalid):
        acme.reports.create(tagged, **report_arguments())
    with pytest.raises(StaleEpoch):
        acme.reports.create(type(buyer)(9, buyer.subjects), **report_arguments())
    assert acme.outbox.list() == []


def test_what_the_ledger_refuses_is_raised_by_name_and_kept(connect: Connect) -> None:
    acme = connect()
    who, order = person(), secrets.token_hex(8)
    first = acme.reports.create(acme.tag(**who), **report_arguments(order=order))
    assert first.report is not None
    with pytest.raises(OrderAlreadyReported) as refused:
        acme.reports.create(acme.tag(**who), **report_arguments(order=order))
    assert refused.value.details["report"] == first.report.id
    item = acme.outbox.list()[0]
    assert (item.state, item.error and item.error["code"]) == ("refused", "order_already_reported")
    acme.outbox.retry(item.idempotency_key)
    assert [delivery.state for delivery in acme.outbox.flush()] == ["refused"]
    acme.outbox.discard(item.idempotency_key)
    assert acme.outbox.list() == []
    with pytest.raises(RestitutionInvalid):
        acme.reports.restitute(first.report.id, datetime.now(UTC), 1, "CNY")
    correction = report_arguments(order=order, replaces=first.report.id, notice_sent_at=datetime.now(UTC))
    corrected = acme.reports.create(acme.tag(**who), **correction)
    assert corrected.report is not None
    assert acme.reports.get(first.report.id).replaced_by == corrected.report.id


def test_a_batch_with_a_bad_report_leaves_the_others(connect: Connect) -> None:
    acme = connect()
    people = acme.tag_many([person() for _ in range(4)])
    order = secrets.token_hex(8)
    results = acme.reports.create_many(
        [
            (people[0], report_arguments()),
            (people[1], report_arguments(conduct="edited_image")),  # refused here
            (people[2], report_arguments(order=order)),
            (people[3], report_arguments(order=order)),  # refused by the ledger
        ]
    )
    assert [result.state for result in results] == ["accepted", "refused", "accepted", "refused"]
    assert [result.error.code for result in results if result.error] == [
        "evidence_insufficient",
        "order_already_reported",
    ]
    assert [item.state for item in acme.outbox.list()] == ["refused"]
    for result in results:
        if result.report is not None:
            assert acme.reports.receipt(result.report).receipt.index == result.report.entry_index


def test_many_lookups_each_get_their_own_answer(connect: Connect) -> None:
    acme = connect()
    known, unknown = buyers(acme.tag_many([person(), person()]))
    sent = acme.reports.create(known, **report_arguments()).report
    assert sent is not None
    seen = sent.entry_index + 1
    queries = [
        Query(known, "A", min_index=seen, consent_ref=CONSENT),
        Query(unknown, "B", consent_ref=CONSENT),
        Query(known, "C", purpose="curiosity", consent_ref=CONSENT),  # type: ignore[arg-type]
        Query(known, "D", min_index=seen, consent_ref=CONSENT),
    ]
    outcomes = acme.lookup_many(queries)
    assert [outcome.tier if isinstance(outcome, Lookup) else outcome.code for outcome in outcomes] == [
        "watch",
        "clear",
        "invalid_request",
        "watch",
    ]


def test_reports_are_paged_newest_first(connect: Connect) -> None:
    corner = connect("corner")
    sent = [corner.reports.create(corner.tag(**person()), **report_arguments()).report for _ in range(3)]
    ids = [report.id for report in sent if report is not None]
    page = corner.reports.list(limit=2)
    assert page.has_more
    rest = corner.reports.list(limit=2, starting_after=page.reports[-1].id)
    assert [view.id for view in (*page.reports, *rest.reports)][:3] == ids[::-1]


def test_scopes_are_enforced_and_can_be_narrowed(connect: Connect) -> None:
    asker = connect("asker")
    buyer = asker.tag(**person())
    assert asker.lookup(buyer, order="1", consent_ref=CONSENT).tier == "clear"
    with pytest.raises(ScopeMissing):
        asker.reports.create(buyer, **report_arguments())
    assert [item.state for item in asker.outbox.list()] == ["pending"], "a missing scope says nothing about the report"
    narrowed = connect("acme", scopes=["report"])
    with pytest.raises(ScopeMissing):
        narrowed.lookup(buyer, order="1", consent_ref=CONSENT)


def test_wrong_arguments_raise_even_on_the_refund_path(connect: Connect) -> None:
    acme = connect()
    with pytest.raises(InvalidPhone):
        acme.lookup({"phone": "12"}, order="1", consent_ref=CONSENT)
    with pytest.raises(InvalidRequest):
        acme.lookup(acme.tag(**person()), order="1", consent_ref=CONSENT, purpose="curiosity")  # type: ignore[arg-type]
    for wrong in ("../healthz", "rp_", "rp_a/b", ""):
        with pytest.raises(InvalidRequest):
            acme.reports.get(wrong)


def test_members_of_enums_are_arguments_as_their_texts_are(connect: Connect) -> None:
    acme = connect("acme")
    who = person()
    refunds = Refund(12_900, "CNY", Claim.DAMAGED), Refund(12_900, "CNY", "damaged")
    queries = [Query(acme.tag(**who), "A-1", refund, consent_ref=CONSENT) for refund in refunds]
    by_member, by_text = acme.lookup_many(queries)
    assert isinstance(by_member, Lookup)
    assert isinstance(by_text, Lookup)
    assert by_member.guidance == by_text.guidance
    sent = acme.reports.create(acme.tag(**who), **report_arguments(outcome=RefundOutcome.REFUND_REFUSED))
    assert sent.report is not None
    assert acme.reports.get(sent.report.id).outcome == "refund_refused"
    (case,) = acme.appeals.open(
        [create_for_other(connect, who)], Grounds.NOT_ME, "It was my brother.", "en", acme.tag(**who)
    )
    assert case.id in [listed.id for listed in acme.appeals.list(role="filed", state=CaseState(case.state)).appeals]
    acme.reports.withdraw(sent.report.id, WithdrawalReason.WRONG_FACTS)
    assert acme.reports.get(sent.report.id).withdrawal_reason == "wrong_facts"


def create_for_other(connect: Connect, who: dict[str, str]) -> str:
    """Make a report of another platform about this person, and return its id."""
    bazaar = connect("bazaar")
    sent = bazaar.reports.create(bazaar.tag(**who), **report_arguments())
    assert sent.report is not None
    return sent.report.id

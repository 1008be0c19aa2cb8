"""Reports against the database: who may do what to which report, once, and what each leaves behind."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from ledger.errors import (
    AlreadyRestituted,
    AlreadyReversed,
    CommitmentMismatch,
    IdempotencyMismatch,
    IdentityPoint,
    InvalidEncoding,
    InvalidPoint,
    InvalidRequest,
    InvalidSignature,
    LedgerError,
    NotFound,
    OrderAlreadyReported,
    ReplacementInvalid,
    RestitutionInvalid,
    StaleEpoch,
    SubjectsInvalid,
)
from ledger.protocol.encoding import b64url, format_time
from ledger.protocol.identifiers import Kind
from ledger.server.db.engine import reading
from ledger.server.db.tables.log import LogEntry
from ledger.server.db.tables.reports import Listing, Report
from ledger.server.platforms.members import revoke_key
from ledger.server.records.idempotency import StoredResponse
from ledger.server.reports.reports import get_report, list_reports, submit_report, submit_reports, withdraw_report
from tests.server.conftest import LedgerFixture
from tests.support import evidence, report_payload

pytestmark = pytest.mark.one_engine


def count(ledger: LedgerFixture, table: Any) -> int:
    with reading(ledger.rt.engine) as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def refusal(outcome: Future[StoredResponse] | LedgerError) -> type[BaseException] | None:
    if isinstance(outcome, LedgerError):
        return type(outcome)
    error = outcome.exception(60)
    return None if error is None else type(error)


# --- what a report must be by itself --------------------------------------------------------------------------


def refused(ledger: LedgerFixture, payload: dict[str, Any]) -> type[LedgerError] | None:
    """The error with which acme's report is refused at once, under the idempotency key `k`; None if it is taken."""
    try:
        accepted = submit_report(ledger.rt.reports, ledger.acme.member(), payload, "k")
    except LedgerError as error:
        return type(error)
    assert accepted.result(10).status == 201
    return None


def test_a_report_must_be_addressed_right(ledger: LedgerFixture) -> None:
    expected: list[tuple[dict[str, Any], type[LedgerError]]] = [
        ({"service": "elsewhere.example"}, InvalidRequest),
        ({"platform": "bolt"}, InvalidRequest),
        ({"epoch": 2}, StaleEpoch),
        ({"kid": "bolt-1"}, InvalidSignature),
        ({"kid": "nobody-1"}, InvalidSignature),
    ]
    for change, error in expected:
        assert refused(ledger, report_payload(ledger.rt, ledger.acme, ledger.person(), **change)) is error, change
    assert count(ledger, Report) == 0
    assert refused(ledger, report_payload(ledger.rt, ledger.acme, ledger.person())) is None


def test_a_changed_body_breaks_the_signature(ledger: LedgerFixture) -> None:
    payload = report_payload(ledger.rt, ledger.acme, ledger.person())
    payload["body"]["amount_minor"] += 1
    with pytest.raises(InvalidSignature):
        submit_report(ledger.rt.reports, ledger.acme.member(), payload, "k")


def test_a_revoked_key_signs_nothing(ledger: LedgerFixture) -> None:
    payload = report_payload(ledger.rt, ledger.acme, ledger.person())
    revoke_key(ledger.rt.engine, kid=ledger.acme.kid, now=ledger.clock())
    ledger.rt.members.refresh()
    with pytest.raises(InvalidSignature):
        submit_report(ledger.rt.reports, ledger.acme.member(), payload, "k")


def other_element(subject: dict[str, Any], ledger: LedgerFixture) -> None:
    subject["element"] = b64url(ledger.person(7)[0][1])


def other_salt(subject: dict[str, Any], _ledger: LedgerFixture) -> None:
    subject["salt"] = b64url(b"s" * 32)


def other_kind(subject: dict[str, Any], _ledger: LedgerFixture) -> None:
    subject["kind"] = "email"


def identity(subject: dict[str, Any], _ledger: LedgerFixture) -> None:
    subject["element"] = b64url(bytes(32))


def not_a_point(subject: dict[str, Any], _ledger: LedgerFixture) -> None:
    subject["element"] = b64url(b"\xff" * 32)


def truncated(subject: dict[str, Any], _ledger: LedgerFixture) -> None:
    subject["element"] = subject["element"][:-2]


def test_subjects_must_open_what_was_signed(ledger: LedgerFixture) -> None:
    expected: list[tuple[Any, type[LedgerError]]] = [
        (other_element, CommitmentMismatch),
        (other_salt, CommitmentMismatch),
        (other_kind, SubjectsInvalid),
        (identity, IdentityPoint),
        (not_a_point, InvalidPoint),
        (truncated, InvalidEncoding),
    ]
    for tamper, error in expected:
        payload = report_payload(ledger.rt, ledger.acme, ledger.person())
        tamper(payload["subjects"][0], ledger)
        assert refused(ledger, payload) is error, tamper
    assert refused(ledger, report_payload(ledger.rt, ledger.acme, ledger.person())) is None


def test_subjects_must_be_as_many_and_all_different(ledger: LedgerFixture) -> None:
    payload = report_payload(ledger.rt, ledger.acme, ledger.person())
    payload["subjects"].pop()
    with pytest.raises(SubjectsInvalid):
        submit_report(ledger.rt.reports, ledger.acme.member(), payload, "k")
    phone = ledger.person()[0]
    with pytest.raises(SubjectsInvalid):  # under two salts the same phone looks like two commitments
        submit_report(
            ledger.rt.reports, ledger.acme.member(), report_payload(ledger.rt, ledger.acme, [phone, phone]), "k"
        )


# --- orders ---------------------------------------------------------------------------------------------------


@pytest.mark.both_engines
def test_one_live_report_an_order_and_control_group(ledger: LedgerFixture) -> None:
    first = ledger.report(ledger.acme, ledger.person(), order="A-1")
    for platform in (ledger.acme, ledger.acme2):
        with pytest.raises(OrderAlreadyReported) as caught:
            ledger.report(platform, ledger.person(1), order="A-1")
        assert caught.value.details["report"] == first["id"]
    ledger.report(ledger.bolt, ledger.person(), order="A-1")
    ledger.withdraw(ledger.acme, first["id"])
    ledger.report(ledger.acme2, ledger.person(), order="A-1", **ledger.told_now())


@pytest.mark.both_engines
def test_of_many_reports_of_one_order_at_once_one_wins(ledger: LedgerFixture) -> None:
    items = [
        {"idempotency_key": f"k{n}", **report_payload(ledger.rt, ledger.acme, ledger.person(), order="A-1")}
        for n in range(8)
    ]
    outcomes = [refusal(one) for one in submit_reports(ledger.rt.reports, ledger.acme.member(), items)]
    assert sorted(str(one) for one in outcomes) == sorted(str(one) for one in [None, *[OrderAlreadyReported] * 7])
    assert count(ledger, Report) == 1


def test_a_bad_report_of_a_batch_does_not_touch_the_others(ledger: LedgerFixture) -> None:
    payloads = [report_payload(ledger.rt, ledger.acme, ledger.person(n)) for n in range(4)]
    payloads[1]["signature"] = payloads[2]["signature"]
    payloads[3]["body"]["evidence"] = []
    items = [{"idempotency_key": f"k{n}", **payload} for n, payload in enumerate(payloads)]
    outcomes = submit_reports(ledger.rt.reports, ledger.acme.member(), items)
    assert refusal(outcomes[0]) is None
    assert refusal(outcomes[1]) is InvalidSignature
    assert refusal(outcomes[2]) is None
    assert refusal(outcomes[3]) is not None
    assert count(ledger, Report) == 2


# --- idempotency ----------------------------------------------------------------------------------------------


def test_the_same_request_gets_the_same_answer_once(ledger: LedgerFixture) -> None:
    payload = report_payload(ledger.rt, ledger.acme, ledger.person())
    first = submit_report(ledger.rt.reports, ledger.acme.member(), payload, "k").result(60)
    again = submit_report(ledger.rt.reports, ledger.acme.member(), payload, "k").result(60)
    assert (again.status, again.body, again.replayed) == (first.status, first.body, True)
    assert not first.replayed
    assert count(ledger, Report) == 1


@pytest.mark.both_engines
def test_the_same_request_at_once_is_recorded_once(ledger: LedgerFixture) -> None:
    payload = report_payload(ledger.rt, ledger.acme, ledger.person())
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: submit_report(ledger.rt.reports, ledger.acme.member(), payload, "k").result(60), range(16)
            )
        )
    assert len({answer.body for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert count(ledger, Report) == 1


def test_a_key_belongs_to_one_request_of_one_platform(ledger: LedgerFixture) -> None:
    report = ledger.report(ledger.acme, ledger.person(), key="k")
    with pytest.raises(IdempotencyMismatch):
        ledger.report(ledger.acme, ledger.person(1), key="k")
    with pytest.raises(IdempotencyMismatch):
        withdraw_report(ledger.rt.reports, ledger.acme.member(), report["id"], "other", "k").result(60)
    ledger.report(ledger.bolt, ledger.person(1), key="k")


@pytest.mark.both_engines
def test_a_key_is_free_again_after_a_day(ledger: LedgerFixture) -> None:
    ledger.report(ledger.acme, ledger.person(), key="k")
    ledger.clock.moment += timedelta(hours=23)
    with pytest.raises(IdempotencyMismatch):
        ledger.report(ledger.acme, ledger.person(1), key="k")
    ledger.clock.moment += timedelta(hours=2)
    ledger.report(ledger.acme, ledger.person(1), key="k")


def test_a_refusal_is_not_remembered(ledger: LedgerFixture) -> None:
    first = ledger.report(ledger.acme, ledger.person(), order="A-1")
    payload = report_payload(ledger.rt, ledger.acme, ledger.person(), order="A-1", **ledger.told_now())
    assert refusal(submit_report(ledger.rt.reports, ledger.acme.member(), payload, "k")) is OrderAlreadyReported
    ledger.withdraw(ledger.acme, first["id"])
    assert submit_report(ledger.rt.reports, ledger.acme.member(), payload, "k").result(60).status == 201


# --- withdrawal -----------------------------------------------------------------------------------------------


def test_a_withdrawn_report_is_gone_from_lookups_and_stays_in_the_log(ledger: LedgerFixture) -> None:
    report = ledger.report(ledger.acme, ledger.person())
    assert ledger.lookup(ledger.person())["tier"] == "watch"
    entries = count(ledger, LogEntry)
    view = ledger.withdraw(ledger.acme, report["id"], reason="wrong_person")
    assert (view["status"], view["withdrawal"]["reason"]) == ("withdrawn", "wrong_person")
    assert view["withdrawal"]["entry_index"] == entries
    assert count(ledger, LogEntry) == entries + 1
    assert ledger.lookup(ledger.person())["tier"] == "clear"
    assert get_report(ledger.rt.context, ledger.acme.member(), report["id"]) == view


def test_only_the_reporter_withdraws_and_only_once(ledger: LedgerFixture) -> None:
    report = ledger.report(ledger.acme, ledger.person())
    for platform in (ledger.bolt, ledger.acme2):
        with pytest.raises(NotFound):
            ledger.withdraw(platform, report["id"])
    ledger.withdraw(ledger.acme, report["id"], key="one")
    with pytest.raises(AlreadyReversed):
        ledger.withdraw(ledger.acme, report["id"], key="two")


@pytest.mark.both_engines
def test_of_many_withdrawals_at_once_one_wins(ledger: LedgerFixture) -> None:
    report = ledger.report(ledger.acme, ledger.person())
    futures = [
        withdraw_report(ledger.rt.reports, ledger.acme.member(), report["id"], "other", f"k{n}") for n in range(10)
    ]
    assert sorted(str(refusal(one)) for one in futures) == sorted(["None"] + [str(AlreadyReversed)] * 9)


def test_reasons_are_a_closed_list(ledger: LedgerFixture) -> None:
    report = ledger.report(ledger.acme, ledger.person())
    for reason in ("", "linked_report_void", "not_released", "because"):
        with pytest.raises(InvalidRequest):
            ledger.withdraw(ledger.acme, report["id"], reason=reason)
    ledger.withdraw(ledger.acme, report["id"], reason="wrong_person")


def test_report_withdraw_report_of_one_order_in_one_batch(ledger: LedgerFixture) -> None:
    first = ledger.report(ledger.acme, ledger.person(), order="A-1")
    told = ledger.told_now()
    payloads = [report_payload(ledger.rt, ledger.acme, ledger.person(), order="A-1", **told) for _ in range(2)]
    futures = [
        withdraw_report(ledger.rt.reports, ledger.acme.member(), first["id"], "other", "w"),
        submit_report(ledger.rt.reports, ledger.acme.member(), payloads[0], "k0"),
        submit_report(ledger.rt.reports, ledger.acme.member(), payloads[1], "k1"),
    ]
    assert [refusal(one) for one in futures] == [None, None, OrderAlreadyReported]


# --- replacement ----------------------------------------------------------------------------------------------


def test_a_replacement_takes_the_place_of_the_report(ledger: LedgerFixture) -> None:
    first = ledger.report(ledger.acme, ledger.person(), order="A-1")
    second = ledger.report(ledger.acme, ledger.person(), order="A-1", conduct="wardrobing",
                         evidence=evidence("intake_photo", "policy_clause"), replaces=first["id"],
                         **ledger.told_now())  # fmt: skip
    old = get_report(ledger.rt.context, ledger.acme.member(), first["id"])
    new = get_report(ledger.rt.context, ledger.acme.member(), second["id"])
    assert (old["status"], old["replaced_by"], new["replaces"]) == ("withdrawn", second["id"], first["id"])
    assert ledger.lookup(ledger.person())["events"] == 0, "it cools from its own notice"
    ledger.clock.moment += timedelta(days=4)
    assert ledger.lookup(ledger.person())["events"] == 1
    with pytest.raises(ReplacementInvalid):
        ledger.report(ledger.acme, ledger.person(), order="A-1", replaces=first["id"], **ledger.told_now())


def test_a_replacement_needs_a_report_of_its_own(ledger: LedgerFixture) -> None:
    theirs = ledger.report(ledger.bolt, ledger.person())
    for replaced in (theirs["id"], ledger.report(ledger.acme2, ledger.person())["id"]):
        with pytest.raises(ReplacementInvalid):
            ledger.report(ledger.acme, ledger.person(), replaces=replaced)


def test_a_withdrawn_report_may_be_replaced_later(ledger: LedgerFixture) -> None:
    first = ledger.report(ledger.acme, ledger.person(), order="A-1")
    ledger.withdraw(ledger.acme, first["id"])
    second = ledger.report(ledger.acme, ledger.person(), order="A-1", replaces=first["id"], **ledger.told_now())
    assert get_report(ledger.rt.context, ledger.acme.member(), second["id"])["replaces"] == first["id"]


# --- restitution ----------------------------------------------------------------------------------------------


def test_restitution_halves_the_points_once(ledger: LedgerFixture) -> None:
    report = ledger.report(ledger.acme, ledger.person(), conduct="wardrobing",
                         evidence=evidence("intake_photo", "policy_clause"))  # fmt: skip
    before = ledger.lookup(ledger.person())["points"]
    view = ledger.restitute(ledger.acme, report, format_time(ledger.clock()))
    assert view["restitution"]["received_at"] == format_time(ledger.clock())
    assert ledger.lookup(ledger.person())["points"] == pytest.approx(before / 2, abs=0.01)
    with pytest.raises(AlreadyRestituted):
        ledger.restitute(ledger.acme, report, format_time(ledger.clock()), key="again")


def test_restitution_is_of_the_full_amount_in_time(ledger: LedgerFixture) -> None:
    report = ledger.report(ledger.acme, ledger.person())
    refusals: list[tuple[int, dict[str, Any]]] = [
        (0, {"amount_minor": 12_899}), (0, {"amount_minor": 12_901}), (0, {"currency": "USD"}), (1, {}), (-30, {}),
    ]  # fmt: skip
    for days, changes in refusals:
        with pytest.raises(RestitutionInvalid):
            ledger.restitute(ledger.acme, report, format_time(ledger.clock() + timedelta(days=days)), **changes)
    ledger.restitute(ledger.acme, report, format_time(ledger.clock()))


def test_no_restitution_of_what_was_taken_back_or_is_not_yours(ledger: LedgerFixture) -> None:
    report = ledger.report(ledger.acme, ledger.person())
    with pytest.raises(NotFound):
        ledger.restitute(ledger.bolt, report, format_time(ledger.clock()))
    ledger.withdraw(ledger.acme, report["id"])
    with pytest.raises(AlreadyReversed):
        ledger.restitute(ledger.acme, report, format_time(ledger.clock()))


# --- reading --------------------------------------------------------------------------------------------------


def test_a_cooling_report_is_the_reporters_alone_until_it_is_effective(ledger: LedgerFixture) -> None:
    report = ledger.report(ledger.acme, ledger.person(), notice_sent_at=format_time(ledger.clock()))
    assert report["status"] == "cooling"
    assert ledger.lookup(ledger.person())["tier"] == "clear"
    ledger.clock.moment += timedelta(days=4)
    assert get_report(ledger.rt.context, ledger.acme.member(), report["id"])["status"] == "counting"
    assert ledger.lookup(ledger.person())["tier"] == "watch"
    ledger.clock.moment += timedelta(days=400)
    assert get_report(ledger.rt.context, ledger.acme.member(), report["id"])["status"] == "expired"
    assert ledger.lookup(ledger.person())["tier"] == "clear"


@pytest.mark.both_engines
def test_pages_go_back_in_time_and_show_only_ones_own(ledger: LedgerFixture) -> None:
    made = [ledger.report(ledger.acme, ledger.person(), order=f"A-{n}") for n in range(5)]
    ledger.report(ledger.bolt, ledger.person())
    seen: list[str] = []
    after = None
    while True:
        page = list_reports(ledger.rt.context, ledger.acme.member(), 2, after, None)
        seen += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            break
        after = seen[-1]
    assert seen == [one["id"] for one in reversed(made)]
    order = get_report(ledger.rt.context, ledger.acme.member(), made[2]["id"])["order_ref"]
    assert [one["id"] for one in list_reports(ledger.rt.context, ledger.acme.member(), 9, None, order)["data"]] == [
        made[2]["id"]
    ]


def test_others_reports_and_nonsense_are_not_found(ledger: LedgerFixture) -> None:
    report = ledger.report(ledger.acme, ledger.person())
    for report_id in (report["id"], "rp_nonsense", "lk_" + report["id"][3:], ""):
        with pytest.raises(NotFound):
            get_report(ledger.rt.context, ledger.bolt.member(), report_id)


def test_tags_in_the_listing_are_what_lookups_send(ledger: LedgerFixture) -> None:
    ledger.report(ledger.acme, ledger.person())
    assert count(ledger, Listing) == 2
    mislabelled = [(Kind.DEVICE, ledger.person()[0][1])]
    assert ledger.lookup(mislabelled)["tier"] == "clear", "the kind is inside the tag"
